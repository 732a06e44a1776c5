"""A publish job starts moments early and has everything at hand at the instant; nothing leaves before it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from postflow import config, publishing, waking
from sandbox import Sandbox
from tests.engine.conftest import an_account, scheduled, status_of

SOON = timedelta(seconds=waking.HEAD_START_S)


def publish_jobs(db: psycopg.Connection) -> list[Any]:
    return db.execute(
        "SELECT scheduled_at, status FROM procrastinate_jobs WHERE task_name = 'publish' ORDER BY id"
    ).fetchall()


async def test_its_job_is_scheduled_a_head_start_early_and_its_date_stays(
    db: psycopg.Connection, engine: publishing.Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "early")
    at = datetime.now(UTC) + timedelta(hours=1)
    [delivery] = scheduled(db, settings, ada, (account,), "in an hour", at=at)
    assert publish_jobs(db) == [(at - SOON, "todo")]
    assert delivery.wake_at == at


async def test_called_moments_early_it_waits_and_the_request_leaves_at_the_date(
    db: psycopg.Connection, engine: publishing.Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "waits")
    at = datetime.now(UTC) + SOON
    [delivery] = scheduled(db, settings, ada, (account,), "at its instant", at=at)
    assert await publishing.publish(engine, delivery.id)
    [request] = [one for one in sandbox.ledger.requests(account="waits", method="POST") if "statuses" in one.path]
    assert request.received_at >= at.timestamp()


async def test_called_long_before_its_date_it_sends_nothing_and_comes_back(
    db: psycopg.Connection, engine: publishing.Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "patient")
    at = datetime.now(UTC) + timedelta(minutes=5)
    [delivery] = scheduled(db, settings, ada, (account,), "not for minutes", at=at)
    await publishing.prepare(engine, delivery.id)
    assert await publishing.publish(engine, delivery.id) is None
    assert publish_jobs(db)[-1] == (at, "todo")
    assert sandbox.ledger.times_published("not for minutes") == 0


async def test_what_becomes_ready_within_the_head_start_gets_a_job_for_the_one_that_came_and_went(
    db: psycopg.Connection, engine: publishing.Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "just-ready")
    [delivery] = scheduled(db, settings, ada, (account,), "ready in the last moment", at=datetime.now(UTC) + SOON)
    before = len(publish_jobs(db))
    assert await publishing.prepare(engine, delivery.id)
    assert len(publish_jobs(db)) == before + 1


async def test_a_clock_set_back_while_it_waits_neither_sends_early_nor_forgets(
    db: psycopg.Connection,
    engine: publishing.Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "set-back")
    at = datetime.now(UTC) + timedelta(hours=1)
    [delivery] = scheduled(db, settings, ada, (account,), "not before its time", at=at)
    await publishing.prepare(engine, delivery.id)
    # As the loop sees it the hour has passed; as the database does, it has not.
    monkeypatch.setattr(waking, "HEAD_START_S", 3600.0)
    monkeypatch.setattr(publishing, "TIMER_MARGIN_S", -3600.0)
    assert await publishing.publish(engine, delivery.id) is None
    assert (status_of(db, delivery), sandbox.ledger.times_published("not before its time")) == ("ready", 0)
    assert publish_jobs(db)[-1] == (at, "todo")


async def test_a_post_moved_while_it_waits_is_left_to_its_new_date(
    db: psycopg.Connection, engine: publishing.Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "moved")
    [delivery] = scheduled(db, settings, ada, (account,), "moved away", at=datetime.now(UTC) + 1.5 * SOON)
    await publishing.prepare(engine, delivery.id)
    waiting = asyncio.create_task(publishing.publish(engine, delivery.id))
    await asyncio.sleep(waking.HEAD_START_S / 3)
    db.execute("UPDATE posts SET post_date = now() + interval '1 day'")
    assert await waiting is None
    assert sandbox.ledger.times_published("moved away") == 0
