"""Whose turn it is on an account: posts of one instant in the order of their making, late ones in the order of their dates,
beside those on time, and nobody behind what cannot go.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.publishing import preparing, sending, sweeping, turns
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, scheduled, status_of

COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}


@pytest.fixture
def engine(engine: Engine, settings: config.Settings, request: pytest.FixtureRequest) -> Engine:
    """Of one instant: no pace, so that a busy machine makes no difference between late and on time."""
    changed = {"pace_s": 0.0, "backoff_s": 15.0} if "instant" in request.node.name else {}
    return replace(engine, settings=settings.model_copy(update=changed))


def posts(
    db: psycopg.Connection, settings: config.Settings, ada: int, account: int, handle: str, number: int
) -> list[Delivery]:
    at = datetime.now(UTC)
    return [scheduled(db, settings, ada, (account,), f"{handle} {one}", at=at)[0] for one in range(number)]


def late(db: psycopg.Connection, some: Sequence[Delivery], hours: float = 1) -> None:
    db.execute(
        "UPDATE posts SET post_date = post_date - make_interval(secs => %s) WHERE id = ANY(%s)",
        [hours * 3600, [one.post_id for one in some]],
    )


def out(sandbox: Sandbox, handle: str) -> list[str]:
    return [one.text.removeprefix(f"{handle} ") for one in sandbox.ledger.statuses(account=handle, published=True)]


# -- of one instant ----------------------------------------------------------------------------------------


async def test_of_one_instant_the_one_made_first_goes_first_whoever_is_woken_first(
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    made = posts(db, settings, ada, account, handle, 6)
    for one in made:
        assert await preparing.prepare(engine, one.id)
    db.execute("DELETE FROM procrastinate_jobs")
    sandbox.faults.add("slow", account=handle, **COMMIT, seconds=0.05, times=None)
    await asyncio.gather(*(sending.publish(engine, one.id) for one in reversed(made)))
    await lifetime.run_due(engine, db)
    assert out(sandbox, handle) == ["0", "1", "2", "3", "4", "5"]


async def test_the_first_of_an_instant_that_lost_its_wake_up_is_sent_by_the_next(
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    first, second = posts(db, settings, ada, account, handle, 2)
    for one in (first, second):
        assert await preparing.prepare(engine, one.id)
    db.execute("DELETE FROM procrastinate_jobs")
    await sending.publish(engine, second.id)
    await lifetime.run_due(engine, db)
    assert out(sandbox, handle) == ["0", "1"]


@pytest.mark.parametrize("held", ["its own pause", "failed", "being prepared", "put off"])
async def test_one_of_an_instant_that_cannot_go_holds_nobody(
    held: str,
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    first, second = posts(db, settings, ada, account, handle, 2)
    for one in (first, second):
        assert await preparing.prepare(engine, one.id)
    changes = {
        "its own pause": "not_before = now() + interval '1 minute'",
        "failed": "status = 'failed', wake_at = NULL, error = 'no'",
        "being prepared": "status = 'preparing', claim = 'x', wake_at = now() + interval '1 minute'",
        "put off": "wake_at = now() + interval '1 minute'",
    }
    db.execute(f"UPDATE deliveries SET {changes[held]} WHERE id = {first.id}".encode())
    assert await sending.publish(engine, second.id)
    assert out(sandbox, handle) == ["1"]


async def test_the_order_of_an_instant_outlives_a_wait_that_the_network_asks_for(
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    made = posts(db, settings, ada, account, handle, 4)
    for one in made:
        assert await preparing.prepare(engine, one.id)
    sandbox.faults.add("status", account=handle, **COMMIT, status=429, headers={"Retry-After": "30"})
    await lifetime.run_due(engine, db)
    assert out(sandbox, handle) == []
    lifetime.pass_time(db, 31)
    db.execute("DELETE FROM procrastinate_jobs")
    await asyncio.gather(*(sending.publish(engine, one.id) for one in reversed(made)))
    await lifetime.run_due(engine, db)
    assert out(sandbox, handle) == ["0", "1", "2", "3"]


async def test_the_order_of_an_instant_outlives_an_outage_of_the_server(
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    made = posts(db, settings, ada, account, handle, 4)
    for one in made:
        assert await preparing.prepare(engine, one.id)
    sandbox.go_down("mastodon")
    await lifetime.run_due(engine, db)
    assert lifetime.states(db, [one.id for one in made]) == ["scheduled"] * 4
    sandbox.come_back("mastodon")
    lifetime.pass_time(db, 20)
    await lifetime.run_due(engine, db)
    assert out(sandbox, handle) == ["0", "1", "2", "3"]


# -- late ones ---------------------------------------------------------------------------------------------


async def test_after_an_outage_late_posts_go_in_the_order_of_their_dates(
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    made = posts(db, settings, ada, account, handle, 4)
    for number, one in enumerate(made):
        late(db, [one], hours=1 + number)  # the last one made is the oldest
    db.execute("DELETE FROM procrastinate_jobs")
    await asyncio.gather(*(sending.publish(engine, one.id) for one in made))
    for _ in range(5):
        await lifetime.run_due(engine, db)
        lifetime.pass_time(db, settings.pace_s)
        db.execute("UPDATE deliveries SET sent_at = sent_at - interval '10 s' WHERE status = 'published'")
    assert out(sandbox, handle) == ["3", "2", "1", "0"]


async def test_parts_that_wait_for_a_failed_part_count_in_nobodys_queue(
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    parts = scheduled(db, settings, ada, (account,), f"{handle} one", thread=tuple(f"{handle} {n}" for n in range(5)))
    db.execute("UPDATE deliveries SET status = 'failed', wake_at = NULL, error = 'no' WHERE id = %s", [parts[0].id])
    db.execute("UPDATE posts SET post_date = post_date - interval '2 hours'")
    [one] = scheduled(db, settings, ada, (account,), f"{handle} late")
    late(db, [one])
    assert await sending.publish(engine, one.id)
    assert out(sandbox, handle) == ["late"]


async def test_what_may_not_upload_for_now_counts_in_nobodys_queue(
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    [picture] = scheduled(db, settings, ada, (account,), f"{handle} picture", media=(a_picture(db, ada),))
    [text] = scheduled(db, settings, ada, (account,), f"{handle} text")
    late(db, [picture, text])
    db.execute("UPDATE accounts SET uploads_throttled_until = now() + interval '20 minutes'")
    assert await sending.publish(engine, picture.id) is None
    assert await sending.publish(engine, text.id)
    assert out(sandbox, handle) == ["text"]


@pytest.fixture
async def alike(
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> Delivery:
    """Late, and has waited once for another with the same words, whose answer was lost."""
    [doubted] = scheduled(db, settings, ada, (account,), f"{handle} same")
    sandbox.faults.add("drop_before", account=handle, **COMMIT)
    assert await sending.publish(engine, doubted.id) is None
    [alike] = scheduled(db, settings, ada, (account,), f"{handle} same!")
    late(db, [alike], hours=2)
    assert await preparing.prepare(engine, alike.id)
    db.execute("DELETE FROM procrastinate_jobs")
    assert await sending.publish(engine, alike.id) is None
    assert lifetime.states(db, [doubted.id, alike.id]) == ["unknown", "ready"]
    return alike


@pytest.mark.usefixtures("alike")
async def test_what_waits_for_one_that_is_alike_holds_no_other_late_one(
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    [other] = scheduled(db, settings, ada, (account,), f"{handle} other")
    late(db, [other])
    assert await sending.publish(engine, other.id)
    assert out(sandbox, handle) == ["other"]


async def test_what_waits_for_one_that_is_alike_has_one_wake_up_however_long_it_waits(
    alike: Delivery, db: psycopg.Connection, engine: Engine
) -> None:
    for _ in range(3):
        assert db.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo'").fetchone() == (1,)
        lifetime.pass_time(db, sending.ALIKE_S)
        await lifetime.run_due(engine, db)
    told = db.execute(
        "SELECT count(*) FROM delivery_events WHERE delivery_id = %s AND sentence = %s",
        [alike.id, sending.WAITS_FOR_ALIKE],
    ).fetchone()
    assert told == (1,), "its story says so once"


async def test_a_late_post_has_its_turn_beside_posts_that_are_on_time(
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    waits, punctual = posts(db, settings, ada, account, handle, 2)
    late(db, [waits])
    assert await sending.publish(engine, punctual.id)
    assert await sending.publish(engine, waits.id), "only late ones keep their distance, and from late ones"
    [another] = posts(db, settings, ada, account, f"{handle} another", 1)
    late(db, [another])
    assert await sending.publish(engine, another.id) is None


async def test_the_end_of_one_wakes_the_next_on_time_and_the_next_late_one(
    handle: str, account: int, db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int
) -> None:
    """A late one whose pace is not over must not be all that is woken."""
    ended, oldest, old, first, second = made = posts(db, settings, ada, account, handle, 5)
    for one in made:
        assert await preparing.prepare(engine, one.id)
    late(db, [oldest], hours=2)
    late(db, [old])
    db.execute("UPDATE posts SET post_date = now() WHERE id = ANY(%s)", [[first.post_id, second.post_id]])
    async with engine.pool.connection() as conn:
        assert set(await turns.next_waiting(conn, ended)) == {oldest.id, first.id}


async def turn_at(engine: Engine, one: Delivery) -> tuple[datetime, datetime | None]:
    """(now, its turn among the account's late ones)"""
    async with engine.pool.connection() as conn:
        timing = await turns.timing(conn, one.id, engine.settings)
    assert timing
    return timing.now, timing.turn_at


async def test_late_ones_have_their_turns_one_pace_apart_and_what_is_on_time_needs_none(
    handle: str, account: int, db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int
) -> None:
    pace = timedelta(seconds=settings.pace_s)
    *some, punctual = posts(db, settings, ada, account, handle, 4)
    for number, one in enumerate(some):
        late(db, [one], hours=3 - number)
    for number, one in enumerate(some):
        now, at = await turn_at(engine, one)
        assert at == now + number * pace
    assert await sending.publish(engine, some[0].id)
    row = db.execute("SELECT sent_at FROM deliveries WHERE id = %s", [some[0].id]).fetchone()
    assert row
    for number, one in enumerate(some[1:]):
        assert (await turn_at(engine, one))[1] == row[0] + (1 + number) * pace
    assert (await turn_at(engine, punctual))[1] is None
    assert await sending.publish(engine, punctual.id), "not held by the late one that has just gone"


async def test_what_is_gone_has_no_turn(engine: Engine) -> None:
    async with engine.pool.connection() as conn:
        assert await turns.timing(conn, 1, engine.settings) is None
    assert await sending.publish(engine, 1) is None


async def test_a_claim_refuses_what_another_late_one_has_just_overtaken(
    handle: str,
    account: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    """Both are found to have their turn; the one that is refused comes back after the pace."""
    made = posts(db, settings, ada, account, handle, 2)
    late(db, made)
    for one in made:
        assert await preparing.prepare(engine, one.id)
    sandbox.faults.add("slow", account=handle, **COMMIT, seconds=0.05, times=None)
    await asyncio.gather(*(sending.publish(engine, one.id) for one in made))
    await sweeping.sweep(engine)
    await lifetime.run_due(engine, db)
    assert [status_of(db, one) for one in made] == ["published", "ready"]
    assert db.execute("SELECT wake_at > now() + interval '5 s' FROM deliveries WHERE status = 'ready'").fetchone() == (
        True,
    )


async def test_whose_turn_it_is_is_found_without_reading_what_is_scheduled_for_later(
    handle: str, account: int, db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int
) -> None:
    [one] = posts(db, settings, ada, account, handle, 1)
    late(db, [one])
    db.execute(
        "WITH more AS (INSERT INTO posts (user_id, content, post_date, time_zone)"
        " SELECT %s, '{}', now() + interval '30 days', 'UTC' FROM generate_series(1, 5000) RETURNING id, post_date)"
        " INSERT INTO deliveries (post_id, account_id, revision, wake_at) SELECT id, %s, 1, post_date FROM more",
        [ada, account],
    )
    db.execute(b"ANALYZE deliveries; ANALYZE posts")
    async with engine.pool.connection() as conn, conn.transaction():
        await turns.timing(conn, one.id, settings)
        read = await conn.execute(
            "SELECT seq_tup_read, idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'deliveries'"
        )
        row = await read.fetchone()
    assert row
    assert sum(row) < 500, row
