"""An account comes back: what waited for it gets its job at once, with the transaction that brought it back."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config, jobs
from postflow.engine import Engine
from postflow.publishing import reconciling, sending
from sandbox import Sandbox
from tests.engine.conftest import an_account, scheduled, status_of

Row = tuple[str, int]


def no_jobs(conn: psycopg.Connection) -> None:
    """Those of the schedule have run meanwhile and found the account held."""
    conn.execute("DELETE FROM procrastinate_jobs")


def wake_ups(conn: psycopg.Connection) -> set[Row]:
    rows = conn.execute(
        "SELECT task_name, (args->>'delivery_id')::bigint FROM procrastinate_jobs WHERE scheduled_at <= now()"
    ).fetchall()
    return {(row[0], row[1]) for row in rows}


@pytest.fixture
async def account(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, request: pytest.FixtureRequest
) -> int:
    return await an_account(db, engine, sandbox, ada, "mastodon", request.node.name[:30])


async def test_what_is_due_is_published_what_comes_soon_prepared_and_what_is_unknown_looked_up(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    account: int,
) -> None:
    now = datetime.now(UTC)
    [unknown] = scheduled(db, settings, ada, (account,), "was it sent?")
    sandbox.faults.add("drop_after_commit", instance="mastodon", method="POST", path="/api/v1/statuses$")
    await sending.publish(engine, unknown.id)
    db.execute("UPDATE deliveries SET wake_at = now() + interval '10 minutes' WHERE status = 'unknown'")
    [due] = scheduled(db, settings, ada, (account,), "due")
    [soon] = scheduled(db, settings, ada, (account,), "soon", at=now + timedelta(minutes=5))
    scheduled(db, settings, ada, (account,), "in a month", at=now + timedelta(days=30))
    no_jobs(db)
    with db.transaction():
        assert jobs.resume(db, account) == 3
    assert wake_ups(db) == {("reconcile", unknown.id), ("publish", due.id), ("prepare", soon.id)}
    assert await reconciling.reconcile(engine, unknown.id)
    assert await sending.publish(engine, due.id)
    assert sandbox.ledger.times_published("was it sent?") == 1


async def test_the_jobs_vanish_with_the_transaction(
    db: psycopg.Connection, settings: config.Settings, ada: int, account: int
) -> None:
    scheduled(db, settings, ada, (account,), "due")
    no_jobs(db)
    with db.transaction(force_rollback=True):
        assert jobs.resume(db, account) == 1
    assert wake_ups(db) == set()


async def test_what_is_later_than_its_person_allows_is_missed_and_not_sent(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    account: int,
) -> None:
    [late] = scheduled(db, settings, ada, (account,), "a day late")
    db.execute("UPDATE posts SET post_date = now() - interval '1 day'")
    no_jobs(db)
    jobs.resume(db, account)
    [(story, delivery_id)] = wake_ups(db)
    assert (story, delivery_id) == ("publish", late.id)
    await sending.publish(engine, delivery_id)
    assert status_of(db, late) == "missed"
    assert sandbox.ledger.times_published("a day late") == 0


async def test_many_late_posts_keep_their_distance_when_they_are_resumed(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    account: int,
) -> None:
    held = [scheduled(db, settings, ada, (account,), f"held {number}")[0] for number in range(3)]
    db.execute("UPDATE posts SET post_date = now() - interval '1 hour'")
    no_jobs(db)
    assert jobs.resume(db, account) == 3
    for story, delivery_id in sorted(wake_ups(db)):
        assert story == "publish"
        await sending.publish(engine, delivery_id)
    assert [status_of(db, one) for one in held] == ["published", "scheduled", "scheduled"]
    row = db.execute("SELECT min(wake_at) > now() + interval '5 seconds' FROM deliveries WHERE wake_at IS NOT NULL")
    assert row.fetchone() == (True,)


async def test_another_accounts_posts_are_left_alone(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    account: int,
) -> None:
    other = await an_account(db, engine, sandbox, ada, "mastodon", "left-alone")
    scheduled(db, settings, ada, (other,), "not mine")
    no_jobs(db)
    assert jobs.resume(db, account) == 0
    assert wake_ups(db) == set()
