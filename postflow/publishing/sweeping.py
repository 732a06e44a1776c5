"""The story of whatever overslept: workers die, jobs get lost, the rows tell."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from psycopg import AsyncConnection

from postflow import db, jobs
from postflow.engine import Engine
from postflow.models import DeliveryStatus
from postflow.publishing import due, preparing, rechecking, restoring
from postflow.publishing.due import Overslept

log = structlog.stdlib.get_logger("postflow.publishing.sweeping")


async def sweep(engine: Engine) -> dict[str, int]:
    """Takes up what dead workers left and what lost its wake-up. Safe to run anywhere, any time, side by side.

    Each kind is a short transaction of its own: a sweep that is cut short has done what it has done. `held` are those
    that it could not take up, since somebody's transaction holds their rows.
    """
    forgotten = await restoring.notice(engine)
    async with engine.pool.connection() as conn:
        await restoring.note(conn)
        began_at = await db.async_now(conn)
        if moved := await due.set_back(conn):
            log.warning("the database's clock was set back; what waits by it waits no longer for that", rows=moved)
    found = {
        "sending": await _lose_sending(engine),
        "preparing": await _drop_preparing(engine),
        "asleep": await _wake_the_overslept(engine),
        "held": await _held(engine, began_at),
        "forgotten": forgotten,
    }
    if any(found.values()):
        log.warning("swept", **found)
    return found | {"rechecks": await _recheck(engine)}


async def _lose_sending(engine: Engine) -> int:
    async with db.async_transaction(engine.pool) as conn:
        look_at = await db.async_now(conn) + timedelta(seconds=engine.settings.settle_s)
        lost = await due.lose_sending(conn, look_at)
        return await _wake(conn, [("reconcile", row, look_at) for row in lost])


async def _drop_preparing(engine: Engine) -> int:
    async with db.async_transaction(engine.pool) as conn:
        now = await db.async_now(conn)
        dropped = await due.drop_preparing(conn, preparing.PREPARE_LEASE_S)
        return await _wake(conn, [("publish" if row.is_due(now) else "prepare", row, now) for row in dropped])


async def _recheck(engine: Engine) -> int:
    """What was sent twice is looked at again; nothing went wrong with these."""
    async with db.async_transaction(engine.pool) as conn:
        now, planned = await db.async_now(conn), await rechecking.due(conn)
        await jobs.wake_all(conn, [("recheck", delivery_id, now) for delivery_id in planned])
    return len(planned)


async def _wake_the_overslept(engine: Engine) -> int:
    async with db.async_transaction(engine.pool) as conn:
        now = await db.async_now(conn)
        asleep = await due.overslept(conn)
        return await _wake(conn, [(_story(row), row, now) for row in asleep])


async def _held(engine: Engine, since: datetime) -> int:
    async with engine.pool.connection() as conn:
        return await due.held(conn, since)


def _story(row: Overslept) -> str:
    return "reconcile" if row.status is DeliveryStatus.unknown else "publish"


async def _wake(conn: AsyncConnection, wanted: Sequence[tuple[str, Overslept, datetime]]) -> int:
    await jobs.wake_all(conn, [(story, row.id, at) for story, row, at in wanted])
    return len(wanted)
