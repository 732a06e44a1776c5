"""When the database has forgotten its last moments: what comes into doubt, by whose word, and when it is looked up."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from structlog.testing import capture_logs

from postflow import db as database
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.publishing import preparing, restoring
from tests.engine.conftest import scheduled
from tests.engine.test_outcomes import jobs, last_line, row
from tests.engine.test_reconciling import lost

TOLD = "the database has lost its last moments; what was due is looked up"


@pytest.fixture
async def ready(db: psycopg.Connection, engine: Engine, ada: int, account: int) -> Delivery:
    [made] = scheduled(db, engine.settings, ada, (account,), "due by then")
    found = await preparing.prepare(engine, made.id)
    assert found
    db.execute("DELETE FROM procrastinate_jobs")
    return found


def elsewhere(db: psycopg.Connection, ago: timedelta = timedelta()) -> None:
    """This database belongs to another history than the one it was in, and was last seen so long ago."""
    db.execute("UPDATE lineage SET mark = 'another', seen_at = clock_timestamp() - %s", [ago])


def settling(engine: Engine) -> Engine:
    return replace(engine, settings=engine.settings.model_copy(update={"settle_s": 600.0}))


async def noticed(engine: Engine) -> tuple[int, list[str]]:
    """(how many came into doubt, what was logged)"""
    with capture_logs() as logged:
        moved = await restoring.notice(engine)
    return moved, [one["event"] for one in logged]


async def test_as_long_as_it_is_the_same_history_nothing_is_in_doubt(
    db: psycopg.Connection, engine: Engine, ready: Delivery
) -> None:
    assert await noticed(engine) == (0, [])
    assert row(db, ready) == ready


@pytest.mark.parametrize(
    ("ago", "code"),
    [(timedelta(0), restoring.FORGOTTEN), (timedelta(minutes=14), restoring.FORGOTTEN),
     (timedelta(minutes=16), restoring.RESTORED)],
)  # fmt: skip
async def test_another_history_is_noticed_once_and_what_was_due_is_looked_up_when_it_has_settled(
    ago: timedelta, code: str, db: psycopg.Connection, engine: Engine, ready: Delivery
) -> None:
    elsewhere(db, ago)
    before = database.now(db)
    assert await noticed(settling(engine)) == (1, [TOLD])
    now, after = row(db, ready), database.now(db)
    assert (now.status, now.error, now.error_code) == ("unknown", restoring.SENTENCE, code)
    assert now.wake_at and before <= now.wake_at - timedelta(seconds=600) <= after
    assert jobs(db) == [("reconcile", ready.id, now.wake_at)]
    assert last_line(db, ready) == (restoring.SENTENCE, {"code": code})
    seen = db.execute("SELECT mark = postflow_lineage(), seen_at FROM lineage").fetchone()
    assert seen and seen[0] and before <= seen[1] <= after
    assert await noticed(engine) == (0, [])


async def test_who_is_told_of_a_backup_doubts_what_was_under_way_as_well(
    db: psycopg.Connection, engine: Engine, ada: int, account: int, ready: Delivery
) -> None:
    """The marks say nothing of it: files that were put back belong to the history that they were taken from."""
    unknown = await lost(db, engine, ada, account, text="in doubt already")
    assert unknown.error_code != restoring.RESTORED
    assert await restoring.hold_overdue(engine.settings) == 2
    assert [(row(db, one).status, row(db, one).error_code) for one in (ready, unknown)] == [
        ("unknown", restoring.RESTORED)
    ] * 2


async def test_after_a_short_gap_what_is_looked_for_already_stays_as_it_is(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    unknown = await lost(db, engine, ada, account)
    elsewhere(db)
    assert await noticed(engine) == (0, [TOLD])
    assert row(db, unknown) == unknown


async def until_somebody_waits(db: psycopg.Connection) -> None:
    while not db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchall()[0][0]:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_of_two_workers_that_notice_it_one_doubts(
    db: psycopg.Connection, engine: Engine, ready: Delivery, database_url: str
) -> None:
    """The other waits for it, and then finds it done."""
    elsewhere(db)
    async with await psycopg.AsyncConnection.connect(database_url) as first, engine.pool.connection() as second:
        assert not await restoring._is_ours(second)
        await restoring._lock(first)
        waiting = asyncio.ensure_future(noticed(engine))
        await until_somebody_waits(db)
        assert await restoring._begin(first, engine.settings, long=False) == 1
        await first.commit()
    assert await waiting == (0, [])


async def test_who_is_told_of_a_backup_holds_no_post_while_a_worker_notices_it_and_then_has_its_way(
    db: psycopg.Connection, engine: Engine, ready: Delivery, database_url: str
) -> None:
    """Else each would wait for what the other holds: the posts, and the mark."""
    async with await psycopg.AsyncConnection.connect(database_url) as first:
        await restoring._lock(first)
        told = asyncio.ensure_future(restoring.hold_overdue(engine.settings))
        await until_somebody_waits(db)
        assert db.execute("SELECT id FROM deliveries FOR UPDATE NOWAIT").fetchall() == [(ready.id,)]
        await first.commit()
    assert await told == 1


async def test_this_history_is_noted_as_seen_and_another_is_not(db: psycopg.Connection, engine: Engine) -> None:
    db.execute("UPDATE lineage SET seen_at = now() - interval '2 hours'")
    for is_ours in (False, True):
        db.execute("UPDATE lineage SET mark = CASE WHEN %s THEN postflow_lineage() ELSE 'another' END", [is_ours])
        async with engine.pool.connection() as conn:
            await restoring.note(conn)
        assert db.execute("SELECT seen_at > now() - interval '1 hour' FROM lineage").fetchone() == (is_ours,)
