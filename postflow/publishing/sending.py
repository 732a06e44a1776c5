"""The story at post_date: ready → sending → published. Called by the worker's tasks, one call each.

    preparing    scheduled → preparing → ready           minutes early, repeatable, checkpointed after each step
    sending      ready → sending → published             the intent is committed BEFORE the one visible request leaves
                         sending → unknown               an answer that is lost says nothing: look, never just send again
    reconciling  unknown → published | scheduled | attention
    sweeping     whatever overslept its wake_at: workers die, jobs get lost, the rows tell
    outcomes     what is written down when a request has ended, whichever story sent it

A job is only a wake-up call: each story reads the row, does what the row wants, and does nothing when the row wants
nothing. HTTP never happens inside a transaction. docs/lifecycle.md draws the arrows.
"""

import asyncio
import secrets
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any

import psycopg
import structlog
from psycopg.errors import UniqueViolation
from psycopg_pool import PoolTimeout
from pydantic import BaseModel

from postflow import db
from postflow.connections import access
from postflow.engine import DATABASE_GONE, Engine, to_the_end
from postflow.errors import NotReady, OutcomeUnknown, PublishError, Refused, Retry, StageLost
from postflow.http import deadline
from postflow.models import Delivery, DeliveryStatus, Outgoing, Receipt
from postflow.notifications import notices
from postflow.platforms import answers
from postflow.platforms.base import Platform
from postflow.publishing import due, outcomes, outgoing, preparing, restoring, transitions, turns
from postflow.publishing.turns import Says

log = structlog.stdlib.get_logger("postflow.publishing.sending")

#: The database refuses what comes a moment early, and clocks drift a little within a head start.
TIMER_MARGIN_S = 0.0003
#: Between two tries of a post while another that could be taken for it is looked for, and what its story says of that.
ALIKE_S = 10.0
WAITS_FOR_ALIKE = (
    "Another post with the same words may be on this account already."
    " PostFlow looks for that one first, and then sends this."
)
#: What was prepared is asked about until so long before the date; after it, for so long.
ASK_MARGIN_S, LONGEST_ASKING_S = 0.02, 1.0


async def publish(engine: Engine, delivery_id: int) -> Delivery | None:
    """Everything that is still missing, then the one visible call. Returns the row when it was published.

    May be called moments before the date: all is read ahead, and at the instant one statement and one request remain.
    """
    timing = await _timing(engine, delivery_id)
    if timing is None:
        return None
    turn = timing.turn(engine.settings)
    if turn.says is not Says.go:
        await _not_now(engine, timing, turn)
        return None
    instant = asyncio.get_running_loop().time() + (turn.at - timing.now).total_seconds() + TIMER_MARGIN_S
    is_stale = timing.status is DeliveryStatus.ready and timing.is_stale(timing.now)
    if is_stale and not await _restage(engine, delivery_id, preparing.TOO_OLD):
        return None
    is_ready = timing.status is DeliveryStatus.ready and not is_stale
    if not is_ready and await preparing.prepare(engine, delivery_id) is None:
        return None
    return await _send(engine, delivery_id, instant)


async def _timing(engine: Engine, delivery_id: int) -> turns.Timing | None:
    async with engine.pool.connection() as conn:
        return await turns.timing(conn, delivery_id, engine.settings)


async def _not_now(engine: Engine, timing: turns.Timing, turn: turns.Turn) -> None:
    """What must wait gets its next wake-up; what came too late is told so."""
    match turn.says:
        case Says.wait:
            await _come_back(engine, timing, turn.at)
        case Says.too_late:
            await _missed(engine, timing)
        case Says.cut_off:
            await _cut_off(engine, timing)
        case Says.look:
            await restoring.notice(engine)
        case _:
            pass


async def _come_back(engine: Engine, timing: turns.Timing, at: datetime) -> None:
    async with db.async_transaction(engine.pool) as conn:
        await due.postpone(conn, timing.delivery_id, at, as_of=timing.status_at)
        await engine.wake(conn, "publish", timing.delivery_id, at)


async def _restage(engine: Engine, delivery_id: int, sentence: str) -> Delivery | None:
    async with engine.pool.connection() as conn:
        return await transitions.restage(conn, delivery_id, sentence)


async def _cut_off(engine: Engine, timing: turns.Timing) -> None:
    """Scheduled at the very moment its account was disconnected, or asked for again afterwards."""
    async with engine.pool.connection() as conn:
        delivery = await transitions.get(conn, timing.delivery_id)
    if delivery:
        error = Refused(
            "Its account is disconnected, so nothing was sent.",
            code="account_gone",
            next_step="Connect the account again, then try again.",
        )
        # Said of the row as it was then: whoever asks for it after connecting the account again is heard.
        await outcomes.give_up(engine, delivery.model_copy(update={"status_at": timing.status_at}), None, error)


async def _missed(engine: Engine, timing: turns.Timing) -> None:
    late = timedelta(seconds=round(timing.lateness_s))
    sentence = f"It could not be published in time and is {late} late, longer than you allow. Nothing was sent."
    next_step = "Publish it now, or move it to another time."
    if not timing.account_is_active:
        sentence = f"Its account had to be connected again first. {sentence}"
        next_step = "Connect the account again; then publish it now, or move it to another time."
    elif timing.part_before not in (None, DeliveryStatus.published):
        sentence = f"The part before it has not gone out. {sentence}"
        next_step = "Publish the part before it first, then this one."
    async with db.async_transaction(engine.pool) as conn:
        missed = await transitions.mark_missed(conn, timing.delivery_id, sentence, next_step, as_of=timing.status_at)
        await notices.not_published(conn, engine.settings, missed)
    if missed:
        log.warning("missed", delivery=timing.delivery_id, late_s=late.total_seconds())


# -- the one visible request ---------------------------------------------------------------------------------


async def _send(engine: Engine, delivery_id: int, instant: float) -> Delivery | None:
    """ready → sending → …; the intent is in the database before the request leaves."""
    async with engine.pool.connection() as conn:
        delivery = await transitions.get(conn, delivery_id)
    if delivery is None or delivery.status is not DeliveryStatus.ready:
        return None
    try:
        platform, parcel = await outgoing.gathered(engine, delivery, with_data=False)
        staged = outgoing.staged_state(platform, delivery)
    except (Retry, NotReady) as passing:
        await _put_off(engine, delivery, passing)
        return None
    except PublishError as error:
        await outcomes.give_up(engine, delivery, None, error)
        return None
    if staged is None:
        return await _prepare_anew(engine, delivery_id)
    await _ask_after_uploads(engine, delivery, platform, parcel, staged, instant)
    await asyncio.sleep(instant - asyncio.get_running_loop().time())
    claim = secrets.token_hex()
    departure = deadline.Departure(engine.settings.request_timeout_s)
    try:
        sending = await _claim_to_send(engine, delivery, claim, parcel)
    except UniqueViolation:  # another post was claimed at the same instant, or one that is alike is in doubt
        if await _waits_for_alike(engine, delivery, parcel):
            return None
        sending = None
    if sending is None:
        return await _after_all(engine, delivery_id)
    engine.reached("sending")
    return await _commit(engine, sending, claim, platform, parcel, staged, departure)


async def _after_all(engine: Engine, delivery_id: int) -> Delivery | None:
    """The database has refused it. Where another of its instant goes first, that one is sent in its place: it may have
    lost its own wake-up. Where the clock was set back or another late one went first, it comes back. Else one is being
    sent, whose end wakes it.
    """
    timing = await _timing(engine, delivery_id)
    if timing is None:
        return None
    turn = timing.turn(engine.settings)
    if turn.at > timing.now:
        await _come_back(engine, timing, turn.at)
    elif timing.ahead is not None:
        return await publish(engine, timing.ahead)
    return None


async def _prepare_anew(engine: Engine, delivery_id: int) -> None:
    """Another release prepared it, and this one cannot read what. Nothing was ever sent."""
    async with db.async_transaction(engine.pool) as conn:
        if await transitions.restage(conn, delivery_id, "Prepared by another release of PostFlow; preparing it anew."):
            await engine.wake(conn, "publish", delivery_id, await db.async_now(conn))


async def _ask_after_uploads(
    engine: Engine, delivery: Delivery, platform: Platform, parcel: Outgoing, staged: BaseModel, instant: float
) -> None:
    """Asked in the head start: no post gets later by it. What cannot be told in time is left to the request. Where one is
    lost, the row is scheduled again, and no claim of what it was as ready comes through.
    """
    if parcel.sent_before:  # whoever may have been published keeps what it was sent with
        return
    try:
        async with asyncio.timeout_at(asked_until(instant, asyncio.get_running_loop().time())):
            await platform.still_staged(engine.http, parcel, staged)
    except StageLost as lost:
        async with db.async_transaction(engine.pool) as conn:
            if await transitions.restage(conn, delivery.id, lost.sentence):
                await engine.wake(conn, "publish", delivery.id, await db.async_now(conn))
    except (PublishError, TimeoutError) as error:
        log.info("not asked", delivery=delivery.id, why=str(error) or "no time")


def asked_until(instant: float, now: float) -> float:
    """By the event loop's clock, as both of them."""
    return instant - ASK_MARGIN_S if instant > now else now + LONGEST_ASKING_S


async def _put_off(engine: Engine, delivery: Delivery, passing: Retry | NotReady) -> None:
    """It cannot be gathered right now. It stays ready; what is put off for too long is missed, with its story."""
    async with db.async_transaction(engine.pool) as conn:
        at = await db.async_now(conn) + timedelta(seconds=passing.retry_in_s or outgoing.PUT_OFF_S)
        await due.postpone(conn, delivery.id, at, as_of=delivery.status_at)
        await engine.wake(conn, "publish", delivery.id, at)
        await outcomes.wake_what_waited(engine, conn, delivery)
    log.warning("put off", delivery=delivery.id, reason=passing.code, why=passing.sentence)


async def _claim_to_send(engine: Engine, delivery: Delivery, claim: str, parcel: Outgoing) -> Delivery | None:
    """None where it may not, UniqueViolation as `transitions.claim_to_send`. An intent whose commit goes unheard, and one that
    is cut short, is taken back: nothing left.
    """
    lease_s = deadline.lease_s(engine.settings.request_timeout_s)
    try:
        async with engine.pool.connection() as conn:
            return await transitions.claim_to_send(
                conn,
                delivery,
                claim,
                lease_s,
                parcel.likeness,
                parcel.reply_to_remote_id,
                pace_s=engine.settings.pace_s,
            )
    except (*DATABASE_GONE, asyncio.CancelledError) as end:
        if isinstance(end, PoolTimeout) or not _is_unheard(end):
            raise
        would_be = delivery.model_copy(update={"attempt_no": delivery.attempt_no + 1})
        await to_the_end(outcomes.intent_unheard(engine, would_be, claim))
        raise


async def _waits_for_alike(engine: Engine, delivery: Delivery, parcel: Outgoing) -> bool:
    """Sent now, nobody could tell later which of the two is the one that is out."""
    async with db.async_transaction(engine.pool) as conn:
        if not await due.alike_in_doubt(conn, delivery, parcel.likeness):
            return False
        at = await db.async_now(conn) + timedelta(seconds=ALIKE_S)
        await due.hold(conn, delivery.id, at, as_of=delivery.status_at, code=due.ALIKE)
        await due.note(conn, delivery.id, WAITS_FOR_ALIKE)
        await engine.wake(conn, "publish", delivery.id, at)
    log.info("waits for one that is alike", delivery=delivery.id)
    return True


def _is_unheard(end: BaseException) -> bool:
    """Did the statement end without its answer? One that the database refused in its own words has done nothing."""
    code = end.sqlstate if isinstance(end, psycopg.Error) else None
    return code is None or code.startswith(("08", "57"))


async def _commit(
    engine: Engine,
    delivery: Delivery,
    claim: str,
    platform: Platform,
    parcel: Outgoing,
    staged: BaseModel,
    departure: deadline.Departure,
) -> Delivery | None:
    """`departure` lies before the end of the lease: a process that was frozen after its intent was written finds the time
    gone and sends nothing any more, whoever has taken up the row since.
    """
    try:
        async with access.watched(engine, parcel.login):
            receipt = await _in_time(platform.commit(engine.commit_http, parcel, staged), departure)
    except PublishError as error:
        await to_the_end(outcomes.not_confirmed(engine, delivery, claim, error))
        return None
    except asyncio.CancelledError:
        await outcomes.not_confirmed(
            engine, delivery, claim, _stopped() if departure.has_left else answers.never_left()
        )
        raise
    except Exception as error:
        log.exception("commit ended unexpectedly", delivery=delivery.id)
        await to_the_end(outcomes.not_confirmed(engine, delivery, claim, outcomes.unmapped(error)))
        return None
    engine.reached("answered")
    try:
        return await outcomes.published(engine, delivery, claim, platform, parcel, receipt)
    except UniqueViolation:  # a look for another one took it for that, or a server repeats an earlier answer
        await to_the_end(outcomes.unknown(engine, delivery, claim, outcomes.names_another(receipt)))
        return None


async def _in_time(committing: Coroutine[Any, Any, Receipt], departure: deadline.Departure) -> Receipt:
    """Raises Retry when the time was over before anything had left, OutcomeUnknown when the answer takes too long."""
    try:
        with deadline.by(departure):
            async with asyncio.timeout(departure.left_s):
                return await committing
    except TimeoutError:
        raise answers.lost("no answer in time") if departure.has_left else answers.never_left() from None


def _stopped() -> OutcomeUnknown:
    return OutcomeUnknown(
        "The worker was stopped while it was sending; looking whether it went out.", code="worker_stopped"
    )
