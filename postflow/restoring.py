"""After a backup was restored: what was due since it was made may be out already, and nobody here knows.

Nothing of it is sent again by itself: it is marked as missed, with the reason, and its person decides after a look.
"""

from datetime import datetime

from psycopg_pool import AsyncConnectionPool

from postflow import arrows, db, due
from postflow.config import Settings

SENTENCE = (
    "PostFlow was restored from a backup, and this was due since then: it may be out already. Nothing was sent now."
)
NEXT_STEP = "Look at the account first. If it is not there, publish it now."


async def hold_overdue(settings: Settings) -> int:
    """How many were held. Before the first worker starts; what was being sent is looked up by the workers as always."""
    async with db.async_pool(settings.database_url.get_secret_value(), max_size=1) as pool:
        await _drop_preparing(pool)
        held = 0
        for delivery_id, status_at in await _overdue(pool):
            async with pool.connection() as conn:
                held += await arrows.mark_missed(conn, delivery_id, SENTENCE, NEXT_STEP, as_of=status_at) is not None
        return held


async def _drop_preparing(pool: AsyncConnectionPool) -> None:
    """Whoever prepared it did so before the backup: the lease has run out, or is made to."""
    async with db.async_transaction(pool) as conn:
        await conn.execute("UPDATE deliveries SET wake_at = clock_timestamp() WHERE status = 'preparing'")
        while await due.drop_preparing(conn, 0):
            pass


async def _overdue(pool: AsyncConnectionPool) -> list[tuple[int, datetime]]:
    async with pool.connection() as conn:
        rows = await conn.execute(
            """
            SELECT d.id, d.status_at FROM deliveries d JOIN posts p ON p.id = d.post_id
             WHERE d.status IN ('scheduled', 'ready') AND p.post_date <= clock_timestamp() ORDER BY d.id
            """
        )
        return [(row[0], row[1]) for row in await rows.fetchall()]
