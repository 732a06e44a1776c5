"""When a delivery may go: due dates, pauses, pacing, who waits for whom, and what overslept. Worker side, async."""

from datetime import datetime, timedelta
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from postflow import platforms
from postflow.config import Settings
from postflow.deliveries import told
from postflow.errors import NotFound
from postflow.models import AccountState, Delivery, DeliveryStatus, Value, storable

#: The bell and the poll wake a due delivery within seconds; what is later than this has lost its job.
OVERSLEPT_S = 20
#: A post later than this counts as late: late posts on one account keep `pace_s` apart.
LATE_S = 60.0
#: So many rows a sweep takes up at a time, so that its transaction stays short.
BATCH = 1000


class Timing(Value):
    """All that decides whether a delivery may go now."""

    now: datetime  # by the database's clock: a worker's own may be minutes off
    delivery_id: int
    has_history: bool  # False where the database may have forgotten what was sent (`restoring`)
    status: DeliveryStatus
    status_at: datetime
    post_date: datetime
    asked_at: datetime | None
    post_grace_s: int | None
    not_before: datetime | None
    staged_at: datetime | None
    first_sent_at: datetime | None
    platform: str
    account_state: AccountState
    throttled_until: datetime | None
    last_sent_at: datetime | None
    late_before: int  # late posts of the same account whose turn comes first
    part_before: DeliveryStatus | None  # the same account's delivery of the part before, in a thread

    @property
    def account_is_active(self) -> bool:
        return self.account_state is AccountState.active

    def lateness_s(self, now: datetime) -> float:
        """Counted from the date, or from when a person last asked for it."""
        return (now - max(self.post_date, self.asked_at or self.post_date)).total_seconds()

    def grace_s(self, settings: Settings) -> float:
        return settings.grace_s if self.post_grace_s is None else self.post_grace_s

    def waits_until(self, now: datetime, *, pace_s: float) -> datetime | None:
        """The instant to come back at, or None to go ahead. Of many late posts each comes back at its own turn."""
        reasons = [self.not_before, self.throttled_until, self.post_date]
        if self.lateness_s(now) > LATE_S and self.last_sent_at:
            reasons.append(self.last_sent_at + timedelta(seconds=pace_s * (1 + self.late_before)))
        latest = max(reason for reason in reasons if reason is not None)
        return latest if latest > now else None

    def held_until(self) -> datetime | None:
        """When a pause that ends before the date is over; None when nothing of that kind holds it."""
        ends = max((one for one in (self.not_before, self.throttled_until) if one), default=self.now)
        return ends if self.account_is_active and self.now < ends < self.post_date else None

    def is_stale(self, at: datetime) -> bool:
        """Uploads and containers die on the network's side; a network no longer registered fails later, plainly."""
        try:
            life_s = platforms.get(self.platform).staged_life_s
        except NotFound:
            return False
        if self.staged_at is None or self.first_sent_at is not None:
            return False  # the latter is the only handle on what became of the request
        return at - self.staged_at > timedelta(seconds=life_s)

    def restaged(self) -> "Timing":
        return self.model_copy(update={"status": DeliveryStatus.scheduled, "staged_at": None})


class Overslept(Value):
    id: int
    status: DeliveryStatus
    post_date: datetime
    wake_at: datetime | None

    def is_due(self, now: datetime) -> bool:
        return self.post_date <= now


async def timing(conn: AsyncConnection, delivery_id: int) -> Timing | None:
    async with conn.cursor(row_factory=class_row(Timing)) as cursor:
        await cursor.execute(
            """
            SELECT clock_timestamp() AS now, EXISTS (SELECT FROM lineage WHERE mark = postflow_lineage()) AS has_history,
                   d.id AS delivery_id, d.status, d.status_at, p.post_date, d.asked_at,
                   p.grace_s AS post_grace_s, d.not_before, d.staged_at, d.first_sent_at, a.platform,
                   a.state AS account_state, a.throttled_until,
                   (SELECT max(sent_at) FROM deliveries o
                     WHERE o.account_id = d.account_id AND o.sent_at <= clock_timestamp()) AS last_sent_at,
                   CASE WHEN greatest(p.post_date, d.asked_at) > clock_timestamp() - make_interval(secs => %(late_s)s)
                        THEN 0 ELSE (
                   SELECT count(*) FROM deliveries o JOIN posts op ON op.id = o.post_id
                    WHERE o.account_id = d.account_id AND o.status IN ('scheduled', 'preparing', 'ready')
                      AND (op.post_date, o.id) < (p.post_date, d.id)) END AS late_before,
                   (SELECT b.status FROM deliveries b WHERE b.post_id = p.parent_id AND b.account_id = d.account_id)
                       AS part_before
              FROM deliveries d JOIN posts p ON p.id = d.post_id JOIN accounts a ON a.id = d.account_id
             WHERE d.id = %(id)s AND p.post_date IS NOT NULL
            """,
            {"id": delivery_id, "late_s": LATE_S},
        )
        return await cursor.fetchone()


async def postpone(conn: AsyncConnection, delivery_id: int, until: datetime, *, as_of: datetime) -> None:
    """No arrow: the row keeps its state and says when it wants to be woken. Said of the row `as_of` its last change: one
    that a person has moved since keeps the wake of its new date.
    """
    await conn.execute(
        "UPDATE deliveries SET wake_at = %(until)s"
        " WHERE id = %(id)s AND status IN ('scheduled', 'ready') AND status_at = %(as_of)s",
        {"id": delivery_id, "until": until, "as_of": as_of},
    )


async def throttle(conn: AsyncConnection, account_id: int, until: datetime) -> None:
    """The whole account waits, so that one post's 429 does not spend the attempts of the others."""
    await conn.execute(
        "UPDATE accounts SET throttled_until = greatest(throttled_until, %(until)s) WHERE id = %(id)s",
        {"id": account_id, "until": until},
    )


async def next_waiting(conn: AsyncConnection, done: Delivery) -> list[int]:
    """Deliveries that may go now that `done` is no longer being sent: the account's next, and the thread's next part."""
    rows = await conn.execute(
        """
        (SELECT d.id FROM deliveries d JOIN posts p ON p.id = d.post_id
          WHERE d.account_id = %(account_id)s AND d.id <> %(id)s AND d.status = 'ready'
            AND d.wake_at <= clock_timestamp()
            AND p.post_date <= clock_timestamp() AND (d.not_before IS NULL OR d.not_before <= clock_timestamp())
            AND (p.parent_id IS NULL OR EXISTS (SELECT FROM deliveries b WHERE b.post_id = p.parent_id
                 AND b.account_id = d.account_id AND b.status = 'published'))
          ORDER BY p.post_date, d.id LIMIT 1)
        UNION
        SELECT d.id FROM deliveries d JOIN posts p ON p.id = d.post_id
         WHERE d.account_id = %(account_id)s AND p.parent_id = %(post_id)s AND d.status IN ('scheduled', 'ready')
           AND p.post_date <= clock_timestamp()
        """,
        {"account_id": done.account_id, "id": done.id, "post_id": done.post_id},
    )
    return [row[0] for row in await rows.fetchall()]


async def taken_remote_ids(conn: AsyncConnection, delivery: Delivery) -> frozenset[str]:
    """What other deliveries of this account are known to be: never adopt one of these."""
    rows = await conn.execute(
        """
        SELECT remote_id FROM deliveries
         WHERE account_id = %(account_id)s AND id <> %(id)s AND remote_id IS NOT NULL
           AND published_at > %(since)s::timestamptz - interval '1 day'
        """,
        {"account_id": delivery.account_id, "id": delivery.id, "since": delivery.first_sent_at},
    )
    return frozenset(row[0] for row in await rows.fetchall())


async def waits_for_its_part_before(conn: AsyncConnection, delivery: Delivery) -> bool:
    """Of a thread's parts that came into doubt at once, one after the other is looked up."""
    row = await (
        await conn.execute(
            """
            SELECT EXISTS (SELECT FROM posts p JOIN deliveries b ON b.post_id = p.parent_id
                WHERE p.id = %(post_id)s AND b.account_id = %(account_id)s AND b.status <> 'published')
            """,
            {"post_id": delivery.post_id, "account_id": delivery.account_id},
        )
    ).fetchone()
    return bool(row and row[0])


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
               wake_at = greatest(p.post_date, clock_timestamp())
          FROM posts p
         WHERE p.id = deliveries.post_id AND deliveries.id IN (SELECT id FROM deliveries
               WHERE status = 'preparing' AND wake_at IS NOT NULL AND (wake_at < clock_timestamp()
                     OR wake_at > clock_timestamp() + make_interval(secs => %(longest_s)s))
               LIMIT %(batch)s FOR UPDATE SKIP LOCKED)
        """,
        {
            "sentence": "The worker that prepared it stopped; another goes on from there.",
            "detail": Jsonb({"code": "worker_gone"}),
            "longest_s": longest_s,
        },
    )


async def deaths(conn: AsyncConnection, delivery_id: int) -> int:
    """How many workers have ended while they prepared it: a picture may be what kills them."""
    row = await (
        await conn.execute(
            "SELECT count(*) FROM delivery_events"
            " WHERE delivery_id = %(id)s AND status = 'scheduled' AND detail->>'code' = 'worker_gone'",
            {"id": delivery_id},
        )
    ).fetchone()
    return row[0] if row else 0


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
                       WHERE status = 'sending' AND wake_at IS NOT NULL AND wake_at < clock_timestamp()
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
    `postflow.sessions` end ours; the next sweep tells.
    """
    row = await (
        await conn.execute(
            "SELECT count(*) FROM deliveries WHERE wake_at < %(since)s AND status IN ('preparing', 'sending')",
            {"since": since},
        )
    ).fetchone()
    return row[0] if row else 0


async def _overslept(conn: AsyncConnection, update: LiteralString, params: dict[str, Any]) -> list[Overslept]:
    async with conn.cursor(row_factory=class_row(Delivery)) as cursor:
        await cursor.execute(told(update), {"detail": "{}", "batch": BATCH, **params})
        moved = await cursor.fetchall()
    if not moved:
        return []
    async with conn.cursor(row_factory=class_row(Overslept)) as cursor:
        await cursor.execute(
            "SELECT d.id, d.status, p.post_date, d.wake_at FROM deliveries d JOIN posts p ON p.id = d.post_id"
            " WHERE d.id = ANY(%(ids)s)",
            {"ids": [row.id for row in moved]},
        )
        return await cursor.fetchall()
