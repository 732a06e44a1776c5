"""What the run plays on: our own database, the sandbox networks, the pages, and workers under the stock command.

Workers are kept alive as a supervisor would: one that ended, for whatever reason, is started again.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psycopg
from cryptography.fernet import Fernet

from postflow import children, config, embedded, logs, migrate
from sandbox import Sandbox

_WORKER = [sys.executable, "-m", "procrastinate", "--app=worker.app.app", "worker"]
_WEB = [sys.executable, "-m", "gunicorn", "--config", "python:web.gunicorn", "--workers", "1"]
_PATIENCE_S = 60


@dataclass
class Stage:
    postgres: embedded.EmbeddedPostgres
    sandbox: Sandbox
    environment: dict[str, str]
    home: Path
    workers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    web: "subprocess.Popen[bytes] | None" = None
    killed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def settings(self) -> config.Settings:
        return config.load(self.environment)

    def connect(self) -> psycopg.Connection:
        """Waits for a database that is just starting."""
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return psycopg.connect(self.postgres.url(), autocommit=True, options="-c timezone=UTC")
            except psycopg.OperationalError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.1)

    def keep_alive(self) -> None:
        """Called by the main thread again and again: children end with the thread that started them."""
        for place, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.workers[place] = self._start(_WORKER, f"worker{place}")
        if self.web and self.web.poll() is not None:
            self.web = self._start(self._web_command(), "web")

    def start(self, workers: int) -> None:
        self.web = self._start(self._web_command(), "web")
        self.workers = [self._start(_WORKER, f"worker{place}") for place in range(workers)]

    def kill_worker(self, place: int) -> None:
        """kill -9, whatever it is doing."""
        worker = self.workers[place % len(self.workers)]
        if worker.poll() is None:
            worker.kill()
            worker.wait()
            self.killed += 1

    def restart_postgres(self, mode: embedded.StopMode) -> None:
        self.postgres.restart(mode)

    def cut_connections(self) -> None:
        """Every session of every worker ends at once, as when a proxy in between restarts."""
        with self.connect() as conn:
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    def end(self) -> None:
        for process in [*self.workers, *([self.web] if self.web else [])]:
            process.send_signal(signal.SIGTERM)
        for process in [*self.workers, *([self.web] if self.web else [])]:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.workers, self.web = [], None

    def _start(self, command: list[str], name: str) -> "subprocess.Popen[bytes]":
        with self._log(name) as log:
            return children.start(
                command, dies_by=signal.SIGKILL, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def _log(self, name: str) -> IO[bytes]:
        return (self.home / f"{name}.log").open("ab")

    def _web_command(self) -> list[str]:
        port = self.environment["POSTFLOW_PUBLIC_URL"].rpartition(":")[2]
        return [*_WEB, "--bind", f"127.0.0.1:{port}", "web.app:create_app()"]


@contextlib.contextmanager
def built() -> Iterator[Stage]:
    """Everything but the workers. Logs lie in `home` and are gone afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="postflow-chaos-") as home,
        # Every commit is kept through a crash: what the run proves rests on it.
        embedded.ephemeral(careless=False) as postgres,
        Sandbox.start(port=0, keep_requests=2_000_000) as sandbox,
    ):
        migrate.upgrade(postgres.url())
        stage = Stage(postgres, sandbox, _environment(postgres.url(), sandbox), Path(home))
        os.environ.update(stage.environment)  # this process does an operator's work, too
        logs.configure(stage.settings.model_copy(update={"log_level": "ERROR"}))
        try:
            yield stage
        finally:
            stage.end()


def _environment(database_url: str, sandbox: Sandbox) -> dict[str, str]:
    """Short waits, so that the many unknown outcomes of this run are decided within it; the rules are the shipped ones."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTFLOW_", "DATABASE_URL"))}
    return {
        **kept,
        "DATABASE_URL": database_url,
        "POSTFLOW_SECRET_KEY": secrets.token_urlsafe(48),
        "POSTFLOW_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
        "POSTFLOW_PUBLIC_URL": f"http://127.0.0.1:{_free_port()}",
        "POSTFLOW_ALLOWED_PRIVATE": "127.0.0.1",
        "POSTFLOW_SANDBOX_URL": sandbox.control_url,
        "POSTFLOW_INSTAGRAM_URL": sandbox.url("instagram"),
        "POSTFLOW_INSTAGRAM_APP_ID": "990000000000001",
        "POSTFLOW_INSTAGRAM_APP_SECRET": "sandbox-instagram-secret",
        "POSTFLOW_INSTAGRAM_REPUBLISH": "auto",  # the bolder way, so the one to be proven
        "POSTFLOW_REQUEST_TIMEOUT_S": "5",
        "POSTFLOW_SETTLE_S": "2",
        "POSTFLOW_BACKOFF_S": "0.5",
        "POSTFLOW_MAX_FAULTS": "12",
        "POSTFLOW_PACE_S": "1",
        "POSTFLOW_CONCURRENCY": "10",
        "POSTFLOW_STOP_S": "5",
        "POSTFLOW_LOG_LEVEL": "WARNING",
        "PYTHONUNBUFFERED": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
