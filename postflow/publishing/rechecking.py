"""The look after a second send: is it on the account twice? Nothing is sent or taken back; its person is told.

Absence was proven before a post was sent again, but no look can see what a proxy on the way still holds: the first request
may arrive after all, together with the second, where nothing locks its key. That cannot be prevented from here. It can
be seen, some minutes later and once more after an hour.
"""

import asyncio
from datetime import datetime, timedelta
from typing import LiteralString

import structlog
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from pydantic import BaseModel

from postflow import db
from postflow.connections import access
from postflow.engine import Engine
from postflow.errors import PublishError, Refused
from postflow.models import Attempt, Delivery, Found, LookAgain, Outgoing, Receipt, Value
from postflow.notifications import notices
from postflow.platforms.base import Platform
from postflow.posts import deliveries
from postflow.posts.deliveries import told
from postflow.publishing import due as dates
from postflow.publishing import outgoing, transitions

log = structlog.stdlib.get_logger("postflow.publishing.rechecking")

LAST_LOOK_S = 3600
#: Between two tries of one look, and until it is left.
AGAIN_S, LONGEST = 600, timedelta(days=1)
LOOK_S = 120


class Recheck(Value):
    """A published delivery of which more than one request may have been carried out."""

    delivery_id: int
    look_at: datetime
    since: datetime  # when the first of them was sent
    looks: int


async def plan(conn: AsyncConnection, delivery: Delivery) -> None:
    """In the transaction that marks it published: when an earlier request was given up as unknown."""
    await conn.execute(deliveries.PLAN_RECHECK, {"id": delivery.id, "in_s": deliveries.FIRST_RECHECK_S})


async def due(conn: AsyncConnection) -> list[int]:
    """Those to look at now; each comes again while nobody has done so, and is left after a day."""
    await conn.execute("DELETE FROM rechecks WHERE look_at > since + %(longest)s", {"longest": LONGEST})
    rows = await conn.execute(
        """
        UPDATE rechecks SET look_at = clock_timestamp() + make_interval(secs => %(again_s)s)
         WHERE delivery_id IN (SELECT delivery_id FROM rechecks WHERE look_at <= clock_timestamp()
                                LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
        RETURNING delivery_id
        """,
        {"again_s": AGAIN_S, "batch": dates.BATCH},
    )
    return [delivery_id for (delivery_id,) in await rows.fetchall()]


async def recheck(engine: Engine, delivery_id: int) -> None:
    """Called by the worker's task."""
    async with engine.pool.connection() as conn:
        planned, delivery = await _planned(conn, delivery_id), await transitions.get(conn, delivery_id)
    if planned is None or delivery is None or delivery.remote_id is None:
        return
    try:
        platform, parcel = await outgoing.gathered(engine, delivery, with_data=False)
        staged = outgoing.staged_state(platform, delivery)
        if staged is None or not platform.recognizes(parcel.content):
            raise Refused("Nothing tells it from others.", code="nothing_to_tell_it_by")
        async with asyncio.timeout(LOOK_S), access.watched(engine, parcel.login):
            double = await _looked(engine, delivery, planned, platform, parcel, staged)
    except Refused as gone:
        log.info("left as it is", delivery=delivery_id, why=gone.sentence)
        await _done(engine, planned, delivery, None, last=True)
    except (PublishError, TimeoutError) as error:
        log.info("looked in vain whether it is out twice", delivery=delivery_id, why=str(error))
    else:
        await _done(engine, planned, delivery, double, last=bool(double) or planned.looks > 0)


async def _looked(
    engine: Engine, delivery: Delivery, planned: Recheck, platform: Platform, parcel: Outgoing, staged: BaseModel
) -> Receipt | None:
    """The look that finds a lost post, told that the one we know is another: what it finds then is a second one."""
    known = delivery.model_copy(update={"first_sent_at": planned.since})
    async with engine.pool.connection() as conn:
        taken, rivalled = await dates.taken_remote_ids(conn, known), await dates.is_rivalled(conn, known)
        now = await db.async_now(conn)
    attempt = Attempt(
        attempt_no=delivery.attempt_no,
        first_sent_at=planned.since,
        sent_at=planned.since,
        looks=planned.looks,
        absent_looks=planned.looks,
        first_absent_at=None,
        taken_remote_ids=taken | {delivery.remote_id or ""},
        rivalled=rivalled,
        now=now,
    )
    verdict = await platform.reconcile(engine.http, parcel, staged, attempt)
    if isinstance(verdict, LookAgain) and verdict.absent is None:
        raise TimeoutError(verdict.why)
    found = verdict.receipt if isinstance(verdict, Found) else None
    return found if found and found.remote_id not in (None, delivery.remote_id) else None


async def _done(engine: Engine, planned: Recheck, delivery: Delivery, double: Receipt | None, *, last: bool) -> None:
    async with db.async_transaction(engine.pool) as conn:
        if not await _ticked_off(conn, planned, last=last) or double is None:
            return
        theirs, ours = double.permalink or double.remote_id, delivery.permalink or delivery.remote_id
        sentence = f"It seems to be on the account twice: {ours} and {theirs}. Delete one of them there."
        if not await tell(conn, delivery.id, sentence):
            return
        await notices.out_twice(conn, engine.settings, delivery, sentence)
    log.warning("out twice", delivery=delivery.id, ours=ours, theirs=theirs)


async def tell(conn: AsyncConnection, delivery_id: int, sentence: str) -> bool:
    """published → published: its person reads it on the post's page, and among what needs attention."""
    moved = await conn.execute(
        told(
            "UPDATE deliveries SET notes = notes || %(sentence)s::text, error_code = coalesce(error_code, 'out_twice')"
            " WHERE id = %(id)s AND status = 'published'"
        ),
        {"id": delivery_id, "sentence": sentence, "detail": Jsonb({"code": "out_twice"})},
    )
    return moved.rowcount == 1


async def _planned(conn: AsyncConnection, delivery_id: int) -> Recheck | None:
    async with conn.cursor(row_factory=class_row(Recheck)) as cursor:
        await cursor.execute(
            "SELECT delivery_id, look_at, since, looks FROM rechecks r WHERE delivery_id = %(id)s"
            " AND EXISTS (SELECT FROM deliveries d WHERE d.id = r.delivery_id AND d.status = 'published')",
            {"id": delivery_id},
        )
        return await cursor.fetchone()


async def _ticked_off(conn: AsyncConnection, planned: Recheck, *, last: bool) -> bool:
    """False when somebody else has looked meanwhile."""
    remove: LiteralString = "DELETE FROM rechecks WHERE delivery_id = %(id)s AND looks = %(looks)s"
    later: LiteralString = """
        UPDATE rechecks SET looks = looks + 1, look_at = clock_timestamp() + make_interval(secs => %(in_s)s)
         WHERE delivery_id = %(id)s AND looks = %(looks)s
    """
    params = {"id": planned.delivery_id, "looks": planned.looks, "in_s": LAST_LOOK_S}
    return (await conn.execute(remove if last else later, params)).rowcount == 1
