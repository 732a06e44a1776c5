"""The bell under the stock command: real worker processes whose poll is an hour away."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from sandbox import Sandbox
from tests.acceptance.test_workers import COMMAND, until
from tests.engine.conftest import a_picture, ada, an_account, engine, scheduled, settings

__all__ = ["ada", "engine", "settings"]

Start = Callable[[], "subprocess.Popen[bytes]"]
LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'postflow bell %'"


@pytest.fixture
def start_worker(settings: config.Settings) -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        command = [*COMMAND, "--fetch-job-polling-interval=3600"]
        worker = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        running.append(worker)
        return worker

    yield start
    for worker in running:
        worker.kill()
        worker.wait()


async def test_the_bell_rings_for_posts_and_goes_on_ringing_when_its_keeper_is_killed(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "punctual")
    keeper = start_worker()
    until(db, LISTENING, 1)
    start_worker()
    until(db, LISTENING, 2)
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    scheduled(db, settings, ada, (account,), "rung for", media=(a_picture(db, ada),), at=soon)
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 1)
    keeper.kill()
    keeper.wait()
    soon = datetime.now(UTC) + timedelta(seconds=1)
    scheduled(db, settings, ada, (account,), "rung for by another", at=soon)
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 2)
    for text in ("rung for", "rung for by another"):
        [status] = [status for status in sandbox.ledger.statuses(account="punctual") if status.text == text]
        assert status.committed_at >= scheduled_for(db, text)


async def test_posts_go_out_by_the_alarm_alone(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A worker that polls, looks again and sweeps only in an hour or later: what it publishes it was woken for in time."""
    monkeypatch.setenv("POSTFLOW_SWEEP_CRON", "0 0 1 1 *")
    account = await an_account(db, engine, sandbox, ada, "mastodon", "by-alarm")
    worker = await asyncio.create_subprocess_exec(sys.executable, "-c", WITHOUT_A_LOOK)
    try:
        await asyncio.to_thread(until, db, LISTENING, 1)
        for place in range(6):
            at = datetime.now(UTC) + timedelta(seconds=1 + place * 0.7)
            scheduled(db, settings, ada, (account,), f"by the alarm, {place}", at=at)
        await asyncio.to_thread(until, db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 6)
    finally:
        worker.kill()
        await worker.wait()


WITHOUT_A_LOOK = """
import sys
from procrastinate import cli
from worker import notifier
notifier.LOOK_AGAIN_S = 3600.0
sys.argv = ["procrastinate", "--app=worker.app.app", "worker", "--fetch-job-polling-interval=3600"]
cli.main()
"""


def scheduled_for(db: psycopg.Connection, text: str) -> float:
    row = db.execute(
        "SELECT extract(epoch FROM post_date)::float8 FROM posts WHERE content->>'text' = %s", [text]
    ).fetchone()
    assert row
    return row[0]
