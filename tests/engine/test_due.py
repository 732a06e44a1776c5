"""What is asked about rows beside their arrows: each answer, and its opposite."""

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from postflow import config
from postflow import db as database
from postflow.engine import Engine
from postflow.models import Delivery, DeliveryStatus
from postflow.publishing import due, transitions
from sandbox import Sandbox
from tests.engine.conftest import a_picture, scheduled

SENT = "staged = '{}', attempt_no = 1, sent_at = now(), first_sent_at = now()"
OUT = f"status = 'published', wake_at = NULL, published_at = now(), {SENT}"


@pytest.fixture
def two(db: psycopg.Connection, settings: config.Settings, ada: int, account: int) -> tuple[Delivery, Delivery]:
    """The second is a reply to the first: one thread."""
    first, second = scheduled(db, settings, ada, (account,), "asked about", thread=("and its second part",))
    return first, second


def change(db: psycopg.Connection, one: Delivery, columns: str) -> None:
    db.execute(f"UPDATE deliveries SET {columns} WHERE id = {one.id}".encode())


async def asked(engine: Engine, question: Any, one: Delivery, *more: Any) -> Any:
    async with engine.pool.connection() as conn:
        row = await transitions.get(conn, one.id)
        assert row
        return await question(conn, row, *more)


# -- of one row ----------------------------------------------------------------------------------------------------


async def test_where_its_pictures_go_is_known_of_what_has_any_and_is_to_be_prepared(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int, account: int
) -> None:
    [picture] = scheduled(db, settings, ada, (account,), "with a picture", media=(a_picture(db, ada),))
    [text] = scheduled(db, settings, ada, (account,), "without")
    async with engine.pool.connection() as conn:
        assert await due.uploads_to(conn, picture.id) == sandbox.url("mastodon")
        assert await due.uploads_to(conn, text.id) is None
        assert await due.uploads_to(conn, text.id + 1) is None
        change(db, picture, "status = 'ready', staged = '{}'")
        assert await due.uploads_to(conn, picture.id) is None


async def test_the_longest_lease_of_all_its_requests_is_known(
    db: psycopg.Connection, engine: Engine, two: tuple[Delivery, Delivery]
) -> None:
    assert await asked(engine, due.longest_lease_s, two[0]) == 0.0
    for one, lease_s in ((two[0], 20), (two[0], 65.5), (two[0], 45), (two[1], 99)):
        db.execute(
            "INSERT INTO delivery_events (delivery_id, status, sentence, detail)"
            " VALUES (%s, 'sending', 'Sending.', jsonb_build_object('lease_s', %s::float8))",
            [one.id, lease_s],
        )
    assert await asked(engine, due.longest_lease_s, two[0]) == 65.5


@pytest.mark.parametrize(
    ("date", "is_due"), [(timedelta(0), True), (timedelta(microseconds=1), False), (timedelta(days=-1), True)]
)
def test_it_is_due_from_its_date_on(date: timedelta, is_due: bool) -> None:
    now = datetime.now(UTC)
    row = due.Overslept(id=1, status=DeliveryStatus.scheduled, post_date=now + date, wake_at=None)
    assert row.is_due(now) is is_due


async def test_the_same_words_are_added_to_its_story_once(
    db: psycopg.Connection, engine: Engine, two: tuple[Delivery, Delivery]
) -> None:
    async with engine.pool.connection() as conn:
        for one, words in ((two[0], "It waits."), (two[0], "It waits."), (two[0], "Still."), (two[1], "It waits.")):
            await due.note(conn, one.id, words)
    told = db.execute(
        "SELECT delivery_id, status, sentence FROM delivery_events WHERE sentence IN ('It waits.', 'Still.') ORDER BY id"
    ).fetchall()
    assert told == [
        (two[0].id, "scheduled", "It waits."),
        (two[0].id, "scheduled", "Still."),
        (two[1].id, "scheduled", "It waits."),
    ]


# -- of others beside it -------------------------------------------------------------------------------------------


async def test_what_others_of_the_account_are_known_to_be_is_taken(
    db: psycopg.Connection, engine: Engine, two: tuple[Delivery, Delivery]
) -> None:
    mine, other = two
    change(db, mine, f"status = 'unknown', {SENT}")
    assert await asked(engine, due.taken_remote_ids, mine) == frozenset()
    change(db, other, f"remote_id = '77', {OUT}")
    assert await asked(engine, due.taken_remote_ids, mine) == {"77"}


async def test_a_part_waits_for_the_part_before_it_until_that_is_out(
    db: psycopg.Connection, engine: Engine, two: tuple[Delivery, Delivery]
) -> None:
    first, second = two
    assert await asked(engine, due.waits_for_its_part_before, first) is False
    assert await asked(engine, due.waits_for_its_part_before, second) is True
    change(db, first, f"remote_id = '77', {OUT}")
    assert await asked(engine, due.waits_for_its_part_before, second) is False


async def test_one_that_could_be_taken_for_it_and_is_out_as_nobody_knows_what_is_its_rival(
    db: psycopg.Connection, engine: Engine, two: tuple[Delivery, Delivery]
) -> None:
    mine, other = two
    change(db, mine, f"status = 'unknown', likeness = 'same', {SENT}")
    change(db, other, f"likeness = 'another', {OUT}")
    assert await asked(engine, due.is_rivalled, mine) is False
    change(db, other, "likeness = 'same'")
    assert await asked(engine, due.is_rivalled, mine) is True


async def test_one_that_could_be_taken_for_it_is_in_doubt_as_long_as_it_is_looked_for(
    db: psycopg.Connection, engine: Engine, two: tuple[Delivery, Delivery]
) -> None:
    mine, other = two
    change(db, other, f"status = 'unknown', likeness = 'same', {SENT}")
    assert await asked(engine, due.alike_in_doubt, mine, "same") is True
    assert await asked(engine, due.alike_in_doubt, mine, "another") is False
    change(db, other, f"remote_id = '77', {OUT}")
    assert await asked(engine, due.alike_in_doubt, mine, "same") is False


# -- what overslept ------------------------------------------------------------------------------------------------


async def test_leases_that_ran_out_and_are_still_there_are_counted(
    db: psycopg.Connection, engine: Engine, two: tuple[Delivery, Delivery]
) -> None:
    now = database.now(db)
    async with engine.pool.connection() as conn:
        assert await due.held(conn, now) == 0
        for held, one in enumerate(two, 1):
            change(db, one, "status = 'preparing', claim = 'silent', wake_at = now() - interval '1 minute'")
            assert await due.held(conn, now) == held
        assert await due.held(conn, now - timedelta(hours=1)) == 0


async def test_what_lost_its_worker_is_handed_over_and_nothing_else(
    db: psycopg.Connection, engine: Engine, two: tuple[Delivery, Delivery]
) -> None:
    first, second = two
    async with engine.pool.connection() as conn:
        assert await due.drop_preparing(conn, 60) == []
        change(db, first, "status = 'preparing', claim = 'silent', wake_at = now() - interval '1 minute'")
        change(db, second, "status = 'preparing', claim = 'at work', wake_at = now() + interval '59 s'")
        [dropped] = await due.drop_preparing(conn, 60)
        assert (dropped.id, dropped.status) == (first.id, DeliveryStatus.scheduled)
        change(db, first, f"status = 'sending', claim = 'silent', wake_at = now() - interval '1 s', {SENT}")
        look_at = database.now(db) + timedelta(seconds=30)
        [lost] = await due.lose_sending(conn, look_at)
        assert (lost.id, lost.status, lost.wake_at) == (first.id, DeliveryStatus.unknown, look_at)
        assert await due.lose_sending(conn, look_at) == []


async def test_what_was_changed_in_the_future_is_set_back_and_counted(
    db: psycopg.Connection, engine: Engine, two: tuple[Delivery, Delivery]
) -> None:
    async with engine.pool.connection() as conn:
        assert await due.set_back(conn) == 0
        change(db, two[0], f"status = 'unknown', status_at = now() + interval '1 hour', {SENT}")
        assert await due.set_back(conn) == 1
        assert await due.set_back(conn) == 0


async def test_what_has_no_job_any_more_is_taken_up(
    db: psycopg.Connection, engine: Engine, two: tuple[Delivery, Delivery]
) -> None:
    change(db, two[0], "wake_at = now() - interval '1 minute'")
    async with engine.pool.connection() as conn:
        assert await due.overslept(conn) == [], "its job waits for a worker"
        db.execute("DELETE FROM procrastinate_jobs")
        [asleep] = await due.overslept(conn)
        assert (asleep.id, asleep.status) == (two[0].id, DeliveryStatus.scheduled)
        assert await due.overslept(conn) == []
