"""The minutes before the date: what a preparing worker does when it is stopped, when its claim is lost, when something
unforeseen happens; and who is woken for what cannot be prepared now.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest
from structlog.testing import capture_logs

from postflow import config
from postflow import db as database
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.posts import scheduling
from postflow.publishing import preparing
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, at_step, scheduled, status_of

UPLOAD = {"method": "POST", "path": "/api/v[12]/media$"}
NOW, SOON, LATER = timedelta(0), timedelta(minutes=5), timedelta(hours=3)


Post = Callable[..., Delivery]


@pytest.fixture
def post(handle: str, account: int, db: psycopg.Connection, settings: config.Settings, ada: int) -> Post:
    """With so many pictures, at an instant from now; without a job."""

    def posted(after: timedelta = NOW, pictures: int = 1) -> Delivery:
        media = tuple(a_picture(db, ada) for _ in range(pictures))
        [delivery] = scheduled(db, settings, ada, (account,), handle, media=media, at=datetime.now(UTC) + after)
        db.execute("DELETE FROM procrastinate_jobs")
        return delivery

    return posted


def jobs(db: psycopg.Connection) -> list[tuple[str, datetime]]:
    return db.execute("SELECT task_name, scheduled_at FROM procrastinate_jobs ORDER BY id").fetchall()


def row(db: psycopg.Connection, columns: str) -> tuple[Any, ...]:
    found = db.execute(f"SELECT {columns} FROM deliveries".encode()).fetchone()
    assert found
    return found


def uploads(sandbox: Sandbox, handle: str) -> int:
    return len(sandbox.ledger.requests(account=handle, method="POST", path="/media"))


async def until_the_upload(sandbox: Sandbox, handle: str, number: int = 1) -> None:
    while uploads(sandbox, handle) < number:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


# -- stopped, or not wanted any more -------------------------------------------------------------------------------


@pytest.mark.parametrize(("after", "story"), [(NOW, "publish"), (SOON, "prepare")])
async def test_a_worker_that_is_stopped_hands_over_what_it_has_done(
    after: timedelta, story: str, handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    delivery = post(after, pictures=2)
    sandbox.faults.add("slow", account=handle, **UPLOAD, seconds=20, skip=1)
    under_way = asyncio.create_task(preparing.prepare(engine, delivery.id))
    await until_the_upload(sandbox, handle, 2)
    before = row(db, "faults, pauses, key_no, deaths")
    [kept] = row(db, "staged")
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert row(db, "status, claim, faults, pauses, key_no, deaths") == ("scheduled", None, *before)
    assert kept and row(db, "staged") == (kept,), "the first picture need not be uploaded again"
    [(woken, at)] = jobs(db)
    assert (woken, at <= database.now(db)) == (story, True)


async def test_a_worker_stopped_after_its_post_was_cancelled_says_nothing_of_it(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    delivery = post()
    sandbox.faults.add("slow", account=handle, **UPLOAD, seconds=20)
    under_way = asyncio.create_task(preparing.prepare(engine, delivery.id))
    await until_the_upload(sandbox, handle)
    with db.transaction():
        scheduling.cancel(db, ada, delivery.post_id)
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert (status_of(db, delivery), jobs(db)) == ("cancelled", [])


@pytest.mark.parametrize("step", ["preparing", "staged"])
async def test_a_post_that_was_cancelled_while_it_was_prepared_stays_cancelled(
    step: str, post: Post, db: psycopg.Connection, engine: Engine, ada: int
) -> None:
    delivery = post()
    cancels = at_step(engine, step, lambda: scheduling.cancel(db, ada, delivery.post_id))
    assert await preparing.prepare(cancels, delivery.id) is None
    assert (status_of(db, delivery), jobs(db)) == ("cancelled", [])
    assert row(db, "error, faults") == (None, 0), "no fault of anybody's"


# -- not taken -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("answer", "becomes"), [(503, ("scheduled", None, 1)), (422, ("failed", None, 0))])
async def test_what_its_network_does_not_take_is_tried_again_or_given_up_at_once(
    answer: int,
    becomes: tuple[Any, ...],
    handle: str,
    post: Post,
    db: psycopg.Connection,
    engine: Engine,
    sandbox: Sandbox,
) -> None:
    delivery = post()
    sandbox.faults.add("status", account=handle, **UPLOAD, status=answer, body="json")
    assert await preparing.prepare(engine, delivery.id) is None
    assert row(db, "status, claim, faults") == becomes
    assert [story for story, _ in jobs(db)] == ["publish"] * (becomes[0] == "scheduled")


# -- the unforeseen ------------------------------------------------------------------------------------------------


async def test_what_nobody_has_foreseen_is_a_passing_fault_and_told(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    async def breaks(_: httpx.Request) -> None:
        raise ZeroDivisionError

    delivery = post()
    engine.http.event_hooks = {"request": [breaks]}
    with capture_logs() as logged:
        assert await preparing.prepare(engine, delivery.id) is None
    assert "preparing ended unexpectedly" in [one["event"] for one in logged]
    assert row(db, "status, faults") == ("scheduled", 1)
    [(told,)] = db.execute("SELECT sentence FROM delivery_events ORDER BY id DESC LIMIT 1").fetchall()
    assert "unexpected" in told
    engine.http.event_hooks = {"request": []}
    lifetime.pass_time(db, 60)
    await lifetime.run_due(engine, db)
    assert (status_of(db, delivery), sandbox.ledger.times_published(handle)) == ("published", 1)


async def test_a_database_that_is_gone_is_no_fault_of_the_networks(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    """The lease runs out, and whoever can write goes on."""

    def goes_away() -> None:
        raise psycopg.OperationalError("the server closed the connection unexpectedly")

    delivery = post()
    with pytest.raises(psycopg.OperationalError):
        await preparing.prepare(at_step(engine, "staged", goes_away), delivery.id)
    assert row(db, "status, faults") == ("preparing", 0)
    await lifetime.to_rest(engine, db, [delivery.id])
    assert sandbox.ledger.times_published(handle) == 1


# -- the lease -----------------------------------------------------------------------------------------------------


async def leases(post: Post, db: psycopg.Connection, engine: Engine) -> tuple[datetime, datetime]:
    """Until when it had the row when it began, and when its upload was done."""
    delivery, seen = post(SOON), list[datetime]()
    looks = dataclasses.replace(
        engine,
        reached=lambda step: seen.append(row(db, "wake_at")[0]) if step in ("preparing", "checkpoint") else None,
    )
    assert await preparing.prepare(looks, delivery.id)
    return seen[0], seen[-1]


async def test_a_large_upload_keeps_its_lease(
    handle: str,
    post: Post,
    db: psycopg.Connection,
    engine: Engine,
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preparing, "RENEW_EVERY_S", 0.1)
    sandbox.faults.add("slow", account=handle, **UPLOAD, seconds=1)
    first, last = await leases(post, db, engine)
    assert last > first


async def test_a_small_upload_asks_the_database_for_nothing_besides(
    post: Post, db: psycopg.Connection, engine: Engine
) -> None:
    first, last = await leases(post, db, engine)
    assert last == first


# -- what cannot be prepared now -----------------------------------------------------------------------------------


async def test_what_is_gone_is_not_prepared(engine: Engine) -> None:
    assert await preparing.prepare(engine, 1) is None


@pytest.mark.parametrize("of_account", [True, False])
async def test_what_has_to_wait_beyond_its_date_is_woken_to_be_published_once(
    of_account: bool, post: Post, db: psycopg.Connection, engine: Engine
) -> None:
    delivery = post()
    where = "accounts SET throttled_until" if of_account else "deliveries SET not_before"
    db.execute(f"UPDATE {where} = now() + interval '5 minutes'".encode())
    [until] = row(db, "coalesce(not_before, (SELECT throttled_until FROM accounts))")
    assert await preparing.prepare(engine, delivery.id) is None
    assert jobs(db) == [("publish", until)]
    assert row(db, "status, wake_at") == ("scheduled", until), "no sweep takes it for forgotten"


@pytest.mark.parametrize(("before_its_date", "woken"), [(timedelta(microseconds=1), 1), (timedelta(0), 0)])
async def test_what_has_to_wait_until_its_date_has_the_job_of_its_date(
    before_its_date: timedelta, woken: int, post: Post, db: psycopg.Connection, engine: Engine
) -> None:
    delivery = post(SOON)
    db.execute("UPDATE deliveries SET not_before = (SELECT post_date FROM posts) - %s", [before_its_date])
    [until, wake_at] = row(db, "not_before, wake_at")
    assert await preparing.prepare(engine, delivery.id) is None
    assert jobs(db) == [("prepare", until)] * woken
    assert row(db, "wake_at") == (wake_at,)


async def test_what_waits_for_its_account_to_be_connected_again_wakes_nobody(
    post: Post, db: psycopg.Connection, engine: Engine
) -> None:
    delivery = post()
    db.execute("UPDATE accounts SET state = 'needs_reconnect', throttled_until = now() + interval '1 minute'")
    assert await preparing.prepare(engine, delivery.id) is None
    assert (status_of(db, delivery), jobs(db)) == ("scheduled", [])


async def test_what_is_ready_is_left_as_it_is_and_has_no_further_job_before_its_date(
    post: Post, db: psycopg.Connection, engine: Engine
) -> None:
    delivery = post(LATER)
    assert await preparing.prepare(engine, delivery.id)
    before = row(db, "status, status_at, staged, wake_at")
    assert await preparing.prepare(engine, delivery.id) is None
    assert row(db, "status, status_at, staged, wake_at") == before
    assert jobs(db) == []


async def test_what_is_being_prepared_is_left_to_whoever_does(
    post: Post, db: psycopg.Connection, engine: Engine
) -> None:
    delivery = post()
    db.execute("UPDATE deliveries SET status = 'preparing', claim = 'theirs', wake_at = now() + interval '1 minute'")
    before = row(db, "status, claim, wake_at")
    assert await preparing.prepare(engine, delivery.id) is None
    assert (row(db, "status, claim, wake_at"), jobs(db)) == (before, [])


# -- no room for its uploads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lateness_s", "pause_s"), [(0.0, 1.0), (1.9, 1.0), (10.0, 5.0), (-10.0, 5.0), (29.0, 14.5), (-9999.0, 15.0)]
)
def test_room_is_looked_for_the_sooner_the_closer_the_date(lateness_s: float, pause_s: float) -> None:
    assert preparing.room_s(lateness_s) == pause_s


async def test_what_finds_no_room_comes_back_about_then(post: Post, db: psycopg.Connection, engine: Engine) -> None:
    delivery = post(SOON)
    before = database.now(db)
    with engine.uploads.admitted("https://elsewhere.example", 2):
        few = dataclasses.replace(engine, settings=engine.settings.model_copy(update={"concurrency": 2}))
        assert await preparing.prepare(few, delivery.id) is None
    [(story, at)] = jobs(db)
    pause = timedelta(seconds=preparing.MOST_ROOM_S)
    assert story == "prepare"
    assert before + 0.75 * pause <= at <= database.now(db) + 1.25 * pause
