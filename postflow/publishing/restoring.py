"""When the database has forgotten its last moments: a replica was promoted, or a backup restored.

What was due by then may be out already, though its row says that it waits. Nothing of it is sent by itself, and nothing is
told untruly: it becomes unknown, as if its answer had been lost, and a look tells. Found: published. Absent: after a short
gap it is sent; after a long one it may have been edited, prepared anew and sent in other words, so its person decides.

The lineage table knows which history it belongs to (migrations/sql/0008_lineage.sql). Every claim to send asks it in its own
statement, so that nothing leaves between a failover and the moment in which somebody notices it.
"""

from datetime import datetime, timedelta

import structlog
from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from postflow import db, jobs
from postflow.config import Settings
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.posts.deliveries import told

log = structlog.stdlib.get_logger("postflow.publishing.restoring")

#: A failover takes minutes; whatever has forgotten more than this may have forgotten edits as well.
SHORT = timedelta(minutes=15)
#: Two machines' clocks differ: what is due a little later may have been due already.
SKEW_S = 5
#: `error_code` of what is in doubt: may a look that does not find it be believed?
FORGOTTEN, RESTORED = "forgotten", "restored"
IN_DOUBT = frozenset({FORGOTTEN, RESTORED})
SENTENCE = (
    "PostFlow's database has lost its last moments, and this was due by then: it may be out already. Looking at the"
    " account before anything is sent."
)
NOT_FOUND = (
    "PostFlow's database was restored, and this was due by then. It was not found on the account as it is here, but it may be"
    " out in other words, if it was changed after the backup was made."
)


async def notice(engine: Engine) -> int:
    """How many came into doubt since this is another history than we knew; 0 as long as it is the same."""
    async with engine.pool.connection() as conn:
        if await _is_ours(conn):
            return 0
    async with db.async_transaction(engine.pool) as conn:
        seen_at = await _lock(conn)
        if await _is_ours(conn):
            return 0  # somebody else was first
        lost = await db.async_now(conn) - seen_at
        moved = await _begin(conn, engine.settings, long=lost > SHORT)
    log.error("the database has lost its last moments; what was due is looked up", deliveries=moved, since=str(seen_at))
    return moved


async def note(conn: AsyncConnection) -> None:
    """This history is still the present one."""
    await conn.execute("UPDATE lineage SET seen_at = clock_timestamp() WHERE mark = postflow_lineage()")


async def hold_overdue(settings: Settings) -> int:
    """How many came into doubt, whatever the marks say: an operator knows of a backup. Before the first worker starts."""
    url = settings.database_url.get_secret_value()
    async with db.async_pool(url) as pool, db.async_transaction(pool) as conn:
        await _lock(conn)
        return await _begin(conn, settings, long=True)


async def _is_ours(conn: AsyncConnection) -> bool:
    found = await conn.execute("SELECT FROM lineage WHERE mark = postflow_lineage()")
    return found.rowcount == 1


async def _lock(conn: AsyncConnection) -> datetime:
    """When this history was last seen. Whoever else has noticed waits here and then finds it done."""
    [(seen_at,)] = await (await conn.execute("SELECT seen_at FROM lineage FOR UPDATE")).fetchall()
    return seen_at


async def _begin(conn: AsyncConnection, settings: Settings, *, long: bool) -> int:
    """From here on this history is ours: in one transaction with the doubts about it."""
    look_at = await db.async_now(conn) + timedelta(seconds=settings.settle_s)
    doubted = await doubt(conn, look_at, long=long)
    await jobs.wake_all(conn, [("reconcile", row.id, look_at) for row in doubted])
    await conn.execute("UPDATE lineage SET mark = postflow_lineage(), seen_at = clock_timestamp()")
    return len(doubted)


async def doubt(conn: AsyncConnection, look_at: datetime, *, long: bool) -> list[Delivery]:
    """scheduled, preparing, ready → unknown, where it was due; after a `long` gap also sending, unknown → unknown.

    What was due is told by this clock, unless it lies behind what it has told before: then whatever comes due within `SHORT`
    after that counts as well, since nobody knows how far the lost moments went.

    The request that may have left counts as an attempt of now: whoever sent it may still be at it. Several that are alike may
    be in doubt at once, of which the oldest status is taken for the first that is looked up.
    """
    async with conn.cursor(row_factory=class_row(Delivery)) as cursor:
        await cursor.execute(
            told(
                """
                UPDATE deliveries
                   SET status = 'unknown', status_at = clock_timestamp(), claim = NULL, wake_at = %(look_at)s,
                       attempt_no = attempt_no + 1, sent_at = clock_timestamp(), looks = 0, absent_looks = 0,
                       first_absent_at = NULL, error = %(sentence)s, likeness = NULL,
                       first_sent_at = coalesce(first_sent_at,
                           least(greatest(p.post_date, asked_at, status_at), clock_timestamp())),
                       error_code = CASE WHEN %(long)s OR (status <> 'ready' AND p.content->'attachments' <> '[]')
                                         THEN %(restored)s ELSE %(forgotten)s END
                  FROM posts p, (SELECT greatest(seen_at, (SELECT at FROM delivery_events ORDER BY id DESC LIMIT 1)) AS at
                                   FROM lineage) known
                 WHERE p.id = deliveries.post_id
                   AND ((status IN ('scheduled', 'preparing', 'ready')
                         AND p.post_date <= CASE WHEN known.at > clock_timestamp() THEN known.at + %(short)s
                                                 ELSE clock_timestamp() + make_interval(secs => %(skew_s)s) END)
                        OR (%(long)s AND status IN ('sending', 'unknown')))
                """
            ),
            {
                "look_at": look_at,
                "long": long,
                "restored": RESTORED,
                "forgotten": FORGOTTEN,
                "skew_s": SKEW_S,
                "short": SHORT,
                "sentence": SENTENCE,
                "detail": Jsonb({"code": "restored" if long else "forgotten"}),
            },
        )
        return await cursor.fetchall()
