"""`postflow health worker`: this machine's own worker, by its heart; real processes that hang, die and are started again."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from click.testing import CliRunner, Result

from postflow import cli, config
from postflow.operations import heartbeat
from tests.acceptance.test_workers import COMMAND, until
from tests.engine.conftest import settings

__all__ = ["settings"]

WORKERS = "SELECT count(*) FROM procrastinate_workers"
#: A worker with a task that holds up its loop.
BLOCKED = """
import sys, time
from procrastinate import cli
from worker.app import app

@app.task(name="block")
async def block():
    time.sleep(600)

sys.argv = ["procrastinate", "--app=worker.app.app", "worker"]
cli.main()
"""


@pytest.fixture(autouse=True)
def a_machine_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers of other tests run here too."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def started(settings: config.Settings) -> Iterator[list["subprocess.Popen[bytes]"]]:
    running = list["subprocess.Popen[bytes]"]()
    yield running
    for worker in running:
        worker.kill()
        worker.wait()


def start(started: list["subprocess.Popen[bytes]"], command: list[str] = COMMAND) -> "subprocess.Popen[bytes]":
    worker = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started.append(worker)
    return worker


def health() -> Result:
    return CliRunner().invoke(cli.main, ["health", "worker"])


def becomes(exit_code: int, words: str, patience_s: float = 60) -> str:
    give_up = time.monotonic() + patience_s
    while (found := health()).exit_code != exit_code or words not in found.output:
        assert time.monotonic() < give_up, found.output
        time.sleep(0.2)
    return found.output


def test_a_worker_elsewhere_does_not_make_this_machine_healthy(settings: config.Settings, db: psycopg.Connection):
    db.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    found = health()
    assert found.exit_code == 1
    assert "no worker runs here; start one: procrastinate --app=worker.app.app worker" in found.output


def test_it_follows_a_worker_from_its_start_through_a_standstill_to_its_end(
    started: list["subprocess.Popen[bytes]"], db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
):
    worker = start(started)
    becomes(0, "1 running here")
    until(db, WORKERS, 1)
    worker.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(heartbeat, "SILENT_S", 7.0)  # it beats every five seconds
    assert f"process id {worker.pid}" in becomes(1, "standing still")
    worker.send_signal(signal.SIGCONT)
    monkeypatch.setattr(heartbeat, "SILENT_S", 30.0)
    becomes(0, "1 running here")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert health().exit_code == 1
    assert not list(Path(os.environ["TMPDIR"]).rglob("worker-*")), "it takes its file along"


def test_one_that_was_killed_is_not_taken_for_one_that_lives_nor_for_one_that_hangs(
    started: list["subprocess.Popen[bytes]"], db: psycopg.Connection
):
    worker = start(started)
    becomes(0, "1 running here")
    worker.kill()
    worker.wait()
    becomes(1, "no worker runs here")
    start(started)
    becomes(0, "1 running here")


def test_of_two_workers_the_one_that_stands_still_is_named(
    started: list["subprocess.Popen[bytes]"], db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
):
    still, _ = start(started), start(started)
    becomes(0, "2 running here")
    still.send_signal(signal.SIGSTOP)
    monkeypatch.setattr(heartbeat, "SILENT_S", 7.0)
    becomes(1, f"process id {still.pid} ")


def test_a_blocked_event_loop_is_noticed_although_the_process_runs(
    started: list["subprocess.Popen[bytes]"], db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
):
    start(started, [sys.executable, "-c", BLOCKED])
    becomes(0, "1 running here")
    db.execute("INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('posts', 'block')")
    monkeypatch.setattr(heartbeat, "SILENT_S", 7.0)
    becomes(1, "standing still")


def test_a_worker_that_waits_for_its_database_is_no_reason_to_restart_it(
    started: list["subprocess.Popen[bytes]"], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("DATABASE_URL", f"postgresql://ada@/x?host={tmp_path}")
    start(started)
    becomes(0, "1 running here")


async def test_half_a_minute_of_silence_is_too_much_and_a_late_beat_is_not():
    async with heartbeat.beating():
        await asyncio.sleep(0)
        now = time.monotonic()
        assert heartbeat.sign(now + 29).well
        found = heartbeat.sign(now + 31)
    assert (found.well, found.sentence) == (
        False,
        f"standing still: the worker with process id {os.getpid()} for 31 s; restart it",
    )
    assert heartbeat.hearts(now) == []


def test_a_folder_that_somebody_else_could_have_made_is_not_believed(tmp_path: Path):
    (tmp_path / f"postflow-{os.getuid()}").symlink_to("/tmp")
    assert heartbeat.hearts(0.0) == []


def test_a_worker_runs_also_where_it_cannot_keep_its_file(
    started: list["subprocess.Popen[bytes]"], db: psycopg.Connection, tmp_path: Path
):
    (tmp_path / f"postflow-{os.getuid()}").write_text("no folder")
    start(started)
    until(db, WORKERS, 1)
    assert health().exit_code == 1
