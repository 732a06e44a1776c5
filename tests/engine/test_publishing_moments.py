"""Between a wake-up and its request, and between the request and its answer: what happens to the row just then."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import psycopg
import pytest
from psycopg_pool import PoolTimeout
from structlog.testing import capture_logs

from postflow import config
from postflow import db as database
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.posts import scheduling
from postflow.publishing import due, outgoing, preparing, sending, turns
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, at_step, scheduled, status_of
from tests.engine.test_outcomes import jobs

COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}


Post = Callable[..., Delivery]


@pytest.fixture
def post(handle: str, account: int, db: psycopg.Connection, settings: config.Settings, ada: int) -> Post:
    """Due, without a job."""

    def posted(text: str = "", pictures: int = 0) -> Delivery:
        media = tuple(a_picture(db, ada) for _ in range(pictures))
        [delivery] = scheduled(db, settings, ada, (account,), f"{handle} {text}".strip(), media=media)
        db.execute("DELETE FROM procrastinate_jobs")
        return delivery

    return posted


def row(db: psycopg.Connection, columns: str) -> tuple[Any, ...]:
    found = db.execute(f"SELECT {columns} FROM deliveries ORDER BY id LIMIT 1".encode()).fetchone()
    assert found
    return found


def uploads(sandbox: Sandbox, handle: str) -> int:
    return len(sandbox.ledger.requests(account=handle, method="POST", path="/media"))


def sent(sandbox: Sandbox, handle: str) -> int:
    return len(sandbox.ledger.requests(account=handle, method="POST", path="/statuses"))


async def a_ready_one(post: Post, db: psycopg.Connection, engine: Engine) -> Delivery:
    """With a picture that was uploaded some minutes ago."""
    ready = await preparing.prepare(engine, post(pictures=1).id)
    assert ready
    db.execute("DELETE FROM procrastinate_jobs")
    db.execute(
        "UPDATE deliveries SET staged = jsonb_set(staged, '{uploads,0,uploaded_at}',"
        " to_jsonb(now() - interval '5 minutes'))"
    )
    return ready


# -- what was prepared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "times"), [(timedelta(hours=19), 1), (timedelta(hours=21), 2)])
async def test_what_was_prepared_is_sent_as_it_is_unless_it_is_too_old(
    age: timedelta, times: int, handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    delivery = post(pictures=1)
    assert await preparing.prepare(engine, delivery.id)
    db.execute("UPDATE deliveries SET staged_at = staged_at - %s", [age])
    assert await sending.publish(engine, delivery.id)
    assert (uploads(sandbox, handle), sandbox.ledger.times_published(handle)) == (times, 1)


async def test_what_was_begun_long_ago_and_never_became_ready_is_prepared_to_its_end(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    delivery = post(pictures=1)
    assert await preparing.prepare(engine, delivery.id)
    db.execute("UPDATE deliveries SET status = 'scheduled', staged_at = staged_at - interval '21 hours'")
    assert await sending.publish(engine, delivery.id)
    assert sandbox.ledger.times_published(handle) == 1


async def test_an_upload_that_is_lost_is_told_and_the_post_woken_to_upload_it_again(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    delivery = await a_ready_one(post, db, engine)
    [key] = row(db, "staged->'uploads'->0->>'remote_id'")
    sandbox.network.store.uploads[key].deleted = True
    assert await sending.publish(engine, delivery.id) is None
    assert row(db, "status, staged, attempt_no") == ("scheduled", None, 0)
    assert [(story, of) for story, of, at in jobs(db) if at <= database.now(db)] == [("publish", delivery.id)]
    assert sent(sandbox, handle) == 0


@pytest.mark.parametrize(("instant", "until"), [(100.0, 99.98), (50.0, 51.0), (10.0, 51.0)])
def test_uploads_are_asked_about_until_right_before_the_date_or_for_a_second(instant: float, until: float) -> None:
    assert sending.asked_until(instant, 50.0) == until


# -- somebody else has a word --------------------------------------------------------------------------------------


async def test_what_is_cancelled_once_all_is_ready_asks_nothing_of_its_network_any_more(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    delivery = post(pictures=1)
    cancels = at_step(engine, "ready", lambda: scheduling.cancel(db, ada, delivery.post_id))
    assert await sending.publish(cancels, delivery.id) is None
    assert status_of(db, delivery) == "cancelled"
    assert [one.path for one in sandbox.ledger.requests(account=handle) if "/media/" in one.path] == []
    assert sent(sandbox, handle) == 0


async def test_what_is_gone_once_all_is_ready_is_nobodys_fault(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    delivery = post()
    removes = at_step(engine, "ready", lambda: db.execute("DELETE FROM posts"))
    assert await sending.publish(removes, delivery.id) is None
    assert sent(sandbox, handle) == 0


def while_asked_after_its_uploads(engine: Engine, do: Callable[[], Any]) -> Engine:
    """All is read, and the claim comes next."""

    async def asked(request: httpx.Request) -> None:
        if request.method == "GET" and "/media/" in request.url.path:
            do()

    engine.http.event_hooks = {"request": [asked]}
    return engine


async def test_what_is_cancelled_right_before_its_claim_wakes_nobody(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    delivery = await a_ready_one(post, db, engine)
    cancels = while_asked_after_its_uploads(engine, lambda: scheduling.cancel(db, ada, delivery.post_id))
    assert await sending.publish(cancels, delivery.id) is None
    assert (status_of(db, delivery), sent(sandbox, handle), jobs(db)) == ("cancelled", 0, [])


async def test_what_is_gone_right_before_its_claim_is_nobodys_fault(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    delivery = await a_ready_one(post, db, engine)
    removes = while_asked_after_its_uploads(engine, lambda: db.execute("DELETE FROM posts"))
    assert await sending.publish(removes, delivery.id) is None
    assert (sent(sandbox, handle), jobs(db)) == (0, [])


async def test_a_server_that_cannot_tell_of_its_uploads_is_sent_the_post_all_the_same(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    delivery = await a_ready_one(post, db, engine)
    fault = sandbox.faults.add("status", account=handle, method="GET", path="/api/v1/media/", status=503)
    assert await sending.publish(engine, delivery.id)
    assert (fault.hits, sandbox.ledger.times_published(handle)) == (1, 1)


# -- not now -------------------------------------------------------------------------------------------------------


async def test_what_has_to_wait_is_woken_when_that_is_over_and_taken_for_forgotten_by_nobody(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    delivery = post()
    db.execute("UPDATE deliveries SET not_before = now() + interval '5 minutes'")
    [until] = row(db, "not_before")
    assert await sending.publish(engine, delivery.id) is None
    assert row(db, "status, wake_at") == ("scheduled", until)
    assert (jobs(db), sent(sandbox, handle)) == ([("publish", delivery.id, until)], 0)


async def test_where_something_may_be_forgotten_it_is_looked_for_and_not_sent(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    delivery = post()
    db.execute("UPDATE lineage SET mark = 'another'")
    assert await sending.publish(engine, delivery.id) is None
    assert (status_of(db, delivery), sent(sandbox, handle)) == ("unknown", 0)


# -- put off -------------------------------------------------------------------------------------------------------


async def test_what_cannot_be_gathered_for_now_is_put_off_and_the_accounts_next_has_its_turn(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    first, second = post("one"), post("two")
    for one in (first, second):
        assert await preparing.prepare(engine, one.id)
    db.execute("DELETE FROM procrastinate_jobs")
    db.execute("DELETE FROM servers")
    before = database.now(db)
    assert await sending.publish(engine, first.id) is None
    after, pause = database.now(db), timedelta(seconds=outgoing.PUT_OFF_S)
    status, wake_at = row(db, "status, wake_at")
    assert (status, sent(sandbox, handle)) == ("ready", 0)
    assert before + pause <= wake_at <= after + pause
    [mine, theirs] = jobs(db)
    assert mine == ("publish", first.id, wake_at)
    assert theirs[:2] == ("publish", second.id) and theirs[2] <= after


async def test_what_cannot_be_gathered_any_more_is_given_up_before_anything_is_sent(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    await a_ready_one(post, db, engine)
    db.execute("DELETE FROM media_files")
    assert await sending.publish(engine, 1) is None
    assert row(db, "status, error_code") == ("failed", "media_gone")
    assert sent(sandbox, handle) == 0


# -- the claim -----------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def refusing(how: str, engine: Engine) -> AsyncIterator[Engine]:
    """Its database takes no claim, and says so."""
    url = engine.settings.database_url.get_secret_value()
    if how == "read-only":
        url = f"{url}{'&' if '?' in url else '?'}options=-c%20default_transaction_read_only%3Don"
    async with (
        database.async_pool(url, max_size=1) as pool,
        pool.connection() if how == "full" else contextlib.nullcontext(),
    ):
        pool.timeout = 0.1
        yield dataclasses.replace(engine, pool=pool)


@pytest.mark.parametrize(
    ("how", "error"), [("read-only", psycopg.errors.ReadOnlySqlTransaction), ("full", PoolTimeout)]
)
async def test_a_claim_that_was_not_made_is_not_taken_back(
    how: str, error: type[Exception], post: Post, db: psycopg.Connection, engine: Engine
) -> None:
    """That would be tried for an hour, as long as the database takes nothing."""
    delivery = await a_ready_one(post, db, engine)
    parcel = await outgoing.gather(engine.pool, delivery, engine.settings, with_data=False)
    async with refusing(how, engine) as refused:
        with pytest.raises(error):
            await sending._claim_to_send(refused, delivery, "mine", parcel)
    assert (row(db, "status, attempt_no"), jobs(db)) == (("ready", 0), [])


@pytest.mark.parametrize("in_doubt", [True, False])
async def test_it_waits_only_while_one_that_is_alike_is_in_doubt(
    in_doubt: bool, post: Post, db: psycopg.Connection, engine: Engine
) -> None:
    delivery = await a_ready_one(post, db, engine)
    parcel = await outgoing.gather(engine.pool, delivery, engine.settings, with_data=False)
    other = post("alike")
    db.execute(
        "UPDATE deliveries SET status = 'unknown', staged = '{}', attempt_no = 1, sent_at = now(), first_sent_at = now(),"
        " likeness = %s WHERE id = %s",
        [parcel.likeness if in_doubt else "another", other.id],
    )
    before, as_it_was = database.now(db), row(db, "wake_at, not_before, error_code")
    assert await sending._waits_for_alike(engine, delivery, parcel) is in_doubt
    now, after = row(db, "wake_at, not_before, error_code"), database.now(db)
    told = db.execute("SELECT count(*) FROM delivery_events WHERE sentence = %s", [sending.WAITS_FOR_ALIKE]).fetchone()
    if in_doubt:
        assert before <= now[0] - timedelta(seconds=sending.ALIKE_S) <= after
        assert (now[1:], told, jobs(db)) == ((now[0], due.ALIKE), (1,), [("publish", delivery.id, now[0])])
    else:
        assert (now, told, jobs(db)) == (as_it_was, (0,), [])


# -- too late ------------------------------------------------------------------------------------------------------


async def test_whoever_runs_it_reads_what_was_missed_and_by_how_much(
    post: Post, db: psycopg.Connection, engine: Engine
) -> None:
    delivery = post()
    db.execute("UPDATE posts SET post_date = now() - interval '9 hours'")
    with capture_logs() as told:
        assert await sending.publish(engine, delivery.id) is None
    [missed] = [one for one in told if one["event"] == "missed"]
    assert missed["delivery"] == delivery.id and missed["late_s"] >= 9 * 3600
    error = row(db, "error")[0]
    assert error.startswith("It could not be published in time and is 9:00:0"), error
    assert db.execute("SELECT kind FROM notices").fetchall() == [("delivery-missed",)]


OLDER_VERDICTS: dict[str, tuple[str, Callable[[Engine, turns.Timing], Awaitable[None]]]] = {
    "missed": ("UPDATE posts SET post_date = now() - interval '9 hours'", sending._missed),
    "its account disconnected": ("UPDATE accounts SET state = 'disconnected', sealed = NULL", sending._cut_off),
}


@pytest.mark.parametrize("verdict", OLDER_VERDICTS)
async def test_what_its_person_changes_in_the_last_moment_is_not_ended_by_an_older_verdict_and_nobody_says_so(
    verdict: str, post: Post, db: psycopg.Connection, engine: Engine
) -> None:
    delivery = post()
    change, ends = OLDER_VERDICTS[verdict]
    db.execute(change.encode())
    async with engine.pool.connection() as conn:
        judged = await turns.timing(conn, delivery.id, engine.settings)
    assert judged
    db.execute("UPDATE deliveries SET status_at = clock_timestamp()")
    with capture_logs() as told:
        await ends(engine, judged)
    assert (status_of(db, delivery), told) == ("scheduled", [])
    assert db.execute("SELECT kind FROM notices").fetchall() == []


# -- the answer ----------------------------------------------------------------------------------------------------


async def test_an_answer_that_takes_too_long_is_lost_and_looked_for(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    delivery = post()
    hasty = dataclasses.replace(engine, settings=engine.settings.model_copy(update={"request_timeout_s": 0.8}))
    sandbox.faults.add("slow", account=handle, **COMMIT, seconds=1.5, when="after")
    assert await sending.publish(hasty, delivery.id) is None
    assert row(db, "status, error_code") == ("unknown", "answer_lost")
    sandbox.wait_until_idle()
    await lifetime.to_rest(engine, db, [delivery.id])
    assert (status_of(db, delivery), sandbox.ledger.times_published(handle)) == ("published", 1)


async def test_what_did_not_leave_in_time_need_not_be_looked_for(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    async def stands_still(_: httpx.Request) -> None:
        await asyncio.sleep(60)

    delivery = post()
    hasty = dataclasses.replace(engine, settings=engine.settings.model_copy(update={"request_timeout_s": 0.1}))
    engine.commit_http.event_hooks = {"request": [stands_still]}
    assert await sending.publish(hasty, delivery.id) is None
    assert (status_of(db, delivery), sent(sandbox, handle)) == ("scheduled", 0)


async def test_a_worker_that_is_stopped_while_its_request_is_under_way_leaves_it_to_be_looked_for(
    handle: str, post: Post, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    delivery = post()
    sandbox.faults.add("slow", account=handle, **COMMIT, seconds=2, when="after")
    under_way = asyncio.create_task(sending.publish(engine, delivery.id))
    while not sent(sandbox, handle):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert row(db, "status, error_code") == ("unknown", "worker_stopped")
    assert "stopped while it was sending" in row(db, "error")[0]
    sandbox.wait_until_idle()
    await lifetime.to_rest(engine, db, [delivery.id])
    assert (status_of(db, delivery), sandbox.ledger.times_published(handle)) == ("published", 1)


async def test_what_nobody_has_foreseen_leaves_it_to_be_looked_for(
    post: Post, db: psycopg.Connection, engine: Engine
) -> None:
    async def breaks(_: httpx.Request) -> None:
        raise ZeroDivisionError

    delivery = post()
    engine.commit_http.event_hooks = {"request": [breaks]}
    with capture_logs() as told:
        assert await sending.publish(engine, delivery.id) is None
    assert row(db, "status, error_code") == ("unknown", "unexpected")
    assert "commit ended unexpectedly" in [one["event"] for one in told]


@pytest.mark.parametrize(
    ("end", "unheard"),
    [
        (psycopg.OperationalError("the connection is lost"), True),
        (psycopg.errors.ConnectionFailure("08006"), True),
        (psycopg.errors.AdminShutdown("57P01"), True),
        (asyncio.CancelledError(), True),
        (psycopg.errors.DiskFull("53100"), False),
        (psycopg.errors.ReadOnlySqlTransaction("25006"), False),
    ],
)
def test_a_statement_that_the_database_refused_in_its_own_words_did_nothing(end: BaseException, unheard: bool) -> None:
    assert sending._is_unheard(end) is unheard
