"""Retention: what nobody needs any more is removed in small bites. Run by a periodic job; safe side by side.

Never touched: posts and drafts, deliveries, whatever a post or draft shows, the story of a delivery that is still on its
way, jobs that wait or run.
"""

from typing import LiteralString, NamedTuple

from psycopg import AsyncConnection
from psycopg.errors import ForeignKeyViolation

from postflow.config import Settings
from postflow.media import renditions


class Kind(NamedTuple):
    """`query` removes at most %(bite)s rows older than %(keep)s seconds, and stops finding any."""

    name: str
    query: LiteralString
    bite: int = 1000


async def purge(conn: AsyncConnection, settings: Settings) -> dict[str, int]:
    """How much was removed of each kind. Each bite is a transaction of its own: `conn` is in autocommit."""
    day, hour = 86400, 3600
    keep_s = {
        "jobs": settings.keep_finished_days * day,
        "stories": settings.keep_events_days * day,
        "notices": settings.keep_events_days * day,
        "uploads": settings.keep_orphans_hours * hour,
        "renditions": settings.keep_renditions_days * day,
        "staged": settings.keep_renditions_days * day,
        "connect attempts": day,
    }
    return {kind.name: await _all(conn, kind, keep_s.get(kind.name, 0)) for kind in KINDS}


async def _all(conn: AsyncConnection, kind: Kind, keep_s: int) -> int:
    removed = 0
    while True:
        params = {"keep": keep_s, "bite": kind.bite, "thumbnail": renditions.THUMBNAIL.key}
        try:
            done = await conn.execute(kind.query, params)
        except ForeignKeyViolation:
            continue  # somebody has begun to use one of them: the next bite leaves it
        removed += done.rowcount
        if done.rowcount < kind.bite:
            return removed


KINDS = (
    # With their events. Whatever its outcome: a failed job's story is the delivery's.
    Kind(
        "jobs",
        """
        DELETE FROM procrastinate_jobs WHERE id IN (
            SELECT j.id FROM procrastinate_jobs j
             WHERE j.status IN ('succeeded', 'failed', 'cancelled', 'aborted')
               AND NOT EXISTS (SELECT FROM procrastinate_events e
                    WHERE e.job_id = j.id AND e.at >= now() - make_interval(secs => %(keep)s))
             ORDER BY j.id LIMIT %(bite)s)
        """,
    ),
    Kind(
        "stories",
        """
        DELETE FROM delivery_events WHERE id IN (
            SELECT e.id FROM delivery_events e JOIN deliveries d ON d.id = e.delivery_id
             WHERE d.wake_at IS NULL AND d.status <> 'attention' AND e.at < now() - make_interval(secs => %(keep)s)
             LIMIT %(bite)s)
        """,
    ),
    Kind(
        "notices",
        """
        DELETE FROM notices WHERE id IN (
            SELECT id FROM notices WHERE created_at < now() - make_interval(secs => %(keep)s) LIMIT %(bite)s)
        """,
    ),
    # Bytes by the megabyte: smaller bites.
    Kind(
        "uploads",
        """
        DELETE FROM media WHERE id IN (
            SELECT m.id FROM media m WHERE m.created_at < now() - make_interval(secs => %(keep)s)
               AND NOT EXISTS (SELECT FROM post_media pm WHERE pm.media_id = m.id) LIMIT %(bite)s)
        """,
        bite=50,
    ),
    # Made anew from the original when somebody asks again. Thumbnails are on pages and stay.
    Kind(
        "renditions",
        """
        DELETE FROM media_files WHERE (media_id, recipe) IN (
            SELECT f.media_id, f.recipe FROM media_files f JOIN media m ON m.id = f.media_id
             WHERE f.recipe NOT IN ('', %(thumbnail)s) AND m.created_at < now() - make_interval(secs => %(keep)s)
               AND NOT EXISTS (SELECT FROM post_media pm JOIN deliveries d ON d.post_id = pm.post_id
                    WHERE pm.media_id = f.media_id
                      AND (d.wake_at IS NOT NULL OR d.status_at >= now() - make_interval(secs => %(keep)s)))
             LIMIT %(bite)s)
        """,
        bite=50,
    ),
    # Uploads and containers of what is over are gone on the network's side as well.
    Kind(
        "staged",
        """
        UPDATE deliveries SET staged = NULL, staged_at = NULL WHERE id IN (
            SELECT id FROM deliveries WHERE staged IS NOT NULL AND wake_at IS NULL AND status <> 'attention'
               AND status_at < now() - make_interval(secs => %(keep)s) LIMIT %(bite)s)
        """,
    ),
    Kind(
        "sessions",
        """
        DELETE FROM sessions WHERE token_hash IN (
            SELECT token_hash FROM sessions WHERE expires_at < now() LIMIT %(bite)s)
        """,
    ),
    Kind(
        "connect attempts",
        """
        DELETE FROM connect_attempts WHERE state_hash IN (
            SELECT state_hash FROM connect_attempts WHERE created_at < now() - make_interval(secs => %(keep)s)
             LIMIT %(bite)s)
        """,
    ),
    Kind(
        "sign-in counters",
        """
        DELETE FROM rate_counters WHERE key IN (
            SELECT key FROM rate_counters WHERE expires_at < now() LIMIT %(bite)s)
        """,
    ),
)
