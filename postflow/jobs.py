"""How jobs are deferred: one plain statement on the queue's own function, on the caller's connection, so that row and
job commit or vanish together.

A job carries nothing but a delivery's id: the row is the truth.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, LiteralString

from psycopg import AsyncConnection, Connection

from postflow import platforms
from postflow.errors import NotFound
from postflow.models import Delivery, DeliveryStatus

QUEUE = "posts"
#: A publish job starts so long before its date: what it needs is then at hand, whatever else the machine is doing.
HEAD_START_S = 0.3
#: By so much more it may be early, or what makes room for it may be late.
MARGIN_S = 1.0

#: What is due goes before what is prepared.
_DEFER: LiteralString = """
    SELECT procrastinate_defer_jobs_v1(array_agg(
        ROW(%(queue)s, wanted.task, CASE wanted.task WHEN 'publish' THEN 10 ELSE 0 END, NULL, NULL,
            jsonb_build_object('delivery_id', wanted.id), wanted.at)
            ::procrastinate_job_to_defer_v1 ORDER BY wanted.at, wanted.id))
      FROM unnest(%(tasks)s::text[], %(ids)s::bigint[], %(ats)s::timestamptz[]) AS wanted (task, id, at)
"""
#: What waited for an account, as (story, delivery, instant).
_TAKE_UP: LiteralString = """
    WITH held AS (
        UPDATE deliveries SET wake_at = least(deliveries.wake_at, clock_timestamp())
          FROM posts p
         WHERE p.id = deliveries.post_id AND deliveries.account_id = %(id)s AND claim IS NULL
           AND (status = 'unknown' OR (status IN ('scheduled', 'ready') AND p.post_date <= clock_timestamp()))
        RETURNING deliveries.id, CASE status WHEN 'unknown' THEN 'reconcile' ELSE 'publish' END AS story)
    SELECT story, id, clock_timestamp() FROM held
     UNION ALL
    SELECT 'prepare', d.id, clock_timestamp() FROM deliveries d JOIN posts p ON p.id = d.post_id
     WHERE d.account_id = %(id)s AND d.status = 'scheduled' AND p.post_date > clock_timestamp()
       AND p.post_date <= clock_timestamp() + make_interval(secs => %(lead_s)s)
"""


def is_at_hand(at: datetime, now: datetime) -> bool:
    """The job that was deferred for `at` may be here already. Whoever is woken then waits for the instant; what becomes
    possible only then has to be woken anew.
    """
    return at - now <= timedelta(seconds=HEAD_START_S + MARGIN_S)


def publish_later(conn: Connection, deliveries: Sequence[Delivery]) -> None:
    """One job at post_date for each delivery, and one minutes earlier to prepare; in the caller's transaction."""
    wanted: list[tuple[str, int, datetime]] = []
    leads = _leads(conn, deliveries)
    for delivery in deliveries:
        if delivery.wake_at is None:
            continue
        if delivery.status in (DeliveryStatus.scheduled, DeliveryStatus.ready):  # ready: it may be too old by then
            wanted.append(("prepare", delivery.id, delivery.wake_at - timedelta(seconds=leads[delivery.account_id])))
        wanted.append(("publish", delivery.id, delivery.wake_at - timedelta(seconds=HEAD_START_S)))
    if wanted:
        conn.execute(_DEFER, _jobs(wanted))


async def wake(conn: AsyncConnection, story: str, delivery_id: int, at: datetime) -> None:
    """`engine.Wake`: the same from within a story."""
    await wake_all(conn, [(story, delivery_id, at)])


async def wake_all(conn: AsyncConnection, wanted: Sequence[tuple[str, int, datetime]]) -> None:
    """Any number of (story, delivery, instant) in one statement: a sweep after an outage may have thousands."""
    if wanted:
        await conn.execute(_DEFER, _jobs(wanted))


def resume(conn: Connection, account_id: int) -> int:
    """The account is back: whatever waited for it gets a job now, in the caller's transaction. Returns how many.

    What is late obeys the lateness rule and the pace of late posts, as after any downtime; what was due to be prepared
    meanwhile is prepared.
    """
    wanted = conn.execute(_TAKE_UP, _of_account(account_id)).fetchall()
    if wanted:
        conn.execute(_DEFER, _jobs(wanted))
    return len(wanted)


async def async_resume(conn: AsyncConnection, account_id: int) -> int:
    """`resume`, from within a story."""
    wanted = await (await conn.execute(_TAKE_UP, _of_account(account_id))).fetchall()
    await wake_all(conn, wanted)
    return len(wanted)


def _of_account(account_id: int) -> dict[str, float]:
    return {"id": account_id, "lead_s": max(platform.prepare_lead_s for platform in platforms.REGISTRY.values())}


def _jobs(wanted: Sequence[tuple[str, int, datetime]]) -> dict[str, Any]:
    return {
        "queue": QUEUE,
        "tasks": [story for story, _, _ in wanted],
        "ids": [delivery_id for _, delivery_id, _ in wanted],
        "ats": [at for _, _, at in wanted],
    }


def _leads(conn: Connection, deliveries: Sequence[Delivery]) -> dict[int, float]:
    """How early each account's network wants to be prepared, in seconds."""
    rows = conn.execute(
        "SELECT id, platform FROM accounts WHERE id = ANY(%(ids)s)",
        {"ids": [delivery.account_id for delivery in deliveries]},
    ).fetchall()
    return {account_id: _lead_s(name) for account_id, name in rows}


def _lead_s(name: str) -> float:
    try:
        return platforms.get(name).prepare_lead_s
    except NotFound:
        return 0
