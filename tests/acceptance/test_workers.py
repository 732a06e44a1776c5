"""Real worker processes, started by the stock command, against a real database and the sandbox."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.publishing import sweeping
from sandbox import Sandbox
from tests.engine.conftest import ada, an_account, engine, scheduled, settings
from tests.patience import PATIENCE_S

__all__ = ["ada", "engine", "settings"]

Start = Callable[[], "subprocess.Popen[bytes]"]
COMMAND = [sys.executable, "-m", "procrastinate", "--app=worker.app.app", "worker"]


@pytest.fixture
def start_worker(settings: config.Settings) -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        worker = subprocess.Popen(COMMAND, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.append(worker)
        return worker

    yield start
    for worker in running:
        worker.kill()
        worker.wait()


def until(conn: psycopg.Connection, query: str, wanted: int, patience_s: float = PATIENCE_S) -> None:
    give_up = time.monotonic() + patience_s
    while True:
        row = conn.execute(query.encode()).fetchone()
        if row and row[0] == wanted:
            return
        assert time.monotonic() < give_up, f"{row} instead of {wanted}"
        time.sleep(0.1)


async def test_two_workers_publish_two_hundred_posts_due_at_once_and_none_twice(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
) -> None:
    accounts = [await an_account(db, engine, sandbox, ada, "mastodon", f"crowd{number}") for number in range(4)]
    for number in range(200):
        scheduled(db, settings, ada, (accounts[number % 4],), f"crowd number {number:03}.")
    start_worker()
    start_worker()
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 200)
    assert {sandbox.ledger.times_published(f"crowd number {number:03}.") for number in range(200)} == {1}


async def test_a_worker_killed_while_it_sends_leaves_a_post_that_is_out_exactly_once(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "killed")
    sandbox.faults.add(
        "slow", instance="mastodon", method="POST", path="/api/v1/statuses$", times=1, when="after", seconds=5
    )
    scheduled(db, settings, ada, (account,), "its worker is killed")
    worker = start_worker()
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'sending'", 1)
    worker.kill()
    worker.wait()
    db.execute("UPDATE deliveries SET wake_at = now() - interval '1 second' WHERE status = 'sending'")
    await sweeping.sweep(engine)
    start_worker()
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 1)
    assert sandbox.ledger.times_published("its worker is killed") == 1


def test_a_worker_told_to_stop_ends_cleanly(db: psycopg.Connection, start_worker: Start) -> None:
    worker = start_worker()
    until(db, "SELECT count(*) FROM procrastinate_workers", 1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0


async def test_rolling_back_leaves_neither_post_nor_job(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "undone")
    with db.transaction(force_rollback=True):
        scheduled(db, settings, ada, (account,), "never was")
    counted = db.execute("SELECT (SELECT count(*) FROM posts), (SELECT count(*) FROM procrastinate_jobs)").fetchone()
    assert counted == (0, 0)
