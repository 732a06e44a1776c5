"""What is noted of deliveries beside their arrows, and what overslept. Worker side, async."""

from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from postflow import db
from postflow.models import Delivery, DeliveryStatus, Value, storable
from postflow.posts.deliveries import told

#: The bell and the poll wake a due delivery within seconds; what is later than this has lost its job.
OVERSLEPT_S = 20
#: `error_code` of what is held since one that could be taken for it is in doubt.
ALIKE = "alike"
#: So many rows a sweep takes up at a time, so that its transaction stays short.
BATCH = 1000


class Overslept(Value):
    id: int
    status: DeliveryStatus
    post_date: datetime
    wake_at: datetime | None

    def is_due(self, now: datetime) -> bool:
        return self.post_date <= now


async def postpone(conn: AsyncConnection, delivery_id: int, until: datetime, *, as_of: datetime) -> None:
    """No arrow: the row keeps its state and says when it wants to be woken. Said of the row `as_of` its last change: one
    that a person has moved since keeps the wake of its new date.
    """
    await conn.execute(
        "UPDATE deliveries SET wake_at = %(until)s"
        " WHERE id = %(id)s AND status IN ('scheduled', 'ready') AND status_at = %(as_of)s",
        {"id": delivery_id, "until": until, "as_of": as_of},
    )


async def hold(conn: AsyncConnection, delivery_id: int, until: datetime, *, as_of: datetime, code: str) -> None:
    """As `postpone`, and meanwhile it stands in nobody's way. `code` says what it waits for, as long as it does."""
    await conn.execute(
        "UPDATE deliveries SET wake_at = %(until)s, not_before = %(until)s, error_code = %(code)s"
        " WHERE id = %(id)s AND status IN ('scheduled', 'ready') AND status_at = %(as_of)s",
        {"id": delivery_id, "until": until, "as_of": as_of, "code": code},
    )


async def throttle(conn: AsyncConnection, account_id: int, until: datetime, *, only_uploads: bool) -> None:
    """The whole account waits, or what it has to upload, so that one post's 429 is not asked for by the others, too."""
    await conn.execute(
        """
        UPDATE accounts
           SET throttled_until = CASE WHEN %(only_uploads)s THEN throttled_until
                                      ELSE greatest(throttled_until, %(until)s) END,
               uploads_throttled_until = CASE WHEN %(only_uploads)s THEN greatest(uploads_throttled_until, %(until)s)
                                              ELSE uploads_throttled_until END
         WHERE id = %(id)s
        """,
        {"id": account_id, "until": until, "only_uploads": only_uploads},
    )


async def uploads_to(conn: AsyncConnection, delivery_id: int) -> str | None:
    """The server that is to get its pictures and videos; None when it has none, or nothing is to be prepared."""
    return await db.async_value(
        conn,
        """
        SELECT a.base_url FROM deliveries d JOIN accounts a ON a.id = d.account_id
         WHERE d.id = %(id)s AND d.status = 'scheduled'
           AND EXISTS (SELECT FROM post_media WHERE post_media.post_id = d.post_id)
        """,
        {"id": delivery_id},
    )


async def taken_remote_ids(conn: AsyncConnection, delivery: Delivery) -> frozenset[str]:
    """What other deliveries to this account of the network are known to be, whoever has connected it: never adopt one of
    these.
    """
    known = await db.async_values(
        conn,
        """
        SELECT other.remote_id FROM deliveries d JOIN deliveries other ON other.place = d.place AND other.id <> d.id
         WHERE d.id = %(id)s AND other.remote_id IS NOT NULL
           AND other.published_at > %(since)s::timestamptz - interval '1 day'
        """,
        {"id": delivery.id, "since": delivery.first_sent_at},
    )
    return frozenset(known)


async def longest_lease_s(conn: AsyncConnection, delivery: Delivery) -> float:
    """Of its requests, whoever sent them and by whatever settings. 0 where it was never sent, as far as is known."""
    return await db.async_value(
        conn,
        "SELECT coalesce(max((detail->>'lease_s')::float8), 0) FROM delivery_events"
        " WHERE delivery_id = %(id)s AND status = 'sending'",
        {"id": delivery.id},
    )


async def waits_for_its_part_before(conn: AsyncConnection, delivery: Delivery) -> bool:
    """Of a thread's parts that came into doubt at once, one after the other is looked up."""
    return await db.async_value(
        conn,
        """
        SELECT EXISTS (SELECT FROM posts p JOIN deliveries b ON b.post_id = p.parent_id
            WHERE p.id = %(post_id)s AND b.account_id = %(account_id)s AND b.status <> 'published')
        """,
        {"post_id": delivery.post_id, "account_id": delivery.account_id},
    )


async def is_rivalled(conn: AsyncConnection, delivery: Delivery) -> bool:
    """Another post that could be taken for this one was sent, not long before it or since, and nobody knows as what it is
    out, or whether.
    """
    return await db.async_value(
        conn,
        """
        SELECT EXISTS (
            SELECT FROM deliveries d JOIN accounts mine ON mine.id = d.account_id
              JOIN accounts a ON (a.platform, a.base_url, a.remote_id) = (mine.platform, mine.base_url, mine.remote_id)
              JOIN deliveries other ON other.account_id = a.id AND other.id <> d.id
             WHERE d.id = %(id)s AND other.likeness = d.likeness AND other.remote_id IS NULL
               AND other.sent_at > d.first_sent_at - interval '1 hour'
               AND (other.status IN ('attention', 'published')
                    OR (other.status IN ('scheduled', 'preparing', 'ready') AND other.first_sent_at IS NOT NULL)))
        """,
        {"id": delivery.id},
    )


async def alike_in_doubt(conn: AsyncConnection, delivery: Delivery, likeness: str) -> bool:
    """Another post that could be taken for this one is being looked for, or sent for somebody else."""
    return await db.async_value(
        conn,
        """
        SELECT EXISTS (
            SELECT FROM deliveries d JOIN deliveries other ON other.place = d.place AND other.id <> d.id
             WHERE d.id = %(id)s AND other.likeness = %(likeness)s
               AND (other.status = 'unknown' OR (other.status = 'sending' AND other.account_id <> d.account_id)))
        """,
        {"id": delivery.id, "likeness": likeness},
    )


async def add_permalink(conn: AsyncConnection, delivery_id: int, permalink: str) -> None:
    await conn.execute(
        "UPDATE deliveries SET permalink = %(permalink)s WHERE id = %(id)s AND status = 'published'",
        {"id": delivery_id, "permalink": permalink},
    )


async def note(conn: AsyncConnection, delivery_id: int, sentence: str) -> None:
    """No arrow: one more line of its story, in whatever state it is. Once: the same words are not said again."""
    await conn.execute(
        """
        INSERT INTO delivery_events (delivery_id, status, sentence)
        SELECT id, status, %(sentence)s FROM deliveries d WHERE id = %(id)s
           AND NOT EXISTS (SELECT FROM delivery_events e WHERE e.delivery_id = d.id AND e.sentence = %(sentence)s)
        """,
        {"id": delivery_id, "sentence": storable(sentence)},
    )


# -- what overslept ------------------------------------------------------------------------------------------


async def drop_preparing(conn: AsyncConnection, longest_s: float) -> list[Overslept]:
    """preparing → scheduled: nobody renewed the lease. Its checkpoints stay. `longest_s`: no lease ends later than this,
    unless the clock was set back.
    """
    return await _overslept(
        conn,
        """
        UPDATE deliveries SET status = 'scheduled', status_at = clock_timestamp(), claim = NULL,
               wake_at = greatest(p.post_date, clock_timestamp()), deaths = deaths + 1
          FROM posts p
         WHERE p.id = deliveries.post_id AND deliveries.id IN (SELECT id FROM deliveries
               WHERE status = 'preparing' AND (wake_at < clock_timestamp()
                     OR wake_at > clock_timestamp() + make_interval(secs => %(longest_s)s))
               LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
        """,
        {
            "sentence": "The worker that prepared it stopped; another goes on from there.",
            "detail": Jsonb({"code": "worker_gone"}),
            "longest_s": longest_s,
        },
    )


async def set_back(conn: AsyncConnection) -> int:
    """No arrow: what was changed in the future was so before the clock was set back, and by how much it was is told by the
    row itself. What it awaits is moved back with it: the lease of a request under way begins anew, and a look or a pause
    comes after as long as was meant. Nothing that the network did may look older than our request: so its first instant
    goes back further than a sweep can be late.
    """
    done = await conn.execute(
        """
        WITH ahead AS MATERIALIZED (
            SELECT id, status_at - clock_timestamp() AS by, clock_timestamp() AS at FROM deliveries
             WHERE wake_at IS NOT NULL AND status_at > clock_timestamp()
               AND (status IN ('sending', 'unknown') OR sent_at > clock_timestamp() OR not_before > clock_timestamp())
               FOR UPDATE SKIP LOCKED)
        UPDATE deliveries d
           SET status_at = a.at, sent_at = least(sent_at, a.at), first_absent_at = least(first_absent_at, a.at),
               first_sent_at = least(first_sent_at, a.at - interval '10 minutes'), not_before = not_before - a.by,
               wake_at = CASE WHEN status IN ('sending', 'unknown') THEN wake_at - a.by
                              ELSE greatest(p.post_date, d.not_before - a.by, a.at) END
          FROM ahead a, posts p WHERE d.id = a.id AND p.id = d.post_id
        """
    )
    return done.rowcount


async def lose_sending(conn: AsyncConnection, look_at: datetime) -> list[Overslept]:
    """sending → unknown: whoever sent it is gone, and with it the answer. It may be out. The lease is the row's own: a
    sweep knows nothing of the time that the sender gave its request.
    """
    return await _overslept(
        conn,
        """
        UPDATE deliveries SET status = 'unknown', status_at = clock_timestamp(), claim = NULL, wake_at = %(look_at)s,
               error_code = 'worker_gone', error = %(sentence)s
         WHERE id IN (SELECT id FROM deliveries
                       WHERE status = 'sending' AND wake_at < clock_timestamp()
                       LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
        """,
        {
            "sentence": "The worker stopped while it was sending; looking whether it went out.",
            "detail": Jsonb({"code": "worker_gone"}),
            "look_at": look_at,
        },
    )


async def overslept(conn: AsyncConnection) -> list[Overslept]:
    """Rows whose job got lost. No arrow: they only get a new wake-up, at most once a minute. What has a job that is due and
    waits for a worker has not lost it: a backlog must not grow by being looked at.
    """
    async with conn.cursor(row_factory=class_row(Overslept)) as cursor:
        await cursor.execute(
            """
            WITH queued AS MATERIALIZED (
                SELECT task_name, args->>'delivery_id' AS id FROM procrastinate_jobs
                 WHERE status = 'todo' AND priority IN (0, 10) AND scheduled_at <= clock_timestamp()),
            asleep AS (
                SELECT id FROM deliveries d WHERE status IN ('scheduled', 'ready', 'unknown')
                   AND wake_at < clock_timestamp() - make_interval(secs => %(overslept_s)s)
                   AND NOT EXISTS (SELECT FROM queued WHERE queued.id = d.id::text
                        AND queued.task_name = CASE d.status WHEN 'unknown' THEN 'reconcile' ELSE 'publish' END)
                 ORDER BY wake_at LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
            UPDATE deliveries SET wake_at = clock_timestamp()
              FROM asleep, posts p
             WHERE deliveries.id = asleep.id AND p.id = deliveries.post_id
            RETURNING deliveries.id, deliveries.status, p.post_date, deliveries.wake_at
            """,
            {"overslept_s": OVERSLEPT_S, "batch": BATCH},
        )
        return await cursor.fetchall()


async def held(conn: AsyncConnection, since: datetime) -> int:
    """How many leases had run out `since` then and were passed over all the same: a session holds the row. The bounds of
    `postflow.session_limits` end ours; the next sweep tells.
    """
    return await db.async_value(
        conn,
        "SELECT count(*) FROM deliveries WHERE wake_at < %(since)s AND status IN ('preparing', 'sending')",
        {"since": since},
    )


async def _overslept(conn: AsyncConnection, update: LiteralString, params: dict[str, Any]) -> list[Overslept]:
    async with conn.cursor(row_factory=class_row(Delivery)) as cursor:
        await cursor.execute(told(update), {"detail": "{}", "batch": BATCH, **params})
        moved = await cursor.fetchall()
    async with conn.cursor(row_factory=class_row(Overslept)) as cursor:
        await cursor.execute(
            "SELECT d.id, d.status, p.post_date, d.wake_at FROM deliveries d JOIN posts p ON p.id = d.post_id"
            " WHERE d.id = ANY(%(ids)s)",
            {"ids": [row.id for row in moved]},
        )
        return await cursor.fetchall()
