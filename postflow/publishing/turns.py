"""Whose turn it is: when a delivery may go, and which of its account's go before it. Worker side, async.

On time goes before order: posts of one instant leave in the order in which they were made, late ones in the order of
their dates and `pace_s` apart, beside those that are on time. What cannot go (its own pause, a part whose parent is not
out) stands in nobody's way.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import LiteralString, NamedTuple

from psycopg import AsyncConnection
from psycopg.rows import class_row

from postflow import db, jobs, platforms
from postflow.config import Settings
from postflow.errors import NotFound
from postflow.models import AccountState, Delivery, DeliveryStatus, Value

#: A post later than this counts as late.
LATE_S = 60.0

#: Something of `deliveries` is still to be uploaded: it has pictures, and was not ready once with all of them kept.
_UPLOADS: LiteralString = """
    (deliveries.status = 'scheduled' AND (deliveries.staged IS NULL OR deliveries.sent_at IS NULL)
     AND EXISTS (SELECT FROM post_media WHERE post_media.post_id = deliveries.post_id))
"""
#: Until when the network has asked `accounts` to wait with `deliveries`.
PAUSE: LiteralString = (
    "greatest(accounts.throttled_until, CASE WHEN " + _UPLOADS + " THEN accounts.uploads_throttled_until END)"
)
#: Another delivery, `o` of the post `op`, could go now as far as it alone is concerned. No wake lies so far ahead among
#: what is due; `now()`, which stands still in a statement, can be looked up in an index.
_COULD_GO: LiteralString = (
    """
    o.status IN ('scheduled', 'preparing', 'ready') AND o.wake_at <= now() + interval '1 day'
    AND op.post_date <= clock_timestamp() AND (o.not_before IS NULL OR o.not_before <= clock_timestamp())
    AND (op.parent_id IS NULL OR EXISTS (SELECT FROM deliveries before WHERE before.post_id = op.parent_id
         AND before.account_id = o.account_id AND before.status = 'published'))
    AND NOT ("""
    + _UPLOADS.replace("deliveries.", "o.")
    + """ AND EXISTS (SELECT FROM accounts a WHERE a.id = o.account_id
                        AND a.uploads_throttled_until > clock_timestamp()))
"""
)
#: The one that goes before `deliveries`, of the post `p`: of the same instant, made earlier, awake, and ready or ready once.
AHEAD: LiteralString = (
    """
    SELECT o.id FROM deliveries o JOIN posts op ON op.id = o.post_id
     WHERE o.account_id = deliveries.account_id AND o.id < deliveries.id
       AND greatest(op.post_date, o.asked_at) = greatest(p.post_date, deliveries.asked_at)
       AND (o.status = 'ready' OR (o.staged IS NOT NULL AND o.sent_at IS NOT NULL))
       AND (o.status = 'preparing' OR o.wake_at <= clock_timestamp()) AND """
    + _COULD_GO
    + " ORDER BY o.id LIMIT 1"
)


class Says(StrEnum):
    """What a wake-up call finds."""

    go = "go"
    wait = "wait"
    too_late = "too_late"
    cut_off = "cut_off"  # its account is disconnected
    look = "look"  # first: the database may have forgotten what was sent (`restoring`)
    nothing = "nothing"  # to do: it is over, somebody's, or waits for its person


class Turn(NamedTuple):
    says: Says
    at: datetime  # the instant to go at, or to come back at


class Timing(Value):
    """All that decides whether a delivery may go now."""

    now: datetime  # by the database's clock: a worker's own may be minutes off
    delivery_id: int
    account_id: int
    has_history: bool  # False where the database may have forgotten what was sent
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
    ahead: int | None  # the account's delivery of the same instant that goes first
    part_before: DeliveryStatus | None  # the same account's delivery of the part before, in a thread
    turn_at: datetime | None = None  # of a late one, among the account's other late ones

    def turn(self, settings: Settings) -> Turn:
        """Due, not too late, not held; `go` moments early, too, so that all is at hand at the instant."""
        if not self.has_history:
            return Turn(Says.look, self.now)
        if self.status not in (DeliveryStatus.scheduled, DeliveryStatus.ready):
            return Turn(Says.nothing, self.now)
        if self.account_state is AccountState.disconnected:
            return Turn(Says.cut_off, self.now)
        if self.lateness_s > self.grace_s(settings):
            return Turn(Says.too_late, self.now)
        at = max(one for one in (self.not_before, self.throttled_until, self.post_date, self.turn_at) if one)
        if not jobs.is_at_hand(at, self.now):
            return Turn(Says.wait, at)
        return Turn(Says.go if self.account_is_active else Says.nothing, at)

    @property
    def account_is_active(self) -> bool:
        return self.account_state is AccountState.active

    @property
    def since(self) -> datetime:
        """Its date, or when a person last asked for it: what it is late by counts from here."""
        return max(self.post_date, self.asked_at or self.post_date)

    @property
    def lateness_s(self) -> float:
        return (self.now - self.since).total_seconds()

    @property
    def is_late(self) -> bool:
        return self.lateness_s > LATE_S

    def grace_s(self, settings: Settings) -> float:
        return settings.grace_s if self.post_grace_s is None else self.post_grace_s

    @property
    def pause_ends(self) -> datetime:
        """When whatever holds it beside its date is over; `now` when nothing does."""
        return max(one for one in (self.not_before, self.throttled_until, self.now) if one)

    def is_stale(self, at: datetime) -> bool:
        """Uploads and containers die on the network's side; a network no longer registered fails later, plainly."""
        try:
            life_s = platforms.get(self.platform).staged_life_s
        except NotFound:
            return False
        if self.staged_at is None or self.first_sent_at is not None:
            return False  # the latter is the only handle on what became of the request
        return at - self.staged_at > timedelta(seconds=life_s)


async def timing(conn: AsyncConnection, delivery_id: int, settings: Settings) -> Timing | None:
    async with conn.cursor(row_factory=class_row(Timing)) as cursor:
        await cursor.execute(
            """
            SELECT clock_timestamp() AS now, deliveries.id AS delivery_id, deliveries.account_id, deliveries.status,
                   EXISTS (SELECT FROM lineage WHERE mark = postflow_lineage()) AS has_history,
                   deliveries.status_at, p.post_date, deliveries.asked_at, p.grace_s AS post_grace_s,
                   deliveries.not_before, deliveries.staged_at, deliveries.first_sent_at, accounts.platform,
                   accounts.state AS account_state, """
            + PAUSE
            + " AS throttled_until, ("
            + AHEAD
            + """) AS ahead,
                   (SELECT b.status FROM deliveries b
                     WHERE b.post_id = p.parent_id AND b.account_id = deliveries.account_id) AS part_before
              FROM deliveries JOIN posts p ON p.id = deliveries.post_id JOIN accounts ON accounts.id = deliveries.account_id
             WHERE deliveries.id = %(id)s AND p.post_date IS NOT NULL
            """,
            {"id": delivery_id},
        )
        found = await cursor.fetchone()
    if found and found.is_late:
        return found.model_copy(update={"turn_at": await _turn_of_a_late_one(conn, found, settings.pace_s)})
    return found


async def _turn_of_a_late_one(conn: AsyncConnection, late: Timing, pace_s: float) -> datetime:
    """`pace_s` after the late one that went last, and as much for each that goes before it."""
    last_at, before = await _last_late_one(conn, late, pace_s), await _late_before(conn, late)
    pace = timedelta(seconds=pace_s)
    return (last_at or late.now - pace) + pace * (1 + before)


async def _last_late_one(conn: AsyncConnection, late: Timing, pace_s: float) -> datetime | None:
    """When the account's last late one was sent, if that was within its pace."""
    return await db.async_value(
        conn,
        """
        SELECT max(o.sent_at) FROM deliveries o JOIN posts op ON op.id = o.post_id
         WHERE o.account_id = %(account_id)s AND o.sent_at > now() - make_interval(secs => %(pace_s)s)
           AND o.sent_at <= clock_timestamp()
           AND o.sent_at > greatest(op.post_date, o.asked_at) + make_interval(secs => %(late_s)s)
        """,
        {"account_id": late.account_id, "pace_s": pace_s, "late_s": LATE_S},
    )


async def _late_before(conn: AsyncConnection, late: Timing) -> int:
    """How many of the account's that could go are later still."""
    return await db.async_value(
        conn,
        """
        SELECT count(*) FROM deliveries o JOIN posts op ON op.id = o.post_id
         WHERE o.account_id = %(account_id)s AND (greatest(op.post_date, o.asked_at), o.id) < (%(since)s, %(id)s) AND """
        + _COULD_GO,
        {"account_id": late.account_id, "since": late.since, "id": late.delivery_id},
    )


async def next_waiting(conn: AsyncConnection, done: Delivery) -> list[int]:
    """Deliveries that may go now that `done` is no longer being sent: the account's next of those on time and of the late
    ones, whose pace must not hold the others, and the thread's next part.
    """
    return await db.async_values(
        conn,
        """
        (SELECT DISTINCT ON (is_late) id FROM (
            SELECT o.id, since, since < now() - make_interval(secs => %(late_s)s) AS is_late
              FROM deliveries o JOIN posts op ON op.id = o.post_id, greatest(op.post_date, o.asked_at) AS since
             WHERE o.account_id = %(account_id)s AND o.id <> %(id)s AND o.status = 'ready'
               AND o.wake_at <= clock_timestamp() AND """
        + _COULD_GO
        + """) waiting ORDER BY is_late, since, id)
        UNION
        SELECT d.id FROM deliveries d JOIN posts p ON p.id = d.post_id
         WHERE d.account_id = %(account_id)s AND p.parent_id = %(post_id)s AND d.status IN ('scheduled', 'ready')
           AND p.post_date <= clock_timestamp()
        """,
        {"account_id": done.account_id, "id": done.id, "post_id": done.post_id, "late_s": LATE_S},
    )
