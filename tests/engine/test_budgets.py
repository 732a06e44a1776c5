"""Budgets begin anew when a person has a word: their change may be what was missing."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.posts import deliveries, scheduling
from postflow.publishing import preparing, sending, sweeping
from sandbox import Sandbox
from tests.engine.conftest import a_picture, an_account, scheduled, status_of

SPENT = "faults = 8, deaths = 9, pauses = 7"
Deed = Callable[[psycopg.Connection, config.Settings, int, Delivery], Any]
NOW = datetime.now(UTC)
DEEDS: dict[str, tuple[str, Deed]] = {
    "edited": ("status = 'scheduled'", lambda db, _, __, row: deliveries.begin_again(db, row.post_id, "Edited.")),
    "moved": (
        "status = 'scheduled'",
        lambda db, settings, ada, row: scheduling.move(db, ada, row.post_id, NOW + timedelta(days=1), now=NOW),
    ),
    "published now": (
        "status = 'ready', staged = '{}'",
        lambda db, _, ada, row: scheduling.publish_now(db, ada, row.post_id, now=NOW),
    ),
    "tried again": (
        "status = 'failed', error = 'no', wake_at = NULL",
        lambda db, _, ada, row: scheduling.retry(db, ada, row.id, now=NOW),
    ),
    "told to be absent": (
        "status = 'attention', error = '?', wake_at = NULL",
        lambda db, _, ada, row: scheduling.settle(db, ada, row.id, published=False, now=NOW),
    ),
}


@pytest.mark.parametrize("deed", DEEDS)
async def test_what_a_person_has_a_word_in_has_its_whole_budget(
    deed: str, db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "whole-budget")
    [row] = scheduled(db, settings, ada, (account,), "spent")
    state, do = DEEDS[deed]
    db.execute(f"UPDATE deliveries SET {SPENT}, {state}".encode())
    with db.transaction():
        do(db, settings, ada, row)
    assert db.execute("SELECT faults, deaths, pauses FROM deliveries").fetchone() == (0, 0, 0)


def dies(db: psycopg.Connection, delivery: Delivery) -> None:
    """The worker that prepares it is gone without a word."""
    db.execute(
        "UPDATE deliveries SET status = 'preparing', claim = 'dead', wake_at = now() - interval '1 second' WHERE id = %s",
        [delivery.id],
    )


async def test_ten_deaths_end_it_and_a_try_again_with_a_smaller_picture_is_a_new_beginning(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "deadly")
    [row] = scheduled(db, settings, ada, (account,), "deadly", media=(a_picture(db, ada),))
    for _ in range(preparing.MOST_DEATHS):
        dies(db, row)
        await sweeping.sweep(engine)
    await sending.publish(engine, row.id)
    assert status_of(db, row) == "failed"
    with db.transaction():
        scheduling.retry(db, ada, row.id, now=datetime.now(UTC))
    assert await sending.publish(engine, row.id)


async def test_what_has_become_ready_is_not_what_killed_its_workers(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    """It was prepared beside what did."""
    account = await an_account(db, engine, sandbox, ada, "mastodon", "innocent")
    [row] = scheduled(db, settings, ada, (account,), "innocent", media=(a_picture(db, ada),))
    for _ in range(preparing.MOST_DEATHS - 1):
        dies(db, row)
        await sweeping.sweep(engine)
    ready = await preparing.prepare(engine, row.id)
    assert ready and ready.deaths == 0
