"""What the run plays on: our own database, the sandbox networks, the pages, and the crew of workers."""

import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from cryptography.fernet import Fernet

from chaos import clocks
from chaos.clocks import Step
from chaos.faults import PAGE
from chaos.plan import INSTANCES
from chaos.troubles import DATABASE, Outage
from chaos.wires import Wires
from chaos.workers import Crew, Process
from postflow import config, logs
from postflow.dev import child_processes, embedded_postgres
from postflow.operations import migrate
from sandbox import Sandbox

_WEB = [sys.executable, "-m", "gunicorn", "--config", "python:web.gunicorn", "--workers", "1"]
_PATIENCE_S = 60
_SOCKET = ".s.PGSQL.5432"


class Unheard(NamedTuple):
    """A silence, and on which wires."""

    began_at: datetime
    ended_at: datetime
    wires: tuple[str, ...]


class Stage:
    def __init__(
        self,
        postgres: embedded_postgres.EmbeddedPostgres,
        sandbox: Sandbox,
        wires: Wires,
        environment: dict[str, str],
        home: Path,
    ) -> None:
        self.postgres, self.sandbox, self.wires, self.environment, self.home = (
            postgres,
            sandbox,
            wires,
            environment,
            home,
        )
        self._silent: Counter[str] = Counter()
        self._answering: dict[Outage, Any] = {}
        self.crew = Crew(self._start)
        self.restarted = 0
        self.unheard: list[Unheard] = []  # silences that are over
        self._silences: dict[tuple[str, ...], datetime] = {}
        self.steps: list[Step] = []  # of the database's clock
        self.failovers = 0
        self.failed_over_at: float | None = None  # monotonic: the last time
        self._kept = contextlib.ExitStack()
        self.socket = _socket_of(postgres)  # the workers come by its wire, also while nobody listens
        self.outages = 0
        self.aged_s = 0  # so much was skipped at the end
        self.calm_at = float("inf")  # when faults ended
        self._web: Process | None = None

    @cached_property
    def settings(self) -> config.Settings:
        return config.load(self.environment)

    def connect(self, *, patience_s: float = _PATIENCE_S) -> psycopg.Connection:
        """Waits for a database that is just starting."""
        give_up = time.monotonic() + patience_s
        while True:
            try:
                return psycopg.connect(self.postgres.url(), autocommit=True, options="-c timezone=UTC")
            except psycopg.OperationalError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.1)

    def begin(self, workers: int) -> None:
        self._web = self._start(self._web_command(), "web")
        self.crew.begin(workers)

    def keep_alive(self) -> None:
        """Called by the main thread again and again: children end with the thread that started them."""
        self.crew.keep_alive()
        if self._web and self._web.poll() is not None:
            self._web = self._start(self._web_command(), "web")

    @property
    def published(self) -> int:
        """So many statuses are out."""
        return self.sandbox.ledger.counts()["published"]

    def restart_postgres(self, mode: embedded_postgres.StopMode) -> None:
        self.postgres.restart(mode)
        self.restarted += 1

    def set_clock(self, ahead_s: float, *, of: embedded_postgres.EmbeddedPostgres | None = None) -> None:
        self.steps.append(clocks.step(of or self.postgres, ahead_s))

    def keep(self, server: embedded_postgres.EmbeddedPostgres, and_then: Callable[[], None]) -> None:
        """Until everything is over."""
        self._kept.callback(and_then)
        self._kept.callback(server.stop)

    def fail_over_to(self, server: embedded_postgres.EmbeddedPostgres) -> None:
        """The workers' wire leads to the new primary from now on."""
        self.postgres, self.socket = server, _socket_of(server)
        self.failovers += 1
        self.failed_over_at = time.monotonic()

    def clear_away(self) -> None:
        self._kept.close()

    def cut_connections(self) -> None:
        """Every session of everybody ends at once, as when a proxy in between restarts."""
        with self.connect() as conn:
            conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")

    # -- the ways to and from the workers ----------------------------------------------------------------------

    def hold_wires(self, names: tuple[str, ...]) -> None:
        self._silent.update(names)
        self._silences.setdefault(names, datetime.now(UTC))
        self.wires.hold(names)

    def let_wires_go(self, names: tuple[str, ...]) -> None:
        """Those that no other silence holds as well."""
        self._silent.subtract(names)
        self.wires.let_go(tuple(one for one in names if not self._silent[one]))
        self.unheard.append(Unheard(self._silences.get(names, datetime.now(UTC)), datetime.now(UTC), names))

    def begin_outage(self, outage: Outage) -> None:
        """A gateway answers every request to an instance, and nothing gets through to it."""
        said: dict[str, Any] = {"kind": "status", "body": "json", "commit": False}
        if outage.says == "page":
            said |= {"kind": "garbage", "text": PAGE}
        elif outage.says == "502":
            said |= {"status": 502, "body": "html"}
        else:
            said |= {"status": int(outage.says)}
        self._answering[outage] = self.sandbox.faults.add(times=None, instance=outage.instance, path="/", **said)
        self.outages += 1

    def end_outage(self, outage: Outage) -> None:
        self.sandbox.faults.clear(self._answering.pop(outage))

    def end(self) -> None:
        """Workers and pages are stopped, and whatever they asked the networks for is over."""
        ending = self.crew.end()
        if self._web:
            self._web.send_signal(signal.SIGTERM)
            ending.append(self._web)
            self._web = None
        for process in ending:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.wires.end()
        self.sandbox.wait_until_left_alone()

    def _start(self, command: list[str], name: str) -> Process:
        with (self.home / f"{name}.log").open("ab") as log:
            return child_processes.start(
                command, dies_by=signal.SIGKILL, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )

    def _web_command(self) -> list[str]:
        port = self.environment["POSTFLOW_PUBLIC_URL"].rpartition(":")[2]
        return [*_WEB, "--bind", f"127.0.0.1:{port}", "web.app:create_app()"]


@contextlib.contextmanager
def built() -> Iterator[Stage]:
    """Everything but the workers. Logs lie in `home`, for whoever called to keep or to remove."""
    home = Path(tempfile.mkdtemp(prefix="postflow-chaos-"))
    with (
        # Every commit is kept through a crash: what the run proves rests on it.
        embedded_postgres.ephemeral(careless=False) as postgres,
        Sandbox.start(port=0, keep_requests=2_000_000) as sandbox,
    ):
        clocks.install(postgres)
        migrate.upgrade(postgres.url())
        sandbox.add_instance("akkoma", name="akkoma")
        # A container that is published twice shows as two posts, as the worst case would.
        sandbox.configure("instagram", second_publish="again")
        wires = Wires()
        for instance in INSTANCES:
            there = sandbox.instance(instance)
            port = wires.to_port(instance, int(there.url.rpartition(":")[2]))
            there.url = f"http://127.0.0.1:{port}"  # whatever it says of itself leads through its wire, too
        stage = Stage(postgres, sandbox, wires, _environment("", sandbox), home)
        wires.to_socket(DATABASE, home / _SOCKET, lambda: stage.socket)
        stage.environment["DATABASE_URL"] = f"postgresql://postflow@/postflow?host={home}"
        before = dict(os.environ)
        os.environ.update(stage.environment)  # this process does people's work, too
        logs.configure(stage.settings.model_copy(update={"log_level": "ERROR"}))
        logging.getLogger("psycopg").setLevel(logging.ERROR)  # sessions that are cut are no news here
        try:
            yield stage
        finally:
            stage.end()
            stage.clear_away()
            os.environ.clear()
            os.environ.update(before)


def _environment(database_url: str, sandbox: Sandbox) -> dict[str, str]:
    """What differs from what is shipped, and why.

    Waits are short, so that the many unknown outcomes of a run are decided within it: request timeout 5 s (30), settling
    2 s (30), first pause 0.5 s (15), pace 1 s (10). Each delivery may meet 12 faults (8). Instagram posts that are proven
    absent are sent again (`auto`; shipped is `ask`): the bolder way, so the one to be proven. The pauses that stand in
    the code are the shipped ones: between two looks, the ten minutes of Instagram, every lease's margin, the sweep.
    """
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
        "POSTFLOW_INSTAGRAM_REPUBLISH": "auto",
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


def _socket_of(server: embedded_postgres.EmbeddedPostgres) -> Path:
    return Path(server.url().rpartition("host=")[2]) / _SOCKET


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
