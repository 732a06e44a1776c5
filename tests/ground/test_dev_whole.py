"""`postflow dev` as a person starts it: pages and networks answer, and nothing of it stays, however it ends."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import psycopg
import pytest

from postflow.dev import command, embedded_postgres
from postflow.dev.embedded_postgres import binaries
from tests import servers
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for survivors")


@pytest.fixture
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="postflow-dev-", dir="/tmp") as path:
        os.chmod(path, 0o755)  # root's database runs as somebody else
        yield Path(path)


class Started(NamedTuple):
    process: "subprocess.Popen[bytes]"
    port: int
    sandbox_port: int


@contextlib.contextmanager
def development(home: Path, *options: str) -> Iterator[Started]:
    """With the port of the pages and the port of the networks."""
    port, sandbox_port = free_ports()
    words = [str(Path(sys.executable).with_name("postflow")), "dev", *options]
    words += ["--port", str(port), "--sandbox-port", str(sandbox_port)]
    with (home / "terminal").open("wb") as terminal:
        process = subprocess.Popen(
            words,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            env={**servers.environment(), "POSTFLOW_DATA_DIR": str(home)},
        )
    try:
        yield Started(process, port, sandbox_port)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(PATIENCE_S)


@pytest.fixture
def started(home: Path) -> Iterator[Started]:
    with development(home, "--bare") as running:
        wait_for(lambda: answers(running.port, "/healthz") and answers(running.sandbox_port, "/"), home)
        yield running


def test_the_first_start_publishes_on_three_networks_by_itself(home: Path):
    """What a person sees who starts it for the first time, on the server of this test run."""
    with development(home):
        wait_for(lambda: len(published(home)) == 3, home)
        assert (home / "postgres" / "data" / "PG_VERSION").read_text() == f"{binaries.find().major}\n"
    assert sorted(line.split()[2] for line in published(home)) == ["instagram", "mastodon", "pixelfed"]


def published(home: Path) -> list[str]:
    return [line for line in (home / "terminal").read_text().splitlines() if line.startswith("published ")]


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_it_answers_and_ends_without_a_trace(started, home: Path, sig: signal.Signals):
    process, port, sandbox_port = started
    everybody = family(process.pid)
    assert len(everybody) > 8, "the database with its helpers, the sandbox, two of gunicorn's, a worker"
    process.send_signal(sig)
    assert process.wait(PATIENCE_S) == 0, (home / "terminal").read_text()
    assert survivors(everybody) == []
    assert not answers(port, "/healthz")
    assert not answers(sandbox_port, "/")
    assert "everything has ended" in (home / "terminal").read_text()


def test_killed_outright_it_leaves_nobody_and_starts_again_on_the_same_data(started, home: Path):
    process, port, sandbox_port = started
    everybody = family(process.pid)
    process.kill()
    process.wait()
    wait_for(lambda: not survivors(everybody), home)
    assert command.check_ports(port, sandbox_port) is None
    with embedded_postgres.EmbeddedPostgres(home) as server, psycopg.connect(server.url()) as conn:
        assert conn.execute("SELECT count(*) FROM users").fetchone() == (0,)


def test_a_second_one_on_the_same_data_is_told_why_not(started, home: Path):
    port, sandbox_port = free_ports()
    words = [Path(sys.executable).with_name("postflow"), "dev", "--port", str(port)]
    words += ["--sandbox-port", str(sandbox_port)]
    own = {**os.environ, "POSTFLOW_DATA_DIR": str(home)}
    own.pop("DATABASE_URL", None)
    said = subprocess.run(words, capture_output=True, text=True, env=own)
    assert said.returncode == 1
    assert "in use by another PostFlow" in said.stderr
    assert "Traceback" not in said.stderr


def test_a_shell_opens_the_database_of_what_runs_and_of_what_has_ended(home: Path):
    with development(home, "--bare") as running:
        wait_for(lambda: answers(running.port, "/healthz"), home)
        assert counted(home, "users") == "0\n"
    assert counted(home, "posts") == "0\n"
    with embedded_postgres.EmbeddedPostgres(home):  # which is refused beside one that was left behind
        pass


def counted(home: Path, table: str) -> str:
    words = [Path(sys.executable).with_name("postflow"), "shell", "-Atc", f"SELECT count(*) FROM {table}"]
    environment = {**servers.environment(), "POSTFLOW_DATA_DIR": str(home)}
    return subprocess.run(words, capture_output=True, text=True, env=environment, check=True).stdout


def test_pages_and_worker_say_as_much_as_they_are_told_to(home: Path):
    with development(home, "--bare", "--log-level", "error") as running:
        wait_for(lambda: answers(running.port, "/healthz") and "Launching a worker" in told(home), home)
    assert "everything has ended" in told(home)
    assert "info" not in told(home).lower()


def told(home: Path) -> str:
    return (home / "terminal").read_text()


def family(pid: int) -> list[tuple[int, str]]:
    """The process and all below it, each with its start time, as pids come back."""
    parents = {child: stat[1] for child in pids() if (stat := status(child))}
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        if stat := status(parent):
            found.append((parent, stat[19]))
        waiting += [child for child, above in parents.items() if above == str(parent)]
    return found


def survivors(everybody: list[tuple[int, str]]) -> list[int]:
    """Those still running; a zombie that nobody reaped has ended too."""
    return [pid for pid, born in everybody if (stat := status(pid)) and stat[19] == born and stat[0] != "Z"]


def pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def status(pid: int) -> list[str] | None:
    """The fields after the name: state, parent, ..., and the start time as the twentieth (proc(5))."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None


def answers(port: int, path: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5).is_success
    except httpx.HTTPError:
        return False


def free_ports() -> tuple[int, int]:
    """One for the pages and the first of six in a row, well apart from what the system hands out."""
    for candidate in range(20_000 + os.getpid() % 4000, 30_000, 10):
        with contextlib.ExitStack() as held:
            try:
                for port in range(candidate, candidate + 7):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                continue
        return candidate, candidate + 1
    raise AssertionError("no seven free ports in a row")


def wait_for(condition, home: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, (home / "terminal").read_text()
        time.sleep(0.1)
