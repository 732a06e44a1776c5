"""What a sweep takes up, whom it wakes and for when, and what it tells: of rows that nobody works on and no job knows of."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from postflow import db as database
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.publishing import rechecking, sweeping
from tests.engine.conftest import scheduled
from tests.engine.test_outcomes import jobs, row

NOTHING = {"sending": 0, "preparing": 0, "asleep": 0, "held": 0, "forgotten": 0, "rechecks": 0}


def left_behind(
    db: psycopg.Connection, engine: Engine, ada: int, account: int, state: str, in_s: float = 0
) -> Delivery:
    at = datetime.now(UTC) + timedelta(seconds=in_s)
    [made] = scheduled(db, engine.settings, ada, (account,), f"left behind {state}", at=at)
    woken = "" if "wake_at" in state else "wake_at = now() - interval '1 minute',"
    db.execute(f"UPDATE deliveries SET {woken} {state} WHERE id = %s".encode(), [made.id])
    db.execute("DELETE FROM procrastinate_jobs")
    return made


async def swept(engine: Engine) -> tuple[dict[str, int], list[Any]]:
    """(what was found, what was logged)"""
    with capture_logs() as logged:
        found = await sweeping.sweep(engine)
    return found, [(one["event"], one.get("rows")) for one in logged]


SENT = "claim = 'gone', staged = '{}', attempt_no = 1, sent_at = now(), first_sent_at = now()"


async def test_where_nothing_overslept_nothing_is_found_and_nothing_told(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    scheduled(db, engine.settings, ada, (account,), "awake")
    before = jobs(db)
    assert await swept(engine) == (NOTHING, [])
    assert jobs(db) == before


async def test_what_a_dead_worker_was_sending_is_looked_up_once_the_network_had_time_to_settle(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    slow = replace(engine, settings=engine.settings.model_copy(update={"settle_s": 600.0}))
    made = left_behind(db, engine, ada, account, f"status = 'sending', {SENT}")
    before = database.now(db)
    assert await swept(slow) == (NOTHING | {"sending": 1}, [("swept", None)])
    now = row(db, made)
    assert now.status == "unknown" and now.wake_at and now.wake_at >= before + timedelta(seconds=600)
    assert jobs(db) == [("reconcile", made.id, now.wake_at)]


@pytest.mark.parametrize(("in_s", "story"), [(0, "publish"), (3600, "prepare")])
async def test_what_a_dead_worker_was_preparing_goes_on_at_once(
    in_s: float, story: str, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    """Before its date there is time to prepare it."""
    made = left_behind(db, engine, ada, account, "status = 'preparing', claim = 'gone'", in_s)
    before = database.now(db)
    assert await swept(engine) == (NOTHING | {"preparing": 1}, [("swept", None)])
    assert row(db, made).status == "scheduled"
    [(woken, delivery_id, at)] = jobs(db)
    assert (woken, delivery_id) == (story, made.id)
    assert before <= at <= database.now(db)


@pytest.mark.parametrize(
    ("state", "story"),
    [
        ("status = 'scheduled'", "publish"),
        ("status = 'ready', staged = '{}'", "publish"),
        (f"status = 'unknown', {SENT}", "reconcile"),
    ],
)
async def test_what_has_lost_its_job_gets_another(
    state: str, story: str, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    made = left_behind(db, engine, ada, account, state)
    assert await swept(engine) == (NOTHING | {"asleep": 1}, [("swept", None)])
    assert [(woken, delivery_id) for woken, delivery_id, _ in jobs(db)] == [(story, made.id)]


async def test_what_somebodys_session_holds_is_counted_and_passed_over(
    db: psycopg.Connection, engine: Engine, ada: int, account: int, database_url: str
) -> None:
    made = left_behind(db, engine, ada, account, f"status = 'sending', {SENT}")
    with psycopg.connect(database_url) as holding:
        holding.execute("SELECT FROM deliveries WHERE id = %s FOR UPDATE", [made.id])
        assert await swept(engine) == (NOTHING | {"held": 1}, [("swept", None)])
    assert jobs(db) == []


async def test_what_may_be_out_twice_is_looked_at_again_and_nothing_went_wrong_with_it(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    made = left_behind(
        db, engine, ada, account, "status = 'published', published_at = now(), wake_at = NULL, remote_id = '1'"
    )
    db.execute("INSERT INTO rechecks (delivery_id, look_at, since) VALUES (%s, now(), now())", [made.id])
    before = database.now(db)
    assert await swept(engine) == (NOTHING | {"rechecks": 1}, [])
    [(story, delivery_id, at)] = jobs(db)
    assert (story, delivery_id) == ("recheck", made.id)
    assert before <= at <= database.now(db)
    assert await swept(engine) == (NOTHING, []), f"not again for {rechecking.AGAIN_S} seconds"


async def test_a_clock_that_was_set_back_is_told_with_how_much_waits_by_it(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    left_behind(db, engine, ada, account, f"status = 'unknown', {SENT}, wake_at = now() + interval '70 minutes',"
                " status_at = now() + interval '1 hour'")  # fmt: skip
    told = "the database's clock was set back; what waits by it waits no longer for that"
    assert await swept(engine) == (NOTHING, [(told, 1)])
    assert await swept(engine) == (NOTHING, [])


async def test_a_sweep_keeps_up_when_this_history_was_last_seen(db: psycopg.Connection, engine: Engine) -> None:
    db.execute("UPDATE lineage SET seen_at = now() - interval '2 hours'")
    await sweeping.sweep(engine)
    assert db.execute("SELECT seen_at > now() - interval '1 minute' FROM lineage").fetchone() == (True,)
