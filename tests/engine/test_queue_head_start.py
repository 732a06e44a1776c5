"""A publish job starts moments early and has everything at hand at the instant; nothing leaves before it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from postflow import config, jobs
from postflow.engine import Engine
from postflow.posts import scheduling
from postflow.publishing import preparing, sending
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of

SOON = timedelta(seconds=jobs.HEAD_START_S)


def wake_ups(db: psycopg.Connection) -> list[Any]:
    return db.execute("SELECT task_name, scheduled_at FROM procrastinate_jobs ORDER BY id").fetchall()


def publish_jobs(db: psycopg.Connection) -> list[Any]:
    return db.execute(
        "SELECT scheduled_at, status FROM procrastinate_jobs WHERE task_name = 'publish' ORDER BY id"
    ).fetchall()


async def test_its_job_is_scheduled_a_head_start_early_and_its_date_stays(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "early")
    at = datetime.now(UTC) + timedelta(hours=1)
    [delivery] = scheduled(db, settings, ada, (account,), "in an hour", at=at)
    assert publish_jobs(db) == [(at - SOON, "todo")]
    assert delivery.wake_at == at


async def test_called_moments_early_it_waits_and_the_request_leaves_at_the_date(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "waits")
    at = datetime.now(UTC) + SOON
    [delivery] = scheduled(db, settings, ada, (account,), "at its instant", at=at)
    assert await sending.publish(engine, delivery.id)
    [request] = [one for one in sandbox.ledger.requests(account="waits", method="POST") if "statuses" in one.path]
    assert request.received_at >= at.timestamp()


async def test_called_long_before_its_date_it_sends_nothing_and_comes_back(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "patient")
    at = datetime.now(UTC) + timedelta(minutes=5)
    [delivery] = scheduled(db, settings, ada, (account,), "not for minutes", at=at)
    await preparing.prepare(engine, delivery.id)
    assert await sending.publish(engine, delivery.id) is None
    assert publish_jobs(db)[-1] == (at, "todo")
    assert sandbox.ledger.times_published("not for minutes") == 0


async def test_what_becomes_ready_within_the_head_start_gets_a_job_for_the_one_that_came_and_went(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "just-ready")
    [delivery] = scheduled(db, settings, ada, (account,), "ready in the last moment", at=datetime.now(UTC) + SOON)
    before = len(publish_jobs(db))
    assert await preparing.prepare(engine, delivery.id)
    assert len(publish_jobs(db)) == before + 1


async def test_a_clock_set_back_while_it_waits_neither_sends_early_nor_forgets(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "set-back")
    at = datetime.now(UTC) + timedelta(hours=1)
    [delivery] = scheduled(db, settings, ada, (account,), "not before its time", at=at)
    await preparing.prepare(engine, delivery.id)
    # As the loop sees it the hour has passed; as the database does, it has not.
    monkeypatch.setattr(jobs, "HEAD_START_S", 3600.0)
    monkeypatch.setattr(sending, "TIMER_MARGIN_S", -3600.0)
    assert await sending.publish(engine, delivery.id) is None
    assert (status_of(db, delivery), sandbox.ledger.times_published("not before its time")) == ("ready", 0)
    assert publish_jobs(db)[-1] == (at, "todo")


async def test_a_post_moved_while_it_waits_is_left_to_its_new_date(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "moved")
    [delivery] = scheduled(db, settings, ada, (account,), "moved away", at=datetime.now(UTC) + timedelta(hours=1))
    await preparing.prepare(engine, delivery.id)
    monkeypatch.setattr(jobs, "HEAD_START_S", 5.0)
    db.execute("UPDATE posts SET post_date = clock_timestamp() + interval '5 s'")
    waiting = asyncio.create_task(sending.publish(engine, delivery.id))
    await asyncio.sleep(1)
    assert not waiting.done()
    db.execute("UPDATE posts SET post_date = now() + interval '1 day'")
    assert await waiting is None
    assert sandbox.ledger.times_published("moved away") == 0


async def test_a_post_moved_beyond_the_life_of_what_is_prepared_is_prepared_anew_before_its_new_date(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "pixelfed", "moved-far")
    soon = datetime.now(UTC) + timedelta(minutes=5)
    [delivery] = scheduled(db, settings, ada, (account,), "in two hours", media=(a_picture(db, ada),), at=soon)
    before = await preparing.prepare(engine, delivery.id)
    later = soon + timedelta(hours=2)
    with db.transaction():
        moved = scheduling.move(db, ada, delivery.post_id, later, now=datetime.now(UTC))
        jobs.publish_later(db, moved)
    assert ("prepare", later - timedelta(seconds=600)) in wake_ups(db)
    db.execute("DELETE FROM procrastinate_jobs")
    await preparing.prepare(engine, delivery.id)  # as its job does
    [(story, _)] = wake_ups(db)
    await lifetime.STORIES[story](engine, delivery.id)
    row = db.execute("SELECT status, staged, staged_at > now() - interval '1 minute' FROM deliveries").fetchone()
    assert before and row and row[0] == "ready" and row[1] != before.staged and row[2]
    assert before.staged and row[1]["uploads"][0]["remote_id"] != before.staged["uploads"][0]["remote_id"]


async def test_a_post_moved_a_little_keeps_what_is_prepared(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "pixelfed", "moved-near")
    soon = datetime.now(UTC) + timedelta(minutes=5)
    [delivery] = scheduled(db, settings, ada, (account,), "a little later", media=(a_picture(db, ada),), at=soon)
    before = await preparing.prepare(engine, delivery.id)
    with db.transaction():
        scheduling.move(db, ada, delivery.post_id, soon + timedelta(minutes=30), now=datetime.now(UTC))
    assert await preparing.prepare(engine, delivery.id) is None
    row = db.execute("SELECT status, staged FROM deliveries").fetchone()
    assert before and row == ("ready", before.staged)


async def test_a_post_whose_account_is_told_to_wait_is_prepared_when_that_is_over(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "told-to-wait")
    [delivery] = scheduled(db, settings, ada, (account,), "held a while", at=datetime.now(UTC) + timedelta(minutes=9))
    db.execute("UPDATE accounts SET throttled_until = now() + interval '5 minutes'")
    [(free_at,)] = db.execute("SELECT throttled_until FROM accounts").fetchall()
    assert await preparing.prepare(engine, delivery.id) is None
    assert ("prepare", free_at) in wake_ups(db)
    db.execute("UPDATE accounts SET throttled_until = now() + interval '1 hour'")
    known = len(wake_ups(db))
    assert await preparing.prepare(engine, delivery.id) is None  # not before its date: its own job comes then
    assert len(wake_ups(db)) == known
