"""What operators and accidents do to workers: stops, wrong clocks, nonsense in the queue, a read-only database."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config
from postflow import db as database
from postflow.engine import Engine
from postflow.operations import periodic_runs
from postflow.publishing import sweeping
from sandbox import Sandbox
from sandbox.faults.switches import Fault
from tests.acceptance.test_workers import Start, start_worker, until
from tests.engine.conftest import a_picture, ada, an_account, engine, scheduled, settings
from tests.engine.test_bad_input import make_read_only, read_only
from tests.engine.test_periodic_runs import dead_workers_job
from tests.patience import PATIENCE_S
from worker import schedule

__all__ = ["ada", "engine", "read_only", "settings", "start_worker"]

POSTS = {"instance": "mastodon", "method": "POST", "path": "/api/v1/statuses$"}
SENDING = "SELECT count(*) FROM deliveries WHERE status = 'sending'"
PUBLISHED = "SELECT count(*) FROM deliveries WHERE status = 'published'"


def until_hit(fault: Fault) -> None:
    """The request that it holds up has arrived."""
    give_up = time.monotonic() + PATIENCE_S
    while not fault.hits:
        assert time.monotonic() < give_up, "no request came"
        time.sleep(0.05)


# -- stopping ----------------------------------------------------------------------------------------------


async def test_a_worker_told_to_stop_finishes_what_it_sends(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "finisher")
    sandbox.faults.add("slow", **POSTS, times=1, when="after", seconds=1)
    scheduled(db, settings, ada, (account,), "sent while the worker stops")
    worker = start_worker()
    until(db, SENDING, 1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert db.execute("SELECT status FROM deliveries").fetchone() == ("published",)
    assert sandbox.ledger.times_published("sent while the worker stops") == 1


async def test_what_takes_longer_than_the_stop_may_is_handed_back_and_looked_up_by_the_next(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTFLOW_STOP_S", "0.5")
    monkeypatch.setenv("POSTFLOW_REQUEST_TIMEOUT_S", "120")
    account = await an_account(db, engine, sandbox, ada, "mastodon", "slowpoke")
    held = sandbox.faults.add("slow", **POSTS, times=1, when="after", seconds=1000)
    scheduled(db, settings, ada, (account,), "slower than the stop")
    worker = start_worker()
    until(db, SENDING, 1)
    until_hit(held)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0, "before the answer would have come"
    assert db.execute("SELECT status, claim, error_code FROM deliveries").fetchone() == (
        "unknown",
        None,
        "worker_stopped",
    )
    start_worker()
    until(db, PUBLISHED, 1)
    assert sandbox.ledger.times_published("slower than the stop") == 1


async def test_a_half_made_upload_is_handed_back_to_the_next_worker_at_once(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTFLOW_STOP_S", "0.5")
    monkeypatch.setenv("POSTFLOW_REQUEST_TIMEOUT_S", "120")
    account = await an_account(db, engine, sandbox, ada, "mastodon", "uploader")
    upload = {"instance": "mastodon", "method": "POST", "path": "/api/v2/media$"}
    held = sandbox.faults.add("slow", **upload, times=1, seconds=1000)
    scheduled(db, settings, ada, (account,), "its picture takes long", media=(a_picture(db, ada),))
    worker = start_worker()
    until_hit(held)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert db.execute("SELECT status, claim FROM deliveries").fetchone() == ("scheduled", None)
    start_worker()
    until(db, PUBLISHED, 1)
    assert sandbox.ledger.times_published("its picture takes long") == 1


async def test_a_second_signal_ends_a_worker_at_once_and_the_post_is_still_out_once(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "impatient")
    sandbox.faults.add("slow", **POSTS, times=1, when="after", seconds=20)
    scheduled(db, settings, ada, (account,), "stopped twice")
    worker = start_worker()
    until(db, SENDING, 1)
    worker.send_signal(signal.SIGTERM)
    while worker.poll() is None:  # the first is being heeded before the second counts
        await asyncio.sleep(0.2)
        worker.send_signal(signal.SIGTERM)
    assert worker.returncode == -signal.SIGTERM
    db.execute("UPDATE deliveries SET wake_at = now() - interval '1 second'")
    assert (await sweeping.sweep(engine))["sending"] == 1
    start_worker()
    until(db, PUBLISHED, 1)
    assert sandbox.ledger.times_published("stopped twice") == 1


# -- what was missed ---------------------------------------------------------------------------------------


def test_a_worker_makes_up_for_what_was_due_while_none_ran_and_frees_what_a_dead_one_held(
    db: psycopg.Connection, settings: config.Settings, start_worker: Start
) -> None:
    periodic_runs.plan(db, schedule.planned(settings, database.now(db)))
    db.execute("UPDATE periodic_runs SET next_at = now() - interval '2 days' WHERE name IN ('sweep', 'refresh_tokens')")
    stalled = dead_workers_job(db, "publish")
    start_worker()
    until(db, "SELECT count(*) FROM periodic_runs WHERE name = 'refresh_tokens' AND outcome = 'done'", 1)
    assert db.execute(
        "SELECT DISTINCT priority FROM procrastinate_jobs WHERE task_name IN ('tick', 'sweep')"
    ).fetchall() == [(schedule.FIRST,)]
    until(db, f"SELECT count(*) FROM procrastinate_jobs WHERE id = {stalled} AND status = 'succeeded'", 1)
    assert db.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'refresh_tokens'").fetchone() == (
        1,
    ), "many missed runs are one"


# -- bad surroundings --------------------------------------------------------------------------------------


async def test_nonsense_in_the_queue_fails_by_itself_and_the_worker_goes_on(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
) -> None:
    db.execute(
        """
        INSERT INTO procrastinate_jobs (queue_name, task_name, args, priority)
        VALUES ('posts', 'no.such.task', '{}', 50), ('posts', 'publish', '{}', 50),
               ('posts', 'publish', '{"delivery_id": 123456789}', 50), ('posts', 'publish', '{"delivery_id": "nine"}', 50)
        """
    )
    account = await an_account(db, engine, sandbox, ada, "mastodon", "unmoved")
    scheduled(db, settings, ada, (account,), "among nonsense")
    start_worker()
    until(db, PUBLISHED, 1)
    until(db, "SELECT count(*) FROM procrastinate_jobs WHERE priority = 50 AND status = 'failed'", 3)
    until(db, "SELECT count(*) FROM procrastinate_jobs WHERE priority = 50 AND status = 'succeeded'", 1)


FAST_CLOCK = """
import datetime, sys, time_machine
from procrastinate import cli
time_machine.travel(datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes={minutes}), tick=True).start()
sys.argv = ["procrastinate", "--app=worker.app.app", "worker"]
cli.main()
"""


@pytest.fixture
def workers_with_wrong_clocks(settings: config.Settings) -> Iterator[None]:
    """One ten minutes ahead, one ten minutes behind; nobody whose clock is right."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", FAST_CLOCK.format(minutes=minutes)],
            env=dict(os.environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for minutes in (-10, 10)
    ]
    yield
    for worker in running:
        worker.kill()
        worker.wait()


async def test_workers_with_wrong_clocks_publish_neither_early_nor_too_late_to_count(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    workers_with_wrong_clocks: None,
) -> None:
    until(db, "SELECT count(*) FROM procrastinate_workers", 2)
    account = await an_account(db, engine, sandbox, ada, "mastodon", "wrongclock")
    at = datetime.now(UTC) + timedelta(seconds=2)
    scheduled(db, settings, ada, (account,), "on the second all the same", at=at)
    db.execute("UPDATE posts SET grace_s = 60")
    until(db, PUBLISHED, 1)
    assert db.execute("SELECT bool_and(sent_at >= %s) FROM deliveries", [at]).fetchone() == (True,)
    assert sandbox.ledger.times_published("on the second all the same") == 1


async def test_a_worker_outlives_a_read_only_database_without_sending_and_without_spinning(
    db: psycopg.Connection,
    admin: psycopg.Connection,
    database_url: str,
    read_only: None,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "standby")
    worker = start_worker()
    until(db, "SELECT count(*) FROM procrastinate_workers", 1)
    scheduled(db, settings, ada, (account,), "due while read-only", at=datetime.now(UTC) + timedelta(seconds=1))
    make_read_only(admin, database_url, True)
    with psycopg.connect(database_url, autocommit=True) as reader:
        before = transactions(reader)
        await asyncio.sleep(5)
        asked = transactions(reader) - before
        assert reader.execute("SELECT status FROM deliveries").fetchone() in [("scheduled",), ("ready",)]
    assert asked < 250, "transactions in five seconds"
    assert sandbox.ledger.times_published("due while read-only") == 0
    make_read_only(admin, database_url, False)
    assert worker.poll() is None
    with psycopg.connect(database_url, autocommit=True) as conn:
        until(conn, PUBLISHED, 1)
    assert sandbox.ledger.times_published("due while read-only") == 1


def transactions(conn: psycopg.Connection) -> int:
    row = conn.execute(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    assert row
    return row[0]
