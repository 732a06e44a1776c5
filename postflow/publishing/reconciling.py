"""The story after a lost answer: unknown → published | scheduled | attention. It asks the network, and sends nothing."""

import asyncio
import contextlib
import secrets
from datetime import datetime, timedelta

import structlog
from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from pydantic import BaseModel, ValidationError

from postflow import db
from postflow.connections import access
from postflow.engine import DATABASE_GONE, Engine
from postflow.errors import PublishError, Refused, Retry
from postflow.http import deadline
from postflow.models import Attempt, Delivery, Found, LookAgain, SafeToResend, Undecidable
from postflow.notifications import notices
from postflow.platforms.base import Platform
from postflow.publishing import due, outcomes, outgoing, restoring, transitions

log = structlog.stdlib.get_logger("postflow.publishing.reconciling")

#: A look may last as long as so many requests, and ends so long before its lease does.
LOOK_REQUESTS, LOOK_MARGIN_S = 4, 5.0
#: Between two looks: whether the part before it is found out, after another was found to be it, and where nothing else says.
PART_S, TAKEN_S, AGAIN_S = 30.0, 30.0, 600.0
#: After so long what nobody could look up is its person's to decide.
LONGEST = timedelta(days=1)
NAMED_ANOTHER = (
    "The server answered with a post that PostFlow knows as another one of this account, and shows no second one: of two posts"
    " in the same words, one is out."
)

#: By `error_code`: what is absent is its person's to decide, whatever a network says of a repeat. What was forgotten may have
#: been sent long ago, and a key that is used up would be answered in the same way.
_NEVER_AGAIN = {restoring.RESTORED: restoring.NOT_FOUND, outcomes.NAMES_ANOTHER: NAMED_ANOTHER}


async def reconcile(engine: Engine, delivery_id: int) -> Delivery | None:
    """Asks the network whether it went out. Returns the row when it is decided."""
    claim = secrets.token_hex()
    look_s = engine.settings.request_timeout_s * LOOK_REQUESTS
    async with engine.pool.connection() as conn:
        delivery = await transitions.claim_to_look(conn, delivery_id, claim, look_s + LOOK_MARGIN_S)
        if delivery is None:
            return None
        comes_later, now = await due.waits_for_its_part_before(conn, delivery), await db.async_now(conn)
    if comes_later:
        return await _decided(engine, delivery, claim, _after_the_part_before(delivery, now))
    engine.reached("looking")
    try:
        platform, parcel = await outgoing.gathered(engine, delivery, with_data=False)
        staged = _staged(platform, delivery)
        attempt = await _known(engine, delivery)
        async with asyncio.timeout(look_s), access.watched(engine, parcel.login):
            verdict = await platform.reconcile(engine.http, parcel, staged, attempt)
        engine.reached("looked")
        if isinstance(verdict, Found):
            return await outcomes.published(engine, delivery, None, platform, parcel, verdict.receipt)
        return await _decided(engine, delivery, claim, verdict)
    except PublishError as error:
        return await _cannot_look(engine, delivery, claim, error)
    except asyncio.CancelledError:
        await _hand_back(engine, delivery, claim)
        raise
    except DATABASE_GONE:
        raise
    except UniqueViolation:  # another delivery with the same words was found to be it at the same instant
        return await _cannot_look(engine, delivery, claim, _taken())
    except TimeoutError:
        return await _cannot_look(engine, delivery, claim, _slow())
    except Exception as error:
        log.exception("looking ended unexpectedly", delivery=delivery.id)
        return await _cannot_look(
            engine, delivery, claim, outcomes.unmapped(error, "PostFlow looked whether it is out")
        )


async def _known(engine: Engine, delivery: Delivery) -> Attempt:
    assert delivery.first_sent_at, "the table keeps it of each that is unknown"
    async with engine.pool.connection() as conn:
        theirs_s = deadline.timeout_s(await due.longest_lease_s(conn, delivery))
        return Attempt(
            attempt_no=delivery.attempt_no,
            first_sent_at=delivery.first_sent_at,
            sent_at=_sent_at(delivery),
            looks=delivery.looks,
            absent_looks=delivery.absent_looks,
            first_absent_at=delivery.first_absent_at,
            error_code=delivery.error_code or "",
            still_ours_s=deadline.still_ours_s(max(theirs_s, engine.settings.request_timeout_s)),
            taken_remote_ids=await due.taken_remote_ids(conn, delivery),
            rivalled=await due.is_rivalled(conn, delivery),
            now=await db.async_now(conn),
        )


def _sent_at(delivery: Delivery) -> datetime:
    assert delivery.sent_at, "the table keeps it of each that is unknown"
    return delivery.sent_at


def _staged(platform: Platform, delivery: Delivery) -> BaseModel:
    """What the database has forgotten was prepared, or not yet when it was written: then it is looked for without."""
    staged = outgoing.staged_state(platform, delivery)
    if staged is None and delivery.error_code in restoring.IN_DOUBT:
        with contextlib.suppress(ValidationError):
            staged = platform.staged_model()
    if staged is None:
        raise Refused("What was prepared for it is gone.", code="stage_lost")
    return staged


def _after_the_part_before(delivery: Delivery, now: datetime) -> LookAgain | Undecidable:
    """Only what the part before is known as tells which status would be this one."""
    if now - _sent_at(delivery) > LONGEST:
        return Undecidable(
            why=f"{restoring.SENTENCE} For a day it was not found out what became of the part before it."
        )
    return LookAgain(in_s=PART_S, why="The part before it is looked up first.")


async def _decided(
    engine: Engine, delivery: Delivery, claim: str, verdict: SafeToResend | LookAgain | Undecidable
) -> Delivery | None:
    if not isinstance(verdict, LookAgain) and (why := _NEVER_AGAIN.get(delivery.error_code or "")):
        verdict = Undecidable(why=why)
    async with db.async_transaction(engine.pool) as conn:
        if isinstance(verdict, LookAgain):
            at = await db.async_now(conn) + timedelta(seconds=verdict.in_s)
            if await transitions.look_again(conn, delivery.id, claim, at, absent=verdict.absent, sentence=verdict.why):
                await engine.wake(conn, "reconcile", delivery.id, at)
            return None
        if isinstance(verdict, SafeToResend) and delivery.faults >= engine.settings.max_faults:
            why = f"It was tried {delivery.faults + 1} times, the last time without a clear answer. {verdict.why}"
            return await _attention(engine, conn, delivery, claim, "never_answered", why)
        if isinstance(verdict, SafeToResend):
            at = await db.async_now(conn)
            if delivery.faults:
                at += timedelta(
                    seconds=outcomes.backoff(engine.settings.backoff_s, delivery.faults - 1, of=delivery.account_id)
                )
            moved = await transitions.send_again(
                conn,
                delivery.id,
                claim,
                not_before=at,
                new_key=verdict.new_key,
                restage=verdict.restage,
                settled=verdict.settled,
                sentence=f"{verdict.why} Sending it again.",
            )
            if moved:
                await engine.wake(conn, "publish", delivery.id, at)
            return moved
        return await _attention(engine, conn, delivery, claim, "undecidable", verdict.why)


async def _cannot_look(engine: Engine, delivery: Delivery, claim: str, error: PublishError) -> Delivery | None:
    """A dead token cannot read: look again once the account is back, and ask the person after a day."""
    async with db.async_transaction(engine.pool) as conn:
        now = await db.async_now(conn)
        if isinstance(error, Refused) or now - _sent_at(delivery) > LONGEST:
            return await _attention(engine, conn, delivery, claim, error.code, error.sentence)
        at = now + timedelta(seconds=getattr(error, "retry_in_s", None) or AGAIN_S)
        if await transitions.look_again(conn, delivery.id, claim, at, absent=None, sentence=error.sentence):
            await engine.wake(conn, "reconcile", delivery.id, at)
    return None


async def _attention(
    engine: Engine, conn: AsyncConnection, delivery: Delivery, claim: str, code: str, why: str
) -> Delivery | None:
    log.warning("attention", delivery=delivery.id, reason=code, why=why)
    moved = await transitions.mark_attention(
        conn,
        delivery.id,
        claim,
        code=code,
        sentence=why,
        next_step="Look at the account: if the post is there, say so; if it is not, send it again.",
    )
    await notices.not_published(conn, engine.settings, moved)
    return moved


async def _hand_back(engine: Engine, delivery: Delivery, claim: str) -> None:
    async with db.async_transaction(engine.pool) as conn:
        now = await db.async_now(conn)
        why = "The worker that looked was stopped; another looks."
        if await transitions.look_again(conn, delivery.id, claim, now, absent=None, sentence=why):
            await engine.wake(conn, "reconcile", delivery.id, now)


def _taken() -> Retry:
    return Retry(
        "Another post with the same words was found to be the one on the network; looking once more.",
        retry_in_s=TAKEN_S,
    )


def _slow() -> Retry:
    return Retry("The network was too slow to be looked through; looking again later.", retry_in_s=AGAIN_S)
