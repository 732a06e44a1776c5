"""The story at post_date: prepare, publish, reconcile, sweep. Called by the worker's tasks, one call each.

    prepare     scheduled → preparing → ready           minutes early, repeatable, checkpointed after each step
    publish     ready → sending → published             the intent is committed BEFORE the one visible request leaves
                        sending → unknown               an answer that is lost says nothing: look, never just send again
    reconcile   unknown → published | scheduled | attention
    sweep       whatever overslept its wake_at: workers die, jobs get lost, the rows tell

A job is only a wake-up call: each function reads the row, does what the row wants, and does nothing when the row wants
nothing. HTTP never happens inside a transaction. docs/lifecycle.md draws the arrows.
"""

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Protocol, TypeVar

import httpx
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg.errors import UniqueViolation
from psycopg_pool import AsyncConnectionPool
from pydantic import BaseModel, ValidationError

from postflow import access, arrows, db, due, net, notices, outgoing, platforms, waking
from postflow.config import Settings
from postflow.errors import (
    Misconfigured,
    NotFound,
    NotReady,
    OutcomeUnknown,
    PublishError,
    Refused,
    Retry,
    StageLost,
    Throttled,
    Unauthorized,
)
from postflow.models import (
    AccountState,
    Attempt,
    Delivery,
    DeliveryStatus,
    Found,
    LookAgain,
    Outgoing,
    Receipt,
    SafeToResend,
    Verdict,
)
from postflow.platforms import answers
from postflow.platforms.base import Platform

log = structlog.stdlib.get_logger("postflow.publishing")

#: How long a preparing worker may be silent; it renews at a third of this.
PREPARE_LEASE_S = 60.0
#: A post of which so many workers have died is not tried any more: its pictures may be too large for this machine.
MOST_DEATHS = 10
#: A late answer still counts for so long after the request's own deadline.
SEND_MARGIN_S = 15.0
LONGEST_BACKOFF_S = 3600.0
#: First pause where a network asks to wait and does not say how long.
UNTOLD_PAUSE_S = 60.0
#: A look may last as long as so many requests, and ends so long before its lease does.
LOOK_LEASE_REQUESTS, LOOK_MARGIN_S = 4, 5.0
#: Between two looks at something the operator has to mend.
PUT_OFF_S = 120.0
#: The database refuses what comes a moment early, and clocks drift a little within a head start.
TIMER_MARGIN_S = 0.0003
TOO_OLD = "What was prepared is too old for its date; preparing it anew."
#: Out of reach, full, or read-only.
DATABASE_GONE = (psycopg.OperationalError, psycopg.InternalError, psycopg.InterfaceError)


T = TypeVar("T")


class Wake(Protocol):
    """Defers a job for one delivery on the same connection: row and job commit or vanish together."""

    async def __call__(self, conn: AsyncConnection, story: str, delivery_id: int, at: datetime) -> None: ...


@dataclass(frozen=True)
class Engine:
    """What the stories need: made once per worker process."""

    pool: AsyncConnectionPool
    settings: Settings
    http: httpx.AsyncClient  # for reading and uploading
    commit_http: httpx.AsyncClient  # for the visible call: no connection is used twice
    wake: Wake
    #: named steps at which a test lets the process die
    reached: Any = field(default=lambda step: None)


def engine_over(settings: Settings, pool: AsyncConnectionPool) -> Engine:
    """The stories' engine over the queue's own table, in a worker and in a command alike."""
    return Engine(
        pool=pool,
        settings=settings,
        http=net.client(settings),
        commit_http=net.commit_client(settings),
        wake=waking.wake,
    )


class _Deadline(NamedTuple):
    """An instant by the loop's clock and by the wall's: the former stands still while a machine is suspended."""

    loop_s: float
    wall_s: float

    @classmethod
    def after(cls, seconds: float) -> "_Deadline":
        return cls(asyncio.get_running_loop().time() + seconds, time.time() + seconds)

    def has_passed(self) -> bool:
        return asyncio.get_running_loop().time() > self.loop_s or time.time() > self.wall_s


class ClaimLost(Exception):
    """The row was edited, cancelled or taken over; whatever we were doing is no longer wanted."""


# -- minutes early -----------------------------------------------------------------------------------------


async def prepare(engine: Engine, delivery_id: int) -> Delivery | None:
    """Uploads and containers, so that one request remains. Returns the ready row, or None when there is nothing to do."""
    claim = secrets.token_hex(8)
    async with engine.pool.connection() as conn:
        delivery = await arrows.claim_to_prepare(conn, delivery_id, claim, PREPARE_LEASE_S)
        deaths = await due.deaths(conn, delivery_id)
    if delivery is None:
        await _not_yet(engine, delivery_id)
        return None
    if deaths >= MOST_DEATHS:
        await _give_up(engine, delivery, claim, _deadly(deaths))
        return None
    engine.reached("preparing")
    try:
        async with _renewing(engine, delivery_id, claim):
            staged = await _stage(engine, delivery, claim)
        engine.reached("staged")
        return await _ready(engine, delivery, claim, staged)
    except ClaimLost:
        return None
    except PublishError as error:
        await _could_not(engine, delivery, claim, error, story="prepare")
    except asyncio.CancelledError:
        await _hand_back_preparing(engine, delivery, claim)
        raise
    except DATABASE_GONE:
        raise  # no fault of the network's: the lease runs out, and the sweep hands it to whoever can write again
    except Exception as error:
        log.exception("preparing ended unexpectedly", delivery=delivery.id)
        await _could_not(engine, delivery, claim, _unmapped(error), story="prepare")
    return None


async def _not_yet(engine: Engine, delivery_id: int) -> None:
    """What could not be claimed, and can be before its date: so that it is on time all the same.

    Its account was told to wait, but not up to the date; or the post was moved so far away that what is prepared will
    be too old by then.
    """
    async with db.async_transaction(engine.pool) as conn:
        timing = await due.timing(conn, delivery_id)
        if timing is None:
            return
        at = timing.held_until() if timing.status is DeliveryStatus.scheduled else None
        if timing.status is DeliveryStatus.ready and timing.is_stale(timing.post_date):
            at = timing.now if await arrows.restage(conn, delivery_id, TOO_OLD) else None
        if at:
            await engine.wake(conn, "prepare", delivery_id, at)


async def _stage(engine: Engine, delivery: Delivery, claim: str) -> BaseModel:
    platform, parcel = await _gathered(engine, delivery, with_data=True)

    async def checkpoint(staged: BaseModel) -> None:
        async with engine.pool.connection() as conn:
            if not await arrows.checkpoint(conn, delivery.id, claim, staged.model_dump(mode="json")):
                raise ClaimLost
        engine.reached("checkpoint")

    async with access.watched(engine.pool, engine.settings, parcel.login):
        return await platform.prepare(engine.http, parcel, _staged(platform, delivery), checkpoint)


async def _ready(engine: Engine, delivery: Delivery, claim: str, staged: BaseModel) -> Delivery | None:
    async with db.async_transaction(engine.pool) as conn:
        ready = await arrows.mark_ready(conn, delivery.id, claim, staged.model_dump(mode="json"))
        # The job for post_date, which comes a head start early, may have come and gone while we were preparing.
        head_start = timedelta(seconds=waking.HEAD_START_S + 1)
        if ready and ready.wake_at and ready.wake_at - head_start <= await db.async_now(conn):
            await engine.wake(conn, "publish", ready.id, ready.wake_at)
    engine.reached("ready")
    return ready


@contextlib.asynccontextmanager
async def _renewing(engine: Engine, delivery_id: int, claim: str) -> AsyncIterator[None]:
    """Keeps the lease while a large upload takes its time; a dead process stops renewing."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(PREPARE_LEASE_S / 3)
            with contextlib.suppress(*DATABASE_GONE):  # the next try, or the checkpoint, will tell
                async with engine.pool.connection() as conn:
                    await arrows.renew(conn, delivery_id, claim, PREPARE_LEASE_S)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewing


# -- at post_date --------------------------------------------------------------------------------------------


async def publish(engine: Engine, delivery_id: int) -> Delivery | None:
    """Everything that is still missing, then the one visible call. Returns the row when it was published.

    May be called moments before the date: all is read ahead, and at the instant one statement and one request remain.
    """
    async with engine.pool.connection() as conn:
        timing = await due.timing(conn, delivery_id)
    if timing is None or not await _may_go(engine, timing):
        return None
    instant = _instant(engine, timing)
    if timing.status is DeliveryStatus.ready and timing.is_stale(timing.now):
        async with engine.pool.connection() as conn:
            await arrows.restage(conn, delivery_id, TOO_OLD)
            timing = timing.restaged()
    if timing.status is DeliveryStatus.scheduled and await prepare(engine, delivery_id) is None:
        return None
    sent = await _send(engine, delivery_id, instant)
    if sent is None:
        await _wake_if_early(engine, delivery_id)
    return sent


def _instant(engine: Engine, timing: due.Timing) -> float | None:
    """When to send, by the loop's clock; None when that is now."""
    later = timing.waits_until(timing.now, pace_s=engine.settings.pace_s)
    if later is None:
        return None
    return asyncio.get_running_loop().time() + (later - timing.now).total_seconds() + TIMER_MARGIN_S


async def _wake_if_early(engine: Engine, delivery_id: int) -> None:
    """Refused by the database, whose clock was set back while we waited or which had another late post go first: nobody
    else would come at its turn.
    """
    async with db.async_transaction(engine.pool) as conn:
        timing = await due.timing(conn, delivery_id)
        if timing and timing.status is DeliveryStatus.ready:
            later = timing.waits_until(timing.now, pace_s=engine.settings.pace_s)
            if later is not None:
                await due.postpone(conn, delivery_id, later, as_of=timing.status_at)
                await engine.wake(conn, "publish", delivery_id, later)


async def _may_go(engine: Engine, timing: due.Timing) -> bool:
    """Due, not too late, not held. What must wait gets its next wake-up; what came too late is told so."""
    now = timing.now
    if timing.status not in (DeliveryStatus.scheduled, DeliveryStatus.ready):
        return False
    if timing.account_state is AccountState.disconnected:
        await _cut_off(engine, timing)
        return False
    if timing.lateness_s(now) > timing.grace_s(engine.settings):
        await _missed(engine, timing)
        return False
    later = timing.waits_until(now, pace_s=engine.settings.pace_s)
    if later is not None and later - now > timedelta(seconds=2 * waking.HEAD_START_S):
        async with db.async_transaction(engine.pool) as conn:
            await due.postpone(conn, timing.delivery_id, later, as_of=timing.status_at)
            await engine.wake(conn, "publish", timing.delivery_id, later)
        return False
    return timing.account_is_active


async def _cut_off(engine: Engine, timing: due.Timing) -> None:
    """Scheduled at the very moment its account was disconnected, or asked for again afterwards."""
    async with engine.pool.connection() as conn:
        delivery = await arrows.get(conn, timing.delivery_id)
    if delivery and delivery.status_at == timing.status_at:
        error = Refused(
            "Its account is disconnected, so nothing was sent.",
            code="account_gone",
            next_step="Connect the account again, then try again.",
        )
        await _give_up(engine, delivery, None, error)


async def _missed(engine: Engine, timing: due.Timing) -> None:
    late = timedelta(seconds=round(timing.lateness_s(timing.now)))
    sentence = f"It could not be published in time and is {late} late, longer than you allow. Nothing was sent."
    next_step = "Publish it now, or move it to another time."
    if not timing.account_is_active:
        sentence = f"Its account had to be connected again first. {sentence}"
        next_step = "Connect the account again; then publish it now, or move it to another time."
    elif timing.part_before not in (None, DeliveryStatus.published):
        sentence = f"The part before it has not gone out. {sentence}"
        next_step = "Publish the part before it first, then this one."
    async with db.async_transaction(engine.pool) as conn:
        missed = await arrows.mark_missed(conn, timing.delivery_id, sentence, next_step, as_of=timing.status_at)
        await notices.not_published(conn, engine.settings, missed)
    if missed:
        log.warning("missed", delivery=timing.delivery_id, late_s=late.total_seconds())


async def _send(engine: Engine, delivery_id: int, instant: float | None) -> Delivery | None:
    """ready → sending → …; the intent is in the database before the request leaves."""
    async with engine.pool.connection() as conn:
        delivery = await arrows.get(conn, delivery_id)
    if delivery is None or delivery.status is not DeliveryStatus.ready:
        return None
    try:
        platform, parcel = await _gathered(engine, delivery, with_data=False)
        staged = _staged(platform, delivery)
    except (Retry, NotReady) as passing:
        await _put_off(engine, delivery, passing)
        return None
    except PublishError as error:
        await _give_up(engine, delivery, None, error)
        return None
    if staged is None:
        return None
    if instant is not None:
        await asyncio.sleep(instant - asyncio.get_running_loop().time())
    claim = secrets.token_hex(8)
    leave_by = _Deadline.after(engine.settings.request_timeout_s)
    sending = await _claim_to_send(engine, delivery, claim, parcel)
    if sending is None:
        return None
    engine.reached("sending")
    return await _commit(engine, sending, claim, platform, parcel, staged, leave_by)


async def _put_off(engine: Engine, delivery: Delivery, passing: Retry | NotReady) -> None:
    """It cannot be gathered right now. It stays ready; what is put off for too long is missed, with its story."""
    async with db.async_transaction(engine.pool) as conn:
        at = await db.async_now(conn) + timedelta(seconds=passing.retry_in_s or PUT_OFF_S)
        await due.postpone(conn, delivery.id, at, as_of=delivery.status_at)
        await engine.wake(conn, "publish", delivery.id, at)
    log.warning("put off", delivery=delivery.id, reason=passing.code, why=passing.sentence)


async def _claim_to_send(engine: Engine, delivery: Delivery, claim: str, parcel: Outgoing) -> Delivery | None:
    lease_s = engine.settings.request_timeout_s + SEND_MARGIN_S
    try:
        async with engine.pool.connection() as conn:
            return await arrows.claim_to_send(
                conn,
                delivery,
                claim,
                lease_s,
                parcel.payload_hash,
                parcel.reply_to_remote_id,
                late_s=due.LATE_S,
                pace_s=engine.settings.pace_s,
            )
    except UniqueViolation:  # another post of this account was claimed at the same instant; its end wakes us
        return None


async def _commit(
    engine: Engine,
    delivery: Delivery,
    claim: str,
    platform: Platform,
    parcel: Outgoing,
    staged: BaseModel,
    leave_by: _Deadline,
) -> Delivery | None:
    """`leave_by` lies before the end of the lease: a process that was frozen after its intent was written finds the time
    gone and sends nothing any more, whoever has taken up the row since.
    """
    try:
        async with access.watched(engine.pool, engine.settings, parcel.login):
            receipt = await _in_time(platform.commit(engine.commit_http, parcel, staged), leave_by)
    except PublishError as error:
        await _to_the_end(_not_confirmed(engine, delivery, claim, error))
        return None
    except asyncio.CancelledError:
        await _unknown(engine, delivery, claim, _stopped())
        raise
    except Exception as error:
        log.exception("commit ended unexpectedly", delivery=delivery.id)
        await _to_the_end(_not_confirmed(engine, delivery, claim, _unmapped(error)))
        return None
    engine.reached("answered")
    try:
        return await _published(engine, delivery, claim, platform, parcel, receipt)
    except UniqueViolation:  # a server may repeat an earlier answer; only a look can tell what became of this request
        theirs = answers.lost(f"the answer names {receipt.remote_id}, which is another post of this account")
        await _to_the_end(_unknown(engine, delivery, claim, theirs))
        return None


async def _in_time(committing: Coroutine[Any, Any, Receipt], leave_by: _Deadline) -> Receipt:
    """Raises Retry when it is too late to begin, OutcomeUnknown when the answer takes too long."""
    if leave_by.has_passed():
        committing.close()
        raise Retry("The worker stood still before it could send anything.", retry_in_s=1, code="worker_stalled")
    try:
        async with asyncio.timeout_at(leave_by.loop_s):
            return await committing
    except TimeoutError:
        raise answers.lost("no answer in time") from None


async def _published(
    engine: Engine, delivery: Delivery, claim: str | None, platform: Platform, parcel: Outgoing, receipt: Receipt
) -> Delivery | None:
    done = await _to_the_end(_write_published(engine, delivery, claim, receipt))
    engine.reached("published")
    if done is None:
        log.error("published, but somebody else has the row by now", delivery=delivery.id, remote_id=receipt.remote_id)
        return None
    log.info(
        "published", delivery=done.id, network=platform.name, account=parcel.login.account.handle, url=done.permalink
    )
    if receipt.permalink is None:
        await _add_permalink(engine, done, platform, parcel, receipt)
    return done


async def _write_published(engine: Engine, delivery: Delivery, claim: str | None, receipt: Receipt) -> Delivery | None:
    lookup = claim is None
    sentence = "Found on the network: it had gone out." if lookup else "Published."
    async with db.async_transaction(engine.pool) as conn:
        done = await arrows.mark_published(conn, delivery.id, claim, receipt, sentence=sentence, lookup=lookup)
        await _wake_what_waited(engine, conn, delivery)
    return done


async def _add_permalink(
    engine: Engine, delivery: Delivery, platform: Platform, parcel: Outgoing, receipt: Receipt
) -> None:
    """Best effort: a post without a link is still a published post."""
    try:
        link = await platform.permalink(engine.http, parcel.login, receipt)
    except (PublishError, httpx.HTTPError) as error:
        log.warning("no permalink", delivery=delivery.id, why=str(error))
        return
    if link:
        async with engine.pool.connection() as conn:
            await due.add_permalink(conn, delivery.id, link)


# -- when it did not work --------------------------------------------------------------------------------------


async def _not_confirmed(engine: Engine, delivery: Delivery, claim: str, error: PublishError) -> None:
    if isinstance(error, OutcomeUnknown):
        await _unknown(engine, delivery, claim, error)
    else:
        await _could_not(engine, delivery, claim, error, story="publish")


async def _unknown(engine: Engine, delivery: Delivery, claim: str, error: PublishError) -> None:
    async with db.async_transaction(engine.pool) as conn:
        look_at = await db.async_now(conn) + timedelta(seconds=engine.settings.settle_s)
        moved = await arrows.mark_unknown(
            conn, delivery.id, claim, look_at, code=error.code, sentence=error.sentence, detail=_detail(error)
        )
        if moved:
            await engine.wake(conn, "reconcile", delivery.id, look_at)
        await _wake_what_waited(engine, conn, delivery)
    log.warning("outcome unknown", delivery=delivery.id, reason=error.code, why=error.sentence)


async def _could_not(engine: Engine, delivery: Delivery, claim: str, error: PublishError, *, story: str) -> None:
    """Nothing was published: later, after a pause of the right length, or never."""
    if isinstance(error, Refused):
        await _give_up(engine, delivery, claim, error)
    elif _is_spent(engine, delivery, error):
        await _give_up(engine, delivery, claim, _spent(error, delivery))
    else:
        await _later(engine, delivery, claim, error, story)


async def _later(engine: Engine, delivery: Delivery, claim: str, error: PublishError, story: str) -> None:
    async with db.async_transaction(engine.pool) as conn:
        at = _again_at(engine, delivery, error, await db.async_now(conn))
        if isinstance(error, Throttled) and at is not None:
            await due.throttle(conn, delivery.account_id, at)
        moved = await arrows.give_back(
            conn,
            delivery.id,
            claim,
            not_before=at,
            faults=int(_is_fault(error)),
            restage=isinstance(error, StageLost),
            new_key=bool(getattr(error, "new_key", False)),
            sentence=error.sentence,
            detail=_detail(error),
        )
        if moved and not isinstance(error, Unauthorized):
            early = story == "prepare" and moved.wake_at and at and at < moved.wake_at
            await engine.wake(
                conn,
                "prepare" if early else "publish",
                delivery.id,
                at if early and at else moved.wake_at or moved.status_at,
            )
        await _wake_what_waited(engine, conn, delivery)
    log.info("later", delivery=delivery.id, reason=error.code, why=error.sentence, at=str(at))


async def _give_up(engine: Engine, delivery: Delivery, claim: str | None, error: PublishError) -> None:
    async with db.async_transaction(engine.pool) as conn:
        failed = await arrows.mark_failed(
            conn,
            delivery.id,
            claim,
            as_of=delivery.status_at,
            code=error.code,
            sentence=error.sentence,
            next_step=error.next_step,
            detail=_detail(error),
        )
        await notices.not_published(conn, engine.settings, failed)
        await _wake_what_waited(engine, conn, delivery)
    if failed:
        log.warning("failed", delivery=delivery.id, reason=error.code, why=error.sentence)


def _is_fault(error: PublishError) -> bool:
    """Waiting for the network to process, or because it asks the account to wait, spends no attempt."""
    return not isinstance(error, Throttled | NotReady | Unauthorized)


def _is_spent(engine: Engine, delivery: Delivery, error: PublishError) -> bool:
    return _is_fault(error) and delivery.faults >= engine.settings.max_faults


def _spent(error: PublishError, delivery: Delivery) -> Refused:
    return Refused(
        f"{error.sentence} It was tried {delivery.faults + 1} times.",
        code=error.code,
        next_step=error.next_step or "Try again later with “Try again”.",
        detail=error.detail,
    )


def _again_at(engine: Engine, delivery: Delivery, error: PublishError, now: datetime) -> datetime | None:
    """The server's own wish where it has one; else a doubling pause with jitter. None: when the account is back."""
    if isinstance(error, Unauthorized):
        return None
    wish = getattr(error, "retry_in_s", None)
    if wish is None and isinstance(error, Throttled):
        wish = _backoff(max(UNTOLD_PAUSE_S, engine.settings.backoff_s), delivery.attempt_no)
    if wish is None:
        wish = _backoff(engine.settings.backoff_s, delivery.faults)
    return now + timedelta(seconds=wish)


def _backoff(first_s: float, times: int) -> float:
    """Doubles up to an hour, a quarter to and fro."""
    pause = min(LONGEST_BACKOFF_S, first_s * 2 ** min(times, 20))
    return pause * random.uniform(0.75, 1.25)  # noqa: S311 spreads load, guards nothing


def _unmapped(error: BaseException, doing: str = "it was being handed over") -> PublishError:
    return OutcomeUnknown(
        f"Something unexpected happened while {doing}.", code="unexpected", detail=type(error).__name__
    )


def _deadly(deaths: int) -> Refused:
    return Refused(
        f"{deaths} workers ended while they prepared it.",
        code="workers_end",
        next_step="Replace its pictures or videos by smaller ones, then try again.",
    )


def _detail(error: PublishError) -> dict[str, Any]:
    return {"code": error.code, **({"detail": error.detail} if error.detail else {})}


async def _wake_what_waited(engine: Engine, conn: AsyncConnection, delivery: Delivery) -> None:
    """The next due post of this account, and the next part of this thread, were told to wait for us."""
    for waiting in await due.next_waiting(conn, delivery):
        await engine.wake(conn, "publish", waiting, await db.async_now(conn))


# -- after a lost answer ------------------------------------------------------------------------------------------


async def reconcile(engine: Engine, delivery_id: int) -> Delivery | None:
    """Asks the network whether it went out. Returns the row when it is decided."""
    claim = secrets.token_hex(8)
    lease_s = engine.settings.request_timeout_s * LOOK_LEASE_REQUESTS
    async with engine.pool.connection() as conn:
        delivery = await arrows.claim_to_look(conn, delivery_id, claim, lease_s)
        if delivery is None:
            return None
        taken, now = await due.taken_remote_ids(conn, delivery), await db.async_now(conn)
    engine.reached("looking")
    try:
        platform, parcel = await _gathered(engine, delivery, with_data=False)
        staged = _staged(platform, delivery)
        if staged is None:
            raise Refused("What was prepared for it is gone.", code="stage_lost")
        async with asyncio.timeout(lease_s - LOOK_MARGIN_S):
            verdict = await _looked(engine, delivery, platform, parcel, staged, taken, now)
        engine.reached("looked")
        if isinstance(verdict, Found):
            return await _published(engine, delivery, None, platform, parcel, verdict.receipt)
        return await _decided(engine, delivery, claim, verdict)
    except PublishError as error:
        return await _cannot_look(engine, delivery, claim, error)
    except asyncio.CancelledError:
        await _hand_back_looking(engine, delivery, claim)
        raise
    except DATABASE_GONE:
        raise
    except UniqueViolation:  # another delivery with the same words was found to be it at the same instant
        return await _cannot_look(engine, delivery, claim, _taken())
    except TimeoutError:
        return await _cannot_look(engine, delivery, claim, _slow())
    except Exception as error:
        log.exception("looking ended unexpectedly", delivery=delivery.id)
        return await _cannot_look(engine, delivery, claim, _unmapped(error, "PostFlow looked whether it is out"))


async def _looked(
    engine: Engine,
    delivery: Delivery,
    platform: Platform,
    parcel: Outgoing,
    staged: BaseModel,
    taken: frozenset[str],
    now: datetime,
) -> Verdict:
    sent_at = delivery.sent_at or delivery.status_at
    attempt = Attempt(
        attempt_no=delivery.attempt_no,
        first_sent_at=delivery.first_sent_at or sent_at,
        sent_at=sent_at,
        looks=delivery.looks,
        absent_looks=delivery.absent_looks,
        first_absent_at=delivery.first_absent_at,
        taken_remote_ids=taken,
        now=now,
    )
    async with access.watched(engine.pool, engine.settings, parcel.login):
        return await platform.reconcile(engine.http, parcel, staged, attempt)


async def _decided(engine: Engine, delivery: Delivery, claim: str, verdict: Verdict) -> Delivery | None:
    async with db.async_transaction(engine.pool) as conn:
        if isinstance(verdict, LookAgain):
            at = await db.async_now(conn) + timedelta(seconds=verdict.in_s)
            if await arrows.look_again(conn, delivery.id, claim, at, absent=verdict.absent, sentence=verdict.why):
                await engine.wake(conn, "reconcile", delivery.id, at)
            return None
        if isinstance(verdict, SafeToResend) and delivery.faults >= engine.settings.max_faults:
            why = (
                f"It was sent {delivery.faults + 1} times, each time without an answer, and is not there. {verdict.why}"
            )
            return await _attention(engine, conn, delivery, claim, "never_answered", why)
        if isinstance(verdict, SafeToResend):
            pause_s = _backoff(engine.settings.backoff_s, delivery.faults - 1) if delivery.faults else None
            moved = await arrows.send_again(
                conn,
                delivery.id,
                claim,
                not_before=await db.async_now(conn) + timedelta(seconds=pause_s) if pause_s else None,
                new_key=verdict.new_key,
                restage=verdict.restage,
                settled=verdict.settled,
                sentence=f"{verdict.why} Sending it again.",
            )
            if moved:
                await engine.wake(conn, "publish", delivery.id, moved.wake_at or moved.status_at)
            return moved
        why = verdict.why if not isinstance(verdict, Found) else ""
        return await _attention(engine, conn, delivery, claim, "undecidable", why)


async def _cannot_look(engine: Engine, delivery: Delivery, claim: str, error: PublishError) -> Delivery | None:
    """A dead token cannot read: look again once the account is back, and ask the person after a day."""
    async with db.async_transaction(engine.pool) as conn:
        now = await db.async_now(conn)
        waited = now - (delivery.sent_at or delivery.status_at)
        if isinstance(error, Refused) or waited > timedelta(days=1):
            return await _attention(engine, conn, delivery, claim, error.code, error.sentence)
        at = now + timedelta(seconds=getattr(error, "retry_in_s", None) or 600)
        if await arrows.look_again(conn, delivery.id, claim, at, absent=None, sentence=error.sentence):
            await engine.wake(conn, "reconcile", delivery.id, at)
    return None


async def _attention(
    engine: Engine, conn: AsyncConnection, delivery: Delivery, claim: str, code: str, why: str
) -> Delivery | None:
    log.warning("attention", delivery=delivery.id, reason=code, why=why)
    moved = await arrows.mark_attention(
        conn,
        delivery.id,
        claim,
        code=code,
        sentence=why,
        next_step="Look at the account: if the post is there, say so; if it is not, send it again.",
    )
    await notices.not_published(conn, engine.settings, moved)
    return moved


# -- when the worker is told to stop ---------------------------------------------------------------------------------


async def _to_the_end(writing: Coroutine[Any, Any, T]) -> T:
    """What the network has answered is written down, though the worker is told to stop just then."""
    task = asyncio.ensure_future(writing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def _hand_back_preparing(engine: Engine, delivery: Delivery, claim: str) -> None:
    """preparing → scheduled with its checkpoints: the next worker goes on at once, not when our lease has run out."""
    async with db.async_transaction(engine.pool) as conn:
        moved = await arrows.give_back(
            conn,
            delivery.id,
            claim,
            not_before=None,
            faults=0,
            restage=False,
            new_key=False,
            sentence="The worker that prepared it was stopped; another goes on from there.",
            detail={},
        )
        if moved and moved.wake_at:
            now = await db.async_now(conn)
            await engine.wake(conn, "publish" if moved.wake_at <= now else "prepare", delivery.id, now)


async def _hand_back_looking(engine: Engine, delivery: Delivery, claim: str) -> None:
    async with db.async_transaction(engine.pool) as conn:
        now = await db.async_now(conn)
        why = "The worker that looked was stopped; another looks."
        if await arrows.look_again(conn, delivery.id, claim, now, absent=None, sentence=why):
            await engine.wake(conn, "reconcile", delivery.id, now)


def _taken() -> Retry:
    return Retry(
        "Another post with the same words was found to be the one on the network; looking once more.", retry_in_s=30
    )


def _slow() -> Retry:
    return Retry("The network was too slow to be looked through; looking again later.", retry_in_s=600)


def _stopped() -> OutcomeUnknown:
    return OutcomeUnknown(
        "The worker was stopped while it was sending; looking whether it went out.", code="worker_stopped"
    )


# -- whatever overslept ----------------------------------------------------------------------------------------------


async def sweep(engine: Engine) -> dict[str, int]:
    """Takes up what dead workers left and what lost its wake-up. Safe to run anywhere, any time, side by side."""
    async with db.async_transaction(engine.pool) as conn:
        now = await db.async_now(conn)
        dropped = await due.drop_preparing(conn, PREPARE_LEASE_S)
        lost = await due.lose_sending(
            conn,
            now + timedelta(seconds=engine.settings.settle_s),
            engine.settings.request_timeout_s + SEND_MARGIN_S,
        )
        asleep = await due.overslept(conn)
        for row in dropped:
            await engine.wake(conn, "publish" if row.is_due(now) else "prepare", row.id, now)
        for row in lost:
            await engine.wake(conn, "reconcile", row.id, row.wake_at or now)
        for row in asleep:
            await engine.wake(conn, "reconcile" if row.status is DeliveryStatus.unknown else "publish", row.id, now)
    found = {"preparing": len(dropped), "sending": len(lost), "asleep": len(asleep)}
    if any(found.values()):
        log.warning("swept", **found)
    return found


# -- what a platform needs ---------------------------------------------------------------------------------------------


async def _gathered(engine: Engine, delivery: Delivery, *, with_data: bool) -> tuple[Platform, Outgoing]:
    """Raises Refused when the account or the network is gone, NotReady when the operator has to mend something first."""
    try:
        parcel = await outgoing.gather(engine.pool, delivery, engine.settings, with_data=with_data)
        return platforms.get(parcel.login.account.platform), parcel
    except NotFound as gone:
        raise Refused(str(gone), code="network_gone", next_step="Publish it by hand.") from None
    except Misconfigured as wrong:  # a key is missing: no fault of the post's, and none of the network's
        log.error("an account cannot be opened", account=delivery.account_id, why=str(wrong))
        raise NotReady(
            "Whoever runs PostFlow has to put back a key that opens the account.", retry_in_s=PUT_OFF_S
        ) from None


def _staged(platform: Platform, delivery: Delivery) -> BaseModel | None:
    """What an older version staged and this one cannot read is prepared anew; that is only safe before sending."""
    if delivery.staged is None:
        return None
    try:
        return platform.staged_model.model_validate(delivery.staged)
    except ValidationError:
        if delivery.status in (DeliveryStatus.scheduled, DeliveryStatus.preparing):
            return None
        raise Refused(
            "What was prepared for it cannot be read by this version.",
            code="stage_unreadable",
            next_step="Check the account, then try again.",
        ) from None
