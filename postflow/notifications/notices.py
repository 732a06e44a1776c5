"""What a person should hear outside the pages: the notices table and the words in it.

A notice is written in the transaction that causes it, once per key, whether or not mail or a webhook are configured;
`postflow.notifications.sender` sends it. Its words are for a mailbox: no token is ever in them.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from zoneinfo import ZoneInfo

from psycopg import AsyncConnection
from psycopg.rows import class_row, dict_row

from postflow import db
from postflow.config import Settings
from postflow.models import Account, Delivery, Value
from postflow.notifications import posts_at_risk
from postflow.notifications.posts_at_risk import Risk

#: After so many tries a notice is left alone; the pauses double from two minutes, which makes half a day in all.
MOST_TRIES = 8
#: A list in a mail: more than this is told as a number.
MOST_NAMED = 10


class Notice(Value):
    """One thing to tell one person. `tries` counts this one."""

    id: int
    user_id: int
    email: str
    key: str
    kind: str
    subject: str
    body: str
    created_at: datetime
    mailed_at: datetime | None
    posted_at: datetime | None
    tries: int


# -- causes --------------------------------------------------------------------------------------------------


async def access_ended(
    conn: AsyncConnection, settings: Settings, account: Account, reason: str, *, episode: str
) -> None:
    """The account needs reconnecting: once for each `episode`, such as the stored token that ended."""
    waiting = await posts_at_risk.of_account(conn, account.id, await db.async_now(conn))
    lines = [reason, f"Connect it again: {settings.public_url}/accounts", ""]
    lines += await _named(conn, account.user_id, waiting, "These posts wait for it, and go on as soon as it is back:")
    await _write(
        conn,
        account.user_id,
        f"access-ended:{account.id}:{episode}",
        "access-ended",
        f"{account.handle} must be connected again",
        lines,
    )


async def warn_of_posts_at_risk(conn: AsyncConnection, settings: Settings, now: datetime) -> int:
    """A word at 14, 7 and 1 days for each account that will not reach the date of one of its posts."""
    written = 0
    by_account: dict[int, list[Risk]] = {}
    for risk in await posts_at_risk.everyone(conn, now):
        by_account.setdefault(risk.account_id, []).append(risk)
    for account_id, found in by_account.items():
        first = min(found, key=lambda risk: risk.deadline)
        if (days := first.within_days(now)) is None:
            continue
        lines = [await _how_long(conn, first), f"Connect it again: {settings.public_url}/accounts", ""]
        lines += await _named(conn, first.user_id, found, "At risk:")
        since = f"post {first.post_id}" if first.waits else f"{first.deadline:%Y-%m-%d}"
        written += await _write(
            conn,
            first.user_id,
            f"at-risk:{account_id}:{since}:{days}",
            "posts-at-risk",
            f"Posts on {first.handle} are at risk",
            lines,
        )
    return written


async def not_published(conn: AsyncConnection, settings: Settings, delivery: Delivery | None) -> None:
    """failed, attention, missed: once each time it comes to that. None: somebody else moved it."""
    if delivery is None:
        return
    happened = {"attention": "Please look at a post on", "missed": "A post missed its time on"}
    subject = happened.get(delivery.status, "A post was not published on")
    await _of_delivery(conn, settings, delivery, f"delivery-{delivery.status}", subject)


async def incomplete(conn: AsyncConnection, settings: Settings, delivery: Delivery) -> None:
    """published, but the network left out something of it."""
    await _of_delivery(conn, settings, delivery, "delivery-incomplete", "A post went out incomplete on")


async def _of_delivery(conn: AsyncConnection, settings: Settings, delivery: Delivery, kind: str, subject: str) -> None:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            """
            SELECT a.user_id, a.handle, left(p.content->>'text', 60) AS text
              FROM deliveries d JOIN accounts a ON a.id = d.account_id JOIN posts p ON p.id = d.post_id
             WHERE d.id = %(id)s
            """,
            {"id": delivery.id},
        )
        row = await cursor.fetchone()
    if row is None:
        return
    await _write(
        conn,
        row["user_id"],
        f"{delivery.status}:{delivery.id}:{delivery.status_at.timestamp():.6f}",
        kind,
        f"{subject} {row['handle']}",
        [
            f"“{row['text']}”" if row["text"] else "A post without text",
            *(line for line in (delivery.error, delivery.next_step) if line),
            f"{settings.public_url}/posts/{delivery.post_id}",
        ],
    )


async def out_twice(conn: AsyncConnection, settings: Settings, delivery: Delivery, sentence: str) -> None:
    """A request that was given up has arrived after all, beside the one that was sent in its place."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("SELECT user_id, handle FROM accounts WHERE id = %(id)s", {"id": delivery.account_id})
        row = await cursor.fetchone()
    if row:
        await _write(
            conn,
            row["user_id"],
            f"twice:{delivery.id}",
            "delivery-twice",
            f"A post seems to be out twice on {row['handle']}",
            [sentence, f"{settings.public_url}/posts/{delivery.post_id}"],
        )


# -- words ---------------------------------------------------------------------------------------------------


async def _named(conn: AsyncConnection, user_id: int, found: Sequence[Risk], head: str) -> list[str]:
    if not found:
        return ["No post is waiting for it."]
    zone = await _zone(conn, user_id)
    lines = [head]
    for risk in found[:MOST_NAMED]:
        at = risk.post_date.astimezone(zone)
        lines.append(f"- {at:%d %B %Y, %H:%M} {at.tzname()}: {'“' + risk.text + '”' if risk.text else 'without text'}")
    if len(found) > MOST_NAMED:
        lines.append(f"- and {len(found) - MOST_NAMED} more")
    return lines


async def _how_long(conn: AsyncConnection, risk: Risk) -> str:
    if risk.waits:
        return f"{risk.state_reason or 'Its access has ended.'} Its posts wait until it is connected again."
    at = risk.deadline.astimezone(await _zone(conn, risk.user_id))
    why = f" {risk.state_reason}" if risk.state_reason else ""
    return f"The access to {risk.handle} ends on {at:%d %B %Y, %H:%M} {at.tzname()} and was not renewed.{why}"


async def _zone(conn: AsyncConnection, user_id: int) -> ZoneInfo:
    row = await (await conn.execute("SELECT time_zone FROM users WHERE id = %(id)s", {"id": user_id})).fetchone()
    return ZoneInfo(row[0] if row else "UTC")


# -- the table -----------------------------------------------------------------------------------------------


async def _write(conn: AsyncConnection, user_id: int, key: str, kind: str, subject: str, lines: Sequence[str]) -> int:
    done = await conn.execute(
        """
        INSERT INTO notices (user_id, key, kind, subject, body)
        VALUES (%(user_id)s, %(key)s, %(kind)s, %(subject)s, %(body)s) ON CONFLICT (key) DO NOTHING
        """,
        {"user_id": user_id, "key": key, "kind": kind, "subject": subject, "body": "\n".join(lines).strip()},
    )
    return done.rowcount


async def claim(conn: AsyncConnection) -> list[Notice]:
    """What is to be told to one person now; the next try is set before this one begins, so a dead sender costs a
    pause and nothing else. What is older than two days was written before anything was configured.
    """
    query: LiteralString = """
        WITH due AS (
            SELECT id FROM notices
             WHERE sent_at IS NULL AND try_at <= clock_timestamp() AND tries < %(most)s
               AND created_at > now() - interval '2 days'
               AND user_id = (SELECT user_id FROM notices
                               WHERE sent_at IS NULL AND try_at <= clock_timestamp() AND tries < %(most)s
                                 AND created_at > now() - interval '2 days'
                               ORDER BY try_at, id LIMIT 1)
             ORDER BY id LIMIT 50 FOR UPDATE SKIP LOCKED)
        UPDATE notices n SET tries = tries + 1, try_at = clock_timestamp() + interval '2 minutes' * 2 ^ tries
          FROM due, users u
         WHERE n.id = due.id AND u.id = n.user_id
        RETURNING n.id, n.user_id, u.email, n.key, n.kind, n.subject, n.body, n.created_at, n.mailed_at, n.posted_at,
                  n.tries
    """
    async with conn.cursor(row_factory=class_row(Notice)) as cursor:
        await cursor.execute(query, {"most": MOST_TRIES})
        return sorted(await cursor.fetchall(), key=lambda notice: notice.id)


async def mark_mailed(conn: AsyncConnection, batch: Sequence[Notice]) -> None:
    await conn.execute("UPDATE notices SET mailed_at = now() WHERE id = ANY(%(ids)s)", _ids(batch))


async def mark_posted(conn: AsyncConnection, batch: Sequence[Notice]) -> None:
    await conn.execute("UPDATE notices SET posted_at = now() WHERE id = ANY(%(ids)s)", _ids(batch))


async def mark_sent(conn: AsyncConnection, batch: Sequence[Notice]) -> None:
    await conn.execute("UPDATE notices SET sent_at = now(), fault = NULL WHERE id = ANY(%(ids)s)", _ids(batch))


async def note_fault(conn: AsyncConnection, batch: Sequence[Notice], fault: str) -> None:
    await conn.execute("UPDATE notices SET fault = %(fault)s WHERE id = ANY(%(ids)s)", _ids(batch) | {"fault": fault})


def _ids(batch: Sequence[Notice]) -> dict[str, object]:
    return {"ids": [notice.id for notice in batch]}
