"""Retention: what nobody needs any more is removed in small bites. Run by a periodic job; safe side by side."""

from typing import LiteralString

from psycopg import AsyncConnection

from postflow.config import Settings

_BITE = 1000


async def purge(conn: AsyncConnection, settings: Settings) -> dict[str, int]:
    """How much was removed of each kind."""
    return {
        "stories": await _all(
            conn,
            """
            DELETE FROM delivery_events WHERE id IN (
                SELECT e.id FROM delivery_events e JOIN deliveries d ON d.id = e.delivery_id
                 WHERE d.wake_at IS NULL AND e.at < now() - make_interval(days => %(keep)s) LIMIT %(bite)s)
            """,
            settings.keep_events_days,
        ),
        "uploads": await _all(
            conn,
            """
            DELETE FROM media WHERE id IN (
                SELECT m.id FROM media m WHERE m.created_at < now() - make_interval(hours => %(keep)s)
                   AND NOT EXISTS (SELECT FROM post_media pm WHERE pm.media_id = m.id) LIMIT %(bite)s)
            """,
            settings.keep_orphans_hours,
        ),
        "notices": await _all(
            conn,
            """
            DELETE FROM notices WHERE id IN (
                SELECT id FROM notices WHERE created_at < now() - make_interval(days => %(keep)s) LIMIT %(bite)s)
            """,
            settings.keep_events_days,
        ),
        "sessions": await _all(
            conn,
            "DELETE FROM sessions WHERE token_hash IN (SELECT token_hash FROM sessions WHERE expires_at < now()"
            " LIMIT %(bite)s)",
            0,
        ),
        "connect attempts": await _all(
            conn,
            "DELETE FROM connect_attempts WHERE state_hash IN (SELECT state_hash FROM connect_attempts"
            " WHERE created_at < now() - interval '1 day' LIMIT %(bite)s)",
            0,
        ),
    }


async def _all(conn: AsyncConnection, query: LiteralString, keep: int) -> int:
    removed = 0
    while True:
        done = await conn.execute(query, {"keep": keep, "bite": _BITE})
        removed += done.rowcount
        if done.rowcount < _BITE:
            return removed
