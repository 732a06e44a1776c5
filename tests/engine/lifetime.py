"""A delivery's whole life in a moment: due jobs are run as workers run them, and where nothing is due, time passes.

A job is gone from the queue when its story begins: what dies half-way has nothing left but its row.
"""

import httpx
import psycopg

from postflow.engine import Engine
from postflow.models import RESTING, DeliveryStatus
from postflow.publishing import preparing, rechecking, reconciling, sending, sweeping

STORIES = {
    "prepare": preparing.prepare,
    "publish": sending.publish,
    "reconcile": reconciling.reconcile,
    "recheck": rechecking.recheck,
}
#: Longer than any lease here, and than the pause between two looks.
STRIDE_S = 65.0
_ROUNDS = 40

Jobs = list[tuple[str, int]]


async def to_rest(
    engine: Engine,
    conn: psycopg.Connection,
    delivery_ids: list[int],
    stride_s: float = STRIDE_S,
    clock_url: str | None = None,
) -> None:
    """Until none of them has anywhere to go. Raises AssertionError when that never happens.

    `clock_url`: where the sandbox's clock is moved, too.
    """
    for _ in range(_ROUNDS):
        await run_due(engine, conn)
        if _at_rest(conn, delivery_ids):
            return
        pass_time(conn, stride_s)
        if clock_url:
            httpx.post(clock_url, data={"advance": stride_s}, trust_env=False).raise_for_status()  # noqa: ASYNC210
        await sweeping.sweep(engine)
    raise AssertionError(f"no end: {states(conn, delivery_ids)}")


async def run_due(engine: Engine, conn: psycopg.Connection) -> None:
    """Every job whose time has come, and those that they defer for now."""
    while job := due_job(conn):
        story, delivery_id = job
        await STORIES[story](engine, delivery_id)


def pass_time(conn: psycopg.Connection, seconds: float) -> None:
    """Everything that is awaited or remembered moves into the past; the posts' dates stay."""
    for move in (
        "UPDATE deliveries SET wake_at = wake_at - %(by)s, not_before = not_before - %(by)s, sent_at = sent_at - %(by)s,"
        " first_sent_at = first_sent_at - %(by)s, first_absent_at = first_absent_at - %(by)s"
        " WHERE wake_at IS NOT NULL",
        "UPDATE rechecks SET look_at = look_at - %(by)s, since = since - %(by)s",
        "UPDATE accounts SET throttled_until = throttled_until - %(by)s,"
        " uploads_throttled_until = uploads_throttled_until - %(by)s",
        "UPDATE procrastinate_jobs SET scheduled_at = scheduled_at - %(by)s WHERE status = 'todo'",
    ):
        conn.execute(move.replace("%(by)s", "make_interval(secs => %(by)s)").encode(), {"by": seconds})


def due_job(conn: psycopg.Connection) -> tuple[str, int] | None:
    return conn.execute(
        """
        DELETE FROM procrastinate_jobs WHERE id = (
            SELECT id FROM procrastinate_jobs WHERE status = 'todo' AND scheduled_at <= clock_timestamp()
             ORDER BY scheduled_at, id LIMIT 1)
        RETURNING task_name, (args->>'delivery_id')::bigint
        """
    ).fetchone()


def _at_rest(conn: psycopg.Connection, delivery_ids: list[int]) -> bool:
    return all(DeliveryStatus(status) in RESTING for status in states(conn, delivery_ids))


def states(conn: psycopg.Connection, delivery_ids: list[int]) -> list[str]:
    """In the order in which they were made."""
    rows = conn.execute("SELECT status FROM deliveries WHERE id = ANY(%s) ORDER BY id", [delivery_ids])
    return [row[0] for row in rows.fetchall()]
