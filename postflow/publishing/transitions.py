"""The arrows of a delivery that workers move, in the order of its life. docs/lifecycle.md draws them.

Each is one guarded UPDATE with its event line; None back means somebody else was first, and the caller stops.
`claim` is the token of whoever works on the row: after a lost claim nothing of theirs is written any more.
`wake_at` is the instant by which something must have happened; the sweep takes up what overslept it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, LiteralString

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from postflow.models import Delivery, Receipt, storable
from postflow.posts.deliveries import COLUMNS, told
from postflow.publishing import turns

#: What to do about a post that is out, and lacks something.
INCOMPLETE = "Look at it there: put right what is missing, or delete it there and publish it once more."

#: The person may have cancelled, moved or edited; the account may wait or be cut off.
_MAY_GO: LiteralString = (
    """
    AND (deliveries.not_before IS NULL OR deliveries.not_before <= clock_timestamp())
    AND EXISTS (SELECT FROM accounts WHERE accounts.id = deliveries.account_id AND accounts.state = 'active'
                   AND coalesce("""
    + turns.PAUSE
    + " <= clock_timestamp(), true))"
)


#: An unknown of which every request but this one was known not to be carried out. Its number does not name it where nobody
#: heard whether the claim came through: another worker's, claimed instead, bears the same.
_ONLY_THAT_REQUEST: LiteralString = """
    (status = 'unknown' AND attempt_no = %(attempt_no)s AND deliveries.revision = %(revision)s AND first_sent_at = sent_at
     AND EXISTS (SELECT FROM delivery_events e WHERE e.delivery_id = deliveries.id AND e.detail->>'claim' = %(claim)s))
"""


async def get(conn: AsyncConnection, delivery_id: int) -> Delivery | None:
    return await _one(conn, "SELECT " + COLUMNS + " FROM deliveries WHERE id = %(id)s", {"id": delivery_id})


# -- before post_date --------------------------------------------------------------------------------------


async def claim_to_prepare(conn: AsyncConnection, delivery_id: int, claim: str, lease_s: float) -> Delivery | None:
    """scheduled → preparing."""
    return await _told(
        conn,
        """
        UPDATE deliveries SET status = 'preparing', status_at = clock_timestamp(), claim = %(claim)s,
               wake_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
         WHERE id = %(id)s AND status = 'scheduled'
        """
        + _MAY_GO,
        {"id": delivery_id, "claim": claim, "lease_s": lease_s},
        "Preparing: pictures are made to fit and handed to the network, unseen.",
    )


async def renew(conn: AsyncConnection, delivery_id: int, claim: str, lease_s: float) -> None:
    """Still at it: the sweep may wait."""
    await conn.execute(
        """
        UPDATE deliveries SET wake_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
         WHERE id = %(id)s AND status = 'preparing' AND claim = %(claim)s
        """,
        {"id": delivery_id, "claim": claim, "lease_s": lease_s},
    )


async def checkpoint(conn: AsyncConnection, delivery_id: int, claim: str, staged: Mapping[str, Any]) -> bool:
    """One more step of preparing is done and need not be done again. False when the claim is lost."""
    done = await conn.execute(
        """
        UPDATE deliveries SET staged = %(staged)s, staged_at = coalesce(staged_at, clock_timestamp())
         WHERE id = %(id)s AND status = 'preparing' AND claim = %(claim)s
        """,
        {"id": delivery_id, "claim": claim, "staged": Jsonb(staged)},
    )
    return done.rowcount == 1


async def mark_ready(conn: AsyncConnection, delivery_id: int, claim: str, staged: Mapping[str, Any]) -> Delivery | None:
    """preparing → ready: one request remains."""
    return await _told(
        conn,
        """
        UPDATE deliveries SET status = 'ready', status_at = clock_timestamp(), staged = %(staged)s, claim = NULL,
               staged_at = coalesce(staged_at, clock_timestamp()), wake_at = greatest(p.post_date, clock_timestamp()),
               deaths = 0
          FROM posts p
         WHERE p.id = deliveries.post_id AND deliveries.id = %(id)s AND status = 'preparing' AND claim = %(claim)s
        """,
        {"id": delivery_id, "claim": claim, "staged": Jsonb(staged)},
        "Ready: one request remains.",
    )


async def give_back(
    conn: AsyncConnection,
    delivery: Delivery,
    claim: str,
    *,
    not_before: datetime | None,
    faults: int,
    pauses: int,
    restage: bool,
    new_key: bool,
    sentence: str,
    detail: Mapping[str, Any],
) -> Delivery | None:
    """preparing, sending → scheduled: not now; again at `not_before`. Only when nothing was published: which counts for an
    unknown as well, where the request of `delivery` is the only one that it is unknown of.
    """
    return await _told(
        conn,
        """
        UPDATE deliveries SET status = 'scheduled', status_at = clock_timestamp(), claim = NULL, faults = faults + %(faults)s,
               pauses = pauses + %(pauses)s, staged = CASE WHEN %(restage)s THEN NULL ELSE staged END,
               staged_at = CASE WHEN %(restage)s THEN NULL ELSE staged_at END,
               key_no = key_no + %(new_key)s::int, not_before = %(not_before)s,
               first_sent_at = CASE WHEN status <> 'preparing' AND first_sent_at = sent_at THEN NULL ELSE first_sent_at END,
               error = NULL, error_code = NULL, looks = 0, absent_looks = 0, first_absent_at = NULL,
               wake_at = greatest(p.post_date, coalesce(%(not_before)s, clock_timestamp()))
          FROM posts p
         WHERE p.id = deliveries.post_id AND deliveries.id = %(id)s
           AND ((status IN ('preparing', 'sending') AND claim = %(claim)s) OR """
        + _ONLY_THAT_REQUEST
        + ")",
        {
            **_request(delivery),
            "claim": claim,
            "not_before": not_before,
            "faults": faults,
            "pauses": pauses,
            "restage": restage,
            "new_key": new_key,
        },
        sentence,
        detail,
    )


async def restage(conn: AsyncConnection, delivery_id: int, sentence: str) -> Delivery | None:
    """ready → scheduled: what was prepared is too old to be relied on. Not while a container may have been published:
    it is the only handle on what became of it.
    """
    return await _told(
        conn,
        """
        UPDATE deliveries SET status = 'scheduled', status_at = clock_timestamp(), staged = NULL, staged_at = NULL,
               wake_at = greatest(p.post_date, clock_timestamp())
          FROM posts p
         WHERE p.id = deliveries.post_id AND deliveries.id = %(id)s AND status = 'ready' AND first_sent_at IS NULL
        """,
        {"id": delivery_id},
        sentence,
    )


# -- at post_date ------------------------------------------------------------------------------------------


async def claim_to_send(
    conn: AsyncConnection,
    delivery: Delivery,
    claim: str,
    lease_s: float,
    likeness: str,
    reply_to: str | None,
    *,
    pace_s: float,
) -> Delivery | None:
    """ready → sending: the intent, committed before the request leaves.

    None when the database may have forgotten that it was sent (`restoring`), when it is not due, held, changed since
    `delivery` was read (`status_at` tells: a row that waited for a person's transaction is looked at anew, what it is
    joined with is not), when another of the account's goes first, or when one is being sent: whoever finishes that one
    wakes the next (`turns.next_waiting`). What is late keeps `pace_s` to the account's late post before. A part of a thread
    waits for the part before it, and `reply_to` must be that part as it went out: what was gathered before it did would
    leave without its parent. Raises UniqueViolation where another one was claimed in the same instant, and while it is
    not known whether one that is alike is out.
    """
    return await _told(
        conn,
        """
        UPDATE deliveries SET status = 'sending', status_at = clock_timestamp(), claim = %(claim)s,
               attempt_no = attempt_no + 1, sent_at = moment.at, likeness = %(likeness)s,
               first_sent_at = coalesce(first_sent_at, moment.at), looks = 0, absent_looks = 0,
               first_absent_at = NULL, wake_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
          FROM posts p, (SELECT clock_timestamp() AS at) moment
         WHERE p.id = deliveries.post_id AND deliveries.id = %(id)s AND status = 'ready'
           AND deliveries.status_at = %(status_at)s
           AND p.revision = %(revision)s AND p.post_date <= clock_timestamp()
           AND EXISTS (SELECT FROM lineage WHERE mark = postflow_lineage())
           AND (p.parent_id IS NULL OR EXISTS (SELECT FROM deliveries before WHERE before.post_id = p.parent_id
                   AND before.account_id = deliveries.account_id AND before.status = 'published'
                   AND before.remote_id = %(reply_to)s))
           AND NOT EXISTS (SELECT FROM deliveries other WHERE other.account_id = deliveries.account_id
                   AND other.status = 'sending')
           AND (greatest(p.post_date, deliveries.asked_at) > clock_timestamp() - make_interval(secs => %(late_s)s)
                OR NOT EXISTS (SELECT FROM deliveries o JOIN posts op ON op.id = o.post_id
                   WHERE o.account_id = deliveries.account_id AND o.sent_at > now() - make_interval(secs => %(pace_s)s)
                   AND o.sent_at <= clock_timestamp()
                   AND o.sent_at > greatest(op.post_date, o.asked_at) + make_interval(secs => %(late_s)s)))
           AND NOT EXISTS ("""
        + turns.AHEAD
        + ")"
        + _MAY_GO,
        {
            "id": delivery.id,
            "claim": claim,
            "lease_s": lease_s,
            "revision": delivery.revision,
            "status_at": delivery.status_at,
            "likeness": likeness,
            "reply_to": reply_to,
            "late_s": turns.LATE_S,
            "pace_s": pace_s,
        },
        "Sending.",
        {"lease_s": lease_s, "claim": claim},
    )


async def mark_published(
    conn: AsyncConnection, delivery: Delivery, receipt: Receipt, *, sentence: str, lookup: bool
) -> Delivery | None:
    """sending, unknown → published. A late answer counts as well, and keeps what was already to be sent again, or left to
    a person, from going out twice: as long as no newer request has left, and it is of the words that the row stands for.

    `lookup`: found by looking, so the time it went out is the time it was sent.
    """
    return await _told(
        conn,
        """
        UPDATE deliveries SET status = 'published', status_at = clock_timestamp(), claim = NULL, wake_at = NULL,
               published_at = CASE WHEN %(lookup)s THEN coalesce(sent_at, clock_timestamp()) ELSE clock_timestamp() END,
               remote_id = %(remote_id)s, permalink = %(permalink)s, notes = %(notes)s,
               error = %(shortfall)s, error_code = CASE WHEN %(shortfall)s::text IS NOT NULL THEN 'incomplete' END,
               next_step = CASE WHEN %(shortfall)s::text IS NOT NULL THEN %(next_step)s END
         WHERE id = %(id)s AND revision = %(revision)s
           AND (status = 'unknown' OR (attempt_no <= %(attempt_no)s
                AND status IN ('scheduled', 'preparing', 'ready', 'sending', 'attention')))
        """,
        {
            **_request(delivery),
            "lookup": lookup,
            "remote_id": receipt.remote_id,
            "permalink": receipt.permalink,
            "notes": list(receipt.notes),
            "shortfall": receipt.shortfall,
            "next_step": INCOMPLETE,
        },
        sentence,
        {"notes": list(receipt.notes)} if receipt.notes else {},
    )


async def mark_failed(
    conn: AsyncConnection,
    delivery: Delivery,
    claim: str | None,
    *,
    as_of: datetime,
    code: str,
    sentence: str,
    next_step: str | None,
    detail: Mapping[str, Any],
) -> Delivery | None:
    """scheduled, ready (no claim), preparing, sending (by the claim) → failed: it was not published and will not be. From
    unknown as with `give_back`.

    Without a claim it is said of the row as it was `as_of` its last change: a person's newer word counts more.
    """
    return await _told(
        conn,
        """
        UPDATE deliveries SET status = 'failed', status_at = clock_timestamp(), claim = NULL, wake_at = NULL,
               error_code = %(code)s, error = %(sentence)s, next_step = %(next_step)s
         WHERE id = %(id)s AND ((status IN ('preparing', 'sending') AND claim = %(claim)s)
               OR (status IN ('scheduled', 'ready') AND status_at = %(as_of)s AND %(claim)s::text IS NULL) OR """
        + _ONLY_THAT_REQUEST
        + ")",
        {**_request(delivery), "claim": claim, "as_of": as_of, "code": code, "next_step": next_step},
        sentence,
        detail,
    )


async def mark_missed(
    conn: AsyncConnection, delivery_id: int, sentence: str, next_step: str, *, as_of: datetime
) -> Delivery | None:
    """scheduled, ready → missed: too late to be sent without asking. `as_of` as with `mark_failed`."""
    return await _told(
        conn,
        """
        UPDATE deliveries SET status = 'missed', status_at = clock_timestamp(), wake_at = NULL,
               error_code = 'missed', error = %(sentence)s, next_step = %(next_step)s
         WHERE id = %(id)s AND status IN ('scheduled', 'ready') AND status_at = %(as_of)s
        """,
        {"id": delivery_id, "as_of": as_of, "next_step": next_step},
        sentence,
    )


# -- after a lost answer -----------------------------------------------------------------------------------


async def mark_unknown(
    conn: AsyncConnection,
    delivery_id: int,
    claim: str,
    look_at: datetime,
    *,
    code: str,
    sentence: str,
    detail: Mapping[str, Any],
) -> Delivery | None:
    """sending → unknown: it may be out. From here on only looking counts, never sending again blindly."""
    return await _told(
        conn,
        """
        UPDATE deliveries SET status = 'unknown', status_at = clock_timestamp(), claim = NULL, wake_at = %(look_at)s,
               error_code = %(code)s, error = %(sentence)s
         WHERE id = %(id)s AND status = 'sending' AND claim = %(claim)s
        """,
        {"id": delivery_id, "claim": claim, "look_at": look_at, "code": code},
        sentence,
        detail,
    )


async def claim_to_look(conn: AsyncConnection, delivery_id: int, claim: str, lease_s: float) -> Delivery | None:
    """unknown → unknown, one reader at a time: the former look's lease or date must have passed. No event line."""
    return await _one(
        conn,
        """
        UPDATE deliveries SET claim = %(claim)s, wake_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
         WHERE id = %(id)s AND status = 'unknown' AND wake_at <= clock_timestamp()
        RETURNING """
        + COLUMNS,
        {"id": delivery_id, "claim": claim, "lease_s": lease_s},
    )


async def look_again(
    conn: AsyncConnection, delivery_id: int, claim: str, at: datetime, *, absent: bool | None, sentence: str
) -> Delivery | None:
    """unknown → unknown: nothing decided; the next look is at `at`. Looks that saw nothing count as long as no other
    (`absent` False) saw a sign of it; one that could not see (None) changes nothing.
    """
    return await _told(
        conn,
        """
        UPDATE deliveries SET claim = NULL, wake_at = %(at)s, looks = looks + 1,
               absent_looks = CASE %(absent)s::bool WHEN true THEN absent_looks + 1 WHEN false THEN 0 ELSE absent_looks END,
               first_absent_at = CASE %(absent)s::bool WHEN true THEN coalesce(first_absent_at, clock_timestamp())
                                      WHEN false THEN NULL ELSE first_absent_at END
         WHERE id = %(id)s AND status = 'unknown' AND claim = %(claim)s
        """,
        {"id": delivery_id, "claim": claim, "at": at, "absent": absent},
        sentence,
    )


async def send_again(
    conn: AsyncConnection,
    delivery_id: int,
    claim: str,
    *,
    not_before: datetime | None,
    new_key: bool,
    restage: bool,
    settled: bool,
    sentence: str,
) -> Delivery | None:
    """unknown → scheduled: it is proven not to be there, or a repeat cannot double it."""
    return await _told(
        conn,
        """
        UPDATE deliveries SET status = 'scheduled', status_at = clock_timestamp(), claim = NULL, faults = faults + 1,
               wake_at = coalesce(%(not_before)s, clock_timestamp()), not_before = %(not_before)s,
               key_no = key_no + %(new_key)s::int,
               first_sent_at = CASE WHEN %(settled)s THEN NULL ELSE first_sent_at END,
               staged = CASE WHEN %(restage)s THEN NULL ELSE staged END,
               staged_at = CASE WHEN %(restage)s THEN NULL ELSE staged_at END,
               error = NULL, error_code = NULL, looks = 0, absent_looks = 0, first_absent_at = NULL
         WHERE id = %(id)s AND status = 'unknown' AND claim = %(claim)s
        """,
        {
            "id": delivery_id,
            "claim": claim,
            "not_before": not_before,
            "new_key": new_key,
            "restage": restage,
            "settled": settled,
        },
        sentence,
    )


async def mark_attention(
    conn: AsyncConnection, delivery_id: int, claim: str, *, code: str, sentence: str, next_step: str
) -> Delivery | None:
    """unknown → attention: no look will tell any more; a person has to."""
    return await _told(
        conn,
        """
        UPDATE deliveries SET status = 'attention', status_at = clock_timestamp(), claim = NULL, wake_at = NULL,
               error_code = %(code)s, error = %(sentence)s, next_step = %(next_step)s
         WHERE id = %(id)s AND status = 'unknown' AND claim = %(claim)s
        """,
        {"id": delivery_id, "claim": claim, "code": code, "next_step": next_step},
        sentence,
    )


def _request(delivery: Delivery) -> dict[str, Any]:
    """Which request an answer is to. Claims count them, and nothing sets that back."""
    return {"id": delivery.id, "attempt_no": delivery.attempt_no, "revision": delivery.revision}


async def _one(conn: AsyncConnection, query: LiteralString, params: Mapping[str, Any]) -> Delivery | None:
    async with conn.cursor(row_factory=class_row(Delivery)) as cursor:
        await cursor.execute(query, params)
        return await cursor.fetchone()


async def _told(
    conn: AsyncConnection,
    update: LiteralString,
    params: Mapping[str, Any],
    sentence: str,
    detail: Mapping[str, Any] | None = None,
) -> Delivery | None:
    """What a network said may hold characters that no column takes; the arrow must not fail on them."""
    said = storable({**params, "sentence": sentence})
    return await _one(conn, told(update), {**said, "detail": Jsonb(storable(dict(detail or {})))})
