"""What is written down when a request has ended: published, not now, never, or nobody knows."""

import random
from datetime import datetime, timedelta
from typing import Any

import httpx
import structlog
from psycopg import AsyncConnection

from postflow import db
from postflow.engine import Engine, kept, to_the_end
from postflow.errors import (
    NotReady,
    OutcomeUnknown,
    PublishError,
    Refused,
    Retry,
    StageLost,
    Throttled,
    Unauthorized,
)
from postflow.models import Delivery, DeliveryStatus, Outgoing, Receipt
from postflow.notifications import notices
from postflow.platforms.base import Platform
from postflow.publishing import due, rechecking, transitions, turns

log = structlog.stdlib.get_logger("postflow.publishing.outcomes")

LONGEST_BACKOFF_S = 3600.0
#: No pause needs more, and no number gets too large.
MOST_DOUBLINGS = 20
#: First pause where a network asks to wait and does not say how long.
UNTOLD_PAUSE_S = 60.0
#: Before it is claimed again, where the database did not confirm the claim.
UNHEARD_S = 1.0
#: `error_code` while it is looked for: the server answered with a status that another delivery is known as.
NAMES_ANOTHER = "names_another"


# -- it is out -------------------------------------------------------------------------------------------------


async def published(
    engine: Engine, delivery: Delivery, claim: str | None, platform: Platform, parcel: Outgoing, receipt: Receipt
) -> Delivery | None:
    done = await to_the_end(_write_published(engine, delivery, receipt, found=claim is None))
    engine.reached("published")
    if done is None:
        log.error(
            "published, but its row tells of another post by now", delivery=delivery.id, remote_id=receipt.remote_id
        )
        return None
    log.info(
        "published", delivery=done.id, network=platform.name, account=parcel.login.account.handle, url=done.permalink
    )
    if receipt.permalink is None:
        await _add_permalink(engine, done, platform, parcel, receipt)
    return done


@kept
async def _write_published(engine: Engine, delivery: Delivery, receipt: Receipt, *, found: bool) -> Delivery | None:
    sentence = "Found on the network: it had gone out." if found else "Published."
    if receipt.shortfall:
        sentence = f"{sentence} {receipt.shortfall}"
    async with db.async_transaction(engine.pool) as conn:
        done = await transitions.mark_published(conn, delivery, receipt, sentence=sentence, lookup=found)
        if done and done.attempt_no > 1:
            await rechecking.plan(conn, done)
        if done and receipt.shortfall:
            await notices.incomplete(conn, engine.settings, done)
        await wake_what_waited(engine, conn, delivery)
        return done or await _known_already(conn, delivery, receipt)


async def _known_already(conn: AsyncConnection, delivery: Delivery, receipt: Receipt) -> Delivery | None:
    """The row, where it tells the same: we had written it down and did not hear so. Where it tells another story by now,
    this one is added to it.
    """
    row = await transitions.get(conn, delivery.id)
    if row and row.status is DeliveryStatus.published and row.remote_id == receipt.remote_id:
        return row
    where = receipt.permalink or receipt.remote_id or "an address that is not known"
    await due.note(conn, delivery.id, f"An earlier request for it was answered after all: it is out as {where}.")
    return None


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


# -- it is not, or nobody knows ----------------------------------------------------------------------------------


async def not_confirmed(engine: Engine, delivery: Delivery, claim: str, error: PublishError) -> None:
    if isinstance(error, OutcomeUnknown):
        await unknown(engine, delivery, claim, error)
    else:
        await could_not(engine, delivery, claim, error)


@kept
async def unknown(engine: Engine, delivery: Delivery, claim: str, error: PublishError) -> None:
    async with db.async_transaction(engine.pool) as conn:
        look_at = await db.async_now(conn) + timedelta(seconds=engine.settings.settle_s)
        moved = await transitions.mark_unknown(
            conn, delivery.id, claim, look_at, code=error.code, sentence=error.sentence, detail=_detail(error)
        )
        if moved:
            await engine.wake(conn, "reconcile", delivery.id, look_at)
        await wake_what_waited(engine, conn, delivery)
    log.warning("outcome unknown", delivery=delivery.id, reason=error.code, why=error.sentence)


async def could_not(engine: Engine, delivery: Delivery, claim: str, error: PublishError) -> None:
    """Nothing was published: later, after a pause of the right length, or never."""
    if isinstance(error, Refused):
        await give_up(engine, delivery, claim, error)
    elif _is_spent(engine, delivery, error):
        await give_up(engine, delivery, claim, _spent(error, delivery))
    else:
        await _later(engine, delivery, claim, error)


async def intent_unheard(engine: Engine, delivery: Delivery, claim: str) -> None:
    """Its intent may have been written down, but nothing has left: whoever knows that says so."""
    unheard = Retry(
        "The database did not confirm in time that it may be sent, so nothing left.",
        retry_in_s=UNHEARD_S,
        code="unheard",
    )
    await could_not(engine, delivery, claim, unheard)
    await _wake_the_ready(engine, delivery.id)


@kept
async def _wake_the_ready(engine: Engine, delivery_id: int) -> None:
    """The intent had not come through, and the job that brought it is over."""
    async with db.async_transaction(engine.pool) as conn:
        row = await transitions.get(conn, delivery_id)
        if row and row.status is DeliveryStatus.ready:
            await engine.wake(conn, "publish", delivery_id, await db.async_now(conn))


@kept
async def _later(engine: Engine, delivery: Delivery, claim: str, error: PublishError) -> None:
    async with db.async_transaction(engine.pool) as conn:
        at = _again_at(engine, delivery, error, await db.async_now(conn))
        if isinstance(error, Throttled) and at:
            await due.throttle(conn, delivery.account_id, at, only_uploads=error.only_uploads)
        moved = await transitions.give_back(
            conn,
            delivery,
            claim,
            not_before=at,
            faults=int(_is_fault(error)),
            pauses=int(_is_untold(error)),
            restage=isinstance(error, StageLost),
            new_key=bool(getattr(error, "new_key", False)),
            sentence=error.sentence,
            detail=_detail(error),
        )
        if moved and at:  # before its date there is something to prepare
            await engine.wake(conn, "publish" if moved.wake_at == at else "prepare", delivery.id, at)
        await wake_what_waited(engine, conn, delivery)
    log.info("later", delivery=delivery.id, reason=error.code, why=error.sentence, at=str(at))


@kept
async def give_up(engine: Engine, delivery: Delivery, claim: str | None, error: PublishError) -> None:
    async with db.async_transaction(engine.pool) as conn:
        failed = await transitions.mark_failed(
            conn,
            delivery,
            claim,
            as_of=delivery.status_at,
            code=error.code,
            sentence=error.sentence,
            next_step=error.next_step,
            detail=_detail(error),
        )
        await notices.not_published(conn, engine.settings, failed)
        await wake_what_waited(engine, conn, delivery)
    if failed:
        log.warning("failed", delivery=delivery.id, reason=error.code, why=error.sentence)


def _is_fault(error: PublishError) -> bool:
    """Waiting for the network to process, or because it asks the account to wait, spends no attempt."""
    return not isinstance(error, Throttled | NotReady | Unauthorized)


def _is_untold(error: PublishError) -> bool:
    """Asked to wait, and not how long."""
    return isinstance(error, Throttled) and error.retry_in_s is None


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
    if _is_untold(error):
        wish = backoff(max(UNTOLD_PAUSE_S, engine.settings.backoff_s), delivery.pauses, of=delivery.account_id)
    if wish is None:
        wish = backoff(engine.settings.backoff_s, delivery.faults, of=delivery.account_id)
    return now + timedelta(seconds=wish)


def backoff(first_s: float, times: int, *, of: int) -> float:
    """Doubles up to an hour, a quarter to and fro: by chance, and alike for all `of` one account, whose posts come back in
    the order in which they failed.
    """
    pause = min(LONGEST_BACKOFF_S, first_s * 2 ** min(times, MOST_DOUBLINGS))
    chance = random.Random(f"{of} {times}")  # noqa: S311 spreads load, guards nothing
    return pause * chance.uniform(0.75, 1.25)


def names_another(receipt: Receipt) -> OutcomeUnknown:
    return OutcomeUnknown(
        "The server answered with a post that is known as another one. PostFlow looks before it does anything.",
        code=NAMES_ANOTHER,
        detail=f"the answer names {receipt.remote_id}",
    )


def unmapped(error: BaseException, doing: str = "it was being handed over") -> PublishError:
    return OutcomeUnknown(
        f"Something unexpected happened while {doing}.", code="unexpected", detail=type(error).__name__
    )


def _detail(error: PublishError) -> dict[str, Any]:
    return {"code": error.code, **({"detail": error.detail} if error.detail else {})}


async def wake_what_waited(engine: Engine, conn: AsyncConnection, delivery: Delivery) -> None:
    """The next due post of this account, and the next part of this thread, were told to wait for us."""
    for waiting in await turns.next_waiting(conn, delivery):
        await engine.wake(conn, "publish", waiting, await db.async_now(conn))
