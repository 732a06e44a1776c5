"""What was learned is never thrown away: an answer outlives the session, and sometimes the claim, that was to write it down;
and a worker that knows that nothing has left says so.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable
from typing import Any, LiteralString

import psycopg
import pytest

from postflow import config
from postflow import db as database
from postflow.engine import Engine
from postflow.models import Delivery, DeliveryStatus, Receipt
from postflow.posts import deliveries
from postflow.publishing import outcomes, preparing, sending, sweeping, transitions
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of


@contextlib.asynccontextmanager
async def answering_badly(engine: Engine, when: LiteralString, broken: Callable[[], None]) -> AsyncIterator[Engine]:
    """The same engine on a pool whose connections break, once, as the answer to the first statement that holds `when` is
    read: the database has done what it was told.
    """
    told = list[str]()

    class Breaking(psycopg.AsyncConnection[Any]):
        said = ""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.cursor_factory = Cursor

        async def wait(self, *args: Any, **options: Any) -> Any:
            answer = await super().wait(*args, **options)
            if when in self.said and not told:
                told.append(when)
                await self.close()
                broken()
            return answer

    class Cursor(psycopg.AsyncCursor[Any]):
        async def execute(self, query: Any, *args: Any, **options: Any) -> Any:
            self.connection.said = str(query)  # pyright: ignore[reportAttributeAccessIssue]
            return await super().execute(query, *args, **options)

    url = engine.settings.database_url.get_secret_value()
    pool = database.async_pool(url)
    pool.connection_class = Breaking
    async with pool:
        yield dataclasses.replace(engine, pool=pool)
    assert told, "nothing has broken"


def gone() -> None:
    raise psycopg.OperationalError("the connection is closed")


CLAIM: LiteralString = "SET status = 'sending'"
PUBLISHED: LiteralString = "SET status = 'published'"


async def test_an_answer_is_written_down_though_the_session_ends_just_then(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "gotosocial", "written-again")
    [delivery] = scheduled(db, settings, ada, (account,), "its answer is written down again")
    async with answering_badly(engine, PUBLISHED, gone) as breaking:
        assert await sending.publish(breaking, delivery.id)
    assert status_of(db, delivery) == "published"
    assert sandbox.ledger.times_published("its answer is written down again") == 1
    told = [event.status for event in deliveries.events(db, ada, delivery.post_id)]
    assert told.count(DeliveryStatus.published) == 1


async def test_a_commit_that_came_through_unheard_is_no_other_story(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "unheard-twice")
    [delivery] = scheduled(db, settings, ada, (account,), "written down twice")
    published = await sending.publish(engine, delivery.id)
    assert published
    receipt = Receipt(remote_id=published.remote_id, permalink=published.permalink)
    assert await outcomes._write_published(engine, published, receipt, found=False)
    assert [event.status for event in deliveries.events(db, ada, delivery.post_id)].count(DeliveryStatus.published) == 1


@pytest.mark.parametrize("instance", ["gotosocial", "pixelfed"])
async def test_an_intent_whose_commit_goes_unheard_is_taken_back_and_nothing_is_unknown(
    instance: str, db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, instance, f"unheard-{instance}")
    text = f"its intent went unheard on {instance}"
    [delivery] = scheduled(db, settings, ada, (account,), text, media=(a_picture(db, ada),))
    async with answering_badly(engine, CLAIM, gone) as breaking:
        with pytest.raises(psycopg.OperationalError):
            await sending.publish(breaking, delivery.id)
    assert status_of(db, delivery) == "scheduled"
    await lifetime.to_rest(engine, db, [delivery.id])
    assert status_of(db, delivery) == "published" and sandbox.ledger.times_published(text) == 1
    assert "unknown" not in [event.status for event in deliveries.events(db, ada, delivery.post_id)]


async def test_an_intent_that_went_unheard_for_so_long_that_it_was_taken_for_sent_is_taken_back_all_the_same(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "gotosocial", "unheard-for-long")
    [delivery] = scheduled(db, settings, ada, (account,), "its intent went unheard for long")

    def gone_for_long() -> None:
        db.execute("UPDATE deliveries SET status = 'unknown', claim = NULL, status_at = clock_timestamp()")
        gone()

    async with answering_badly(engine, CLAIM, gone_for_long) as breaking:
        with pytest.raises(psycopg.OperationalError):
            await sending.publish(breaking, delivery.id)
    assert status_of(db, delivery) == "scheduled"
    lifetime.pass_time(db, 5)
    await lifetime.run_due(engine, db)
    assert sandbox.ledger.times_published("its intent went unheard for long") == 1


async def test_a_worker_told_to_stop_right_after_its_claim_takes_it_back(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "pixelfed", "stopped-at-the-claim")
    [delivery] = scheduled(db, settings, ada, (account,), "stopped right after its claim", media=(a_picture(db, ada),))

    def stopped() -> None:
        raise asyncio.CancelledError

    async with answering_badly(engine, CLAIM, stopped) as breaking:
        with pytest.raises(asyncio.CancelledError):
            await sending.publish(breaking, delivery.id)
    assert status_of(db, delivery) == "scheduled"
    assert sandbox.ledger.times_published("stopped right after its claim") == 0


# -- answers that come late ----------------------------------------------------------------------------------


async def sent(
    db: psycopg.Connection, engine: Engine, user_id: int, account: int, text: str, media: tuple[int, ...] = ()
) -> Delivery:
    """A request is under way, and its lease is over."""
    [delivery] = scheduled(db, engine.settings, user_id, (account,), text, media=media)
    ready = await preparing.prepare(engine, delivery.id)
    assert ready
    async with engine.pool.connection() as conn:
        under_way = await transitions.claim_to_send(conn, ready, "frozen", 0, "alike", None, pace_s=0)
    assert under_way
    await sweeping.sweep(engine)
    assert status_of(db, delivery) == "unknown"
    return under_way


async def test_a_late_answer_keeps_what_was_to_be_sent_again_from_going_out_twice(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "gotosocial", "answered-late")
    under_way = await sent(db, engine, ada, account, "answered after it was held to be absent")
    db.execute("UPDATE deliveries SET status = 'scheduled', first_sent_at = NULL WHERE id = %s", [under_way.id])
    async with engine.pool.connection() as conn:
        done = await transitions.mark_published(
            conn, under_way, Receipt(remote_id="late"), sentence="Published.", lookup=False
        )
    assert done and done.remote_id == "late"
    await lifetime.to_rest(engine, db, [under_way.id])
    assert sandbox.ledger.times_published("answered after it was held to be absent") == 0


async def test_a_late_refusal_is_told_and_nobody_has_to_look(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "pixelfed", "nothing-left-late")
    under_way = await sent(db, engine, ada, account, "nothing of it had left, told late", (a_picture(db, ada),))
    given: dict[str, Any] = {
        "not_before": None,
        "faults": 1,
        "pauses": 0,
        "restage": False,
        "new_key": False,
        "detail": {},
    }
    async with engine.pool.connection() as conn:
        newer = under_way.model_copy(update={"attempt_no": under_way.attempt_no - 1})
        assert await transitions.give_back(conn, newer, "frozen", sentence="Nothing left.", **given) is None
        moved = await transitions.give_back(conn, under_way, "frozen", sentence="Nothing left.", **given)
    assert moved and moved.first_sent_at is None and moved.status == "scheduled"


async def test_a_late_answer_to_other_words_is_not_taken_for_an_answer_to_these(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    """Its person said that it is not there and changed it; the second request's answer is lost as well."""
    account = await an_account(db, engine, sandbox, ada, "gotosocial", "other-words")
    under_way = await sent(db, engine, ada, account, "the first words")
    db.execute("UPDATE posts SET revision = 2 WHERE id = %s", [under_way.post_id])
    db.execute(
        "UPDATE deliveries SET revision = 2, attempt_no = 2, status_at = clock_timestamp() WHERE id = %s",
        [under_way.id],
    )
    receipt = Receipt(remote_id="former", permalink="https://social.example/former")
    assert await outcomes._write_published(engine, under_way, receipt, found=False) is None
    assert status_of(db, under_way) == "unknown"
    story = [event.sentence for event in deliveries.events(db, ada, under_way.post_id)]
    assert story[-1] == "An earlier request for it was answered after all: it is out as https://social.example/former."
