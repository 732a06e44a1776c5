"""The story minutes before post_date: scheduled → preparing → ready. Unseen, repeatable, checkpointed after each step."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import structlog
from psycopg import AsyncConnection
from pydantic import BaseModel

from postflow import db, jobs
from postflow.connections import access
from postflow.engine import DATABASE_GONE, Engine
from postflow.errors import PublishError, Refused
from postflow.models import Delivery, DeliveryStatus
from postflow.publishing import due, outcomes, outgoing, transitions, turns

log = structlog.stdlib.get_logger("postflow.publishing.preparing")

#: How long a preparing worker may be silent, and how often it says that it is still at it.
PREPARE_LEASE_S, RENEW_EVERY_S = 60.0, 20.0
#: A post of which so many workers have died is not tried any more: its pictures may be too large for this machine.
MOST_DEATHS = 10
#: Until it comes back when there is no room for its uploads: at least, and at most.
LEAST_ROOM_S, MOST_ROOM_S = 1.0, 15.0
TOO_OLD = "What was prepared is too old for its date; preparing it anew."


class ClaimLost(Exception):
    """The row was edited, cancelled or taken over; whatever we were doing is no longer wanted."""


async def prepare(engine: Engine, delivery_id: int) -> Delivery | None:
    """Uploads and containers, so that one request remains. Returns the ready row, or None when there is nothing to do."""
    async with engine.pool.connection() as conn:
        server = await due.uploads_to(conn, delivery_id)
    with engine.uploads.admitted(server, engine.settings.concurrency) as admitted:
        if admitted:
            return await _prepare(engine, delivery_id)
    await _when_there_is_room(engine, delivery_id)
    return None


async def _prepare(engine: Engine, delivery_id: int) -> Delivery | None:
    claim = secrets.token_hex()
    async with engine.pool.connection() as conn:
        delivery = await transitions.claim_to_prepare(conn, delivery_id, claim, PREPARE_LEASE_S)
    if delivery is None:
        await _not_yet(engine, delivery_id)
        return None
    if delivery.deaths >= MOST_DEATHS:
        await outcomes.give_up(engine, delivery, claim, _deadly(delivery.deaths))
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
        await outcomes.could_not(engine, delivery, claim, error)
    except asyncio.CancelledError:
        await _hand_back(engine, delivery, claim)
        raise
    except DATABASE_GONE:
        raise  # no fault of the network's: the lease runs out, and the sweep hands it to whoever can write again
    except Exception as error:
        log.exception("preparing ended unexpectedly", delivery=delivery.id)
        await outcomes.could_not(engine, delivery, claim, outcomes.unmapped(error))
    return None


async def _when_there_is_room(engine: Engine, delivery_id: int) -> None:
    """Other uploads have all the slots they may have: it comes back, the sooner the closer its date is."""
    async with db.async_transaction(engine.pool) as conn:
        timing = await turns.timing(conn, delivery_id, engine.settings)
        if timing:
            pause_s = outcomes.backoff(room_s(timing.lateness_s), 0, of=delivery_id)
            await _come_back(engine, conn, timing, timing.now + timedelta(seconds=pause_s))


def room_s(lateness_s: float) -> float:
    """Until room is looked for again, seconds. It has a date in the future where `lateness_s` is negative."""
    return min(MOST_ROOM_S, max(LEAST_ROOM_S, abs(lateness_s) / 2))


async def _not_yet(engine: Engine, delivery_id: int) -> None:
    """What could not be claimed, and can be later: so that it is on time all the same.

    Its account was told to wait; or the post was moved so far away that what is prepared will be too old by then.
    """
    async with db.async_transaction(engine.pool) as conn:
        timing = await turns.timing(conn, delivery_id, engine.settings)
        if timing is None or not timing.account_is_active:
            return
        if timing.status is DeliveryStatus.scheduled:
            await _come_back(engine, conn, timing, timing.pause_ends)
        is_stale = timing.status is DeliveryStatus.ready and timing.is_stale(timing.post_date)
        if is_stale and await transitions.restage(conn, delivery_id, TOO_OLD):
            await engine.wake(conn, "prepare", delivery_id, timing.now)


async def _come_back(engine: Engine, conn: AsyncConnection, timing: turns.Timing, at: datetime) -> None:
    """To prepare, before its date; from then on to be published. A job for its date is there already."""
    if at < timing.post_date:
        await engine.wake(conn, "prepare", timing.delivery_id, at)
    elif jobs.is_at_hand(timing.post_date, timing.now):
        await due.postpone(conn, timing.delivery_id, at, as_of=timing.status_at)
        await engine.wake(conn, "publish", timing.delivery_id, at)


async def _stage(engine: Engine, delivery: Delivery, claim: str) -> BaseModel:
    platform, parcel = await outgoing.gathered(engine, delivery, with_data=True)

    async def checkpoint(staged: BaseModel) -> None:
        async with engine.pool.connection() as conn:
            if not await transitions.checkpoint(conn, delivery.id, claim, staged.model_dump(mode="json")):
                raise ClaimLost
        engine.reached("checkpoint")

    async with access.watched(engine, parcel.login):
        return await platform.prepare(engine.http, parcel, outgoing.staged_state(platform, delivery), checkpoint)


async def _ready(engine: Engine, delivery: Delivery, claim: str, staged: BaseModel) -> Delivery | None:
    async with db.async_transaction(engine.pool) as conn:
        ready = await transitions.mark_ready(conn, delivery.id, claim, staged.model_dump(mode="json"))
        # The job for post_date may have come and gone while we were preparing.
        if ready and ready.wake_at and jobs.is_at_hand(ready.wake_at, await db.async_now(conn)):
            await engine.wake(conn, "publish", ready.id, ready.wake_at)
    engine.reached("ready")
    return ready


@contextlib.asynccontextmanager
async def _renewing(engine: Engine, delivery_id: int, claim: str) -> AsyncIterator[None]:
    """Keeps the lease while a large upload takes its time; a dead process stops renewing."""

    async def renew() -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            with contextlib.suppress(*DATABASE_GONE):  # the next try, or the checkpoint, will tell
                async with engine.pool.connection() as conn:
                    await transitions.renew(conn, delivery_id, claim, PREPARE_LEASE_S)

    renewing = asyncio.create_task(renew())
    try:
        yield
    finally:
        renewing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewing


async def _hand_back(engine: Engine, delivery: Delivery, claim: str) -> None:
    """preparing → scheduled with its checkpoints: the next worker goes on at once, not when our lease has run out."""
    async with db.async_transaction(engine.pool) as conn:
        moved = await transitions.give_back(
            conn,
            delivery,
            claim,
            not_before=None,
            faults=0,
            pauses=0,
            restage=False,
            new_key=False,
            sentence="The worker that prepared it was stopped; another goes on from there.",
            detail={},
        )
        if moved and moved.wake_at:
            now = await db.async_now(conn)
            await engine.wake(conn, "publish" if moved.wake_at <= now else "prepare", delivery.id, now)


def _deadly(deaths: int) -> Refused:
    return Refused(
        f"{deaths} workers ended while they prepared it.",
        code="workers_end",
        next_step="Replace its pictures or videos by smaller ones, then try again.",
    )
