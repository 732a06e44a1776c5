"""The processes of a small world to publish in: the sandbox, the pages it fetches pictures from, and workers."""

import base64
import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import httpx

from postflow.dev import child_processes

_PAGES = ("-m", "gunicorn", "--config", "python:web.gunicorn", "--workers", "1")
_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
_PATIENCE_S = 60.0


class Box(NamedTuple):
    """The running sandbox: its control address, and the instances' by name. And where our pages are to be."""

    control: str
    urls: dict[str, str]
    pages: str


@contextlib.contextmanager
def sandbox() -> Iterator[Box]:
    for _ in range(5):  # ports follow on one another, and one of them may be taken
        port = 20_000 + secrets.randbelow(12_000)
        running = child_processes.start(
            [sys.executable, "-m", "sandbox", "--port", str(port)],
            dies_by=signal.SIGKILL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert running.stdout
        words = running.stdout.readline().split()
        if words:
            try:
                urls = dict(word.split("=", 1) for word in words[4:])
                yield Box(words[3], urls, f"http://127.0.0.1:{_free_port()}")
            finally:
                running.kill()
                running.wait()
                running.stdout.close()
            return
        running.wait()
        running.stdout.close()
    raise RuntimeError("the sandbox found no free ports")


def environment(database_url: str, box: Box) -> dict[str, str]:
    """What the processes of this world need to know. Settings of whoever runs the benchmark are not among it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTFLOW_", "DATABASE_URL"))}
    return {
        **kept,
        "DATABASE_URL": database_url,
        "POSTFLOW_SECRET_KEY": "benchmark " * 5,
        "POSTFLOW_ENCRYPTION_KEYS": base64.urlsafe_b64encode(b"0123456789abcdef0123456789abcdef").decode(),
        "POSTFLOW_PUBLIC_URL": box.pages,
        "POSTFLOW_ALLOWED_PRIVATE": "127.0.0.1",
        "POSTFLOW_INSTAGRAM_URL": box.urls["instagram"],
        "POSTFLOW_INSTAGRAM_APP_ID": "990000000000001",
        "POSTFLOW_INSTAGRAM_APP_SECRET": "sandbox-instagram-secret",
    }


@contextlib.contextmanager
def running(arguments: Sequence[str], count: int, environ: dict[str, str]) -> Iterator[None]:
    """So many processes of this Python, killed at the end; raises when one ended before. What they said is shown when
    something went wrong.
    """
    processes: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryFile() as said:
        try:
            for _ in range(count):
                command = [sys.executable, *arguments]
                processes.append(
                    child_processes.start(command, dies_by=signal.SIGKILL, env=environ, stdout=said, stderr=said)
                )
            time.sleep(4)
            yield
            assert all(process.poll() is None for process in processes), f"a process ended by itself: {arguments}"
        except BaseException:
            said.seek(0)
            sys.stderr.write(said.read().decode(errors="replace")[-3000:])
            raise
        finally:
            for process in processes:
                process.kill()
                process.wait()


@contextlib.contextmanager
def pages(environ: dict[str, str]) -> Iterator[None]:
    """The web app at its public address: Instagram is sent links, and fetches the pictures from there."""
    url = environ["POSTFLOW_PUBLIC_URL"]
    command = [sys.executable, *_PAGES, "--bind", url.removeprefix("http://"), "web.app:create_app()"]
    gunicorn = child_processes.start(command, dies_by=signal.SIGTERM, env=environ, **_QUIET)
    try:
        _wait_until_it_answers(f"{url}/healthz", gunicorn)
        yield
    finally:
        gunicorn.terminate()
        try:
            gunicorn.wait(20)
        except subprocess.TimeoutExpired:
            gunicorn.kill()
            gunicorn.wait()


def _wait_until_it_answers(url: str, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _PATIENCE_S
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url).is_success:
                return
        assert process.poll() is None, "the web app ended by itself"
        assert time.monotonic() < until, "the web app does not answer"
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
