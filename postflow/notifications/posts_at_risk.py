"""Posts at risk: those whose account will not be able to publish them unless its person connects it again.

Two ways: the account needs reconnecting now, so the post waits, or cannot be looked for; or its access ends before the
post's date. Access that PostFlow renews by itself is renewed a month ahead, so one that ends within two weeks is one that
could not be renewed.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import LiteralString

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row

from postflow.models import Account, AccountState, Problem, Value

#: Days left at which a person is told, the most urgent first.
DAYS = (1, 7, 14)


class Risk(Value):
    """One post that waits, or that is in doubt, on one account; of a thread the first part that does."""

    post_id: int
    post_date: datetime
    text: str  # its beginning
    account_id: int
    user_id: int
    handle: str
    state: AccountState
    state_reason: str | None
    ends_at: datetime | None

    @property
    def waits(self) -> bool:
        """For the account, which needs reconnecting now."""
        return self.state is AccountState.needs_reconnect

    @property
    def deadline(self) -> datetime:
        """Until then connecting again keeps the post on time."""
        return self.post_date if self.waits or self.ends_at is None else self.ends_at

    def within_days(self, now: datetime) -> int | None:
        """The smallest of `DAYS` that holds what is left; None while there is more time than that."""
        left = self.deadline - now
        return next((days for days in DAYS if left <= timedelta(days=days)), None)


_RISKS: LiteralString = """
    SELECT p.id AS post_id, p.post_date, left(p.content->>'text', 60) AS text, a.id AS account_id, a.user_id, a.handle,
           a.state, a.state_reason, a.token_expires_at AS ends_at
      FROM accounts a JOIN deliveries d ON d.account_id = a.id JOIN posts p ON p.id = d.post_id
     WHERE d.status IN ('scheduled', 'preparing', 'ready', 'unknown')
       AND NOT EXISTS (SELECT FROM deliveries before WHERE before.post_id = p.parent_id AND before.account_id = a.id
                          AND before.status IN ('scheduled', 'preparing', 'ready', 'unknown'))
       AND (a.state = 'needs_reconnect' OR (a.state = 'active' AND a.token_expires_at < least(p.post_date, %(until)s)))
"""
_IN_ORDER: LiteralString = " ORDER BY p.post_date, p.id LIMIT %(most)s"
#: Nobody reads a longer list, and a page must not wait for one.
MOST = 500


def of_user(conn: Connection, user_id: int, now: datetime) -> list[Risk]:
    """The first `MOST` that are worth a word by now: what waits for its account, and what `DAYS` says of the others."""
    query: LiteralString = _RISKS + " AND a.user_id = %(user_id)s" + _IN_ORDER
    with conn.cursor(row_factory=class_row(Risk)) as cursor:
        return cursor.execute(query, {"user_id": user_id, "until": _until(now), "most": MOST}).fetchall()


async def of_account(conn: AsyncConnection, account_id: int, now: datetime) -> list[Risk]:
    query: LiteralString = _RISKS + " AND a.id = %(account_id)s" + _IN_ORDER
    return await _read(conn, query, {"account_id": account_id, "until": _until(now), "most": MOST})


async def everyone(conn: AsyncConnection, now: datetime) -> list[Risk]:
    """Whose deadline is near."""
    near: LiteralString = " AND (a.state = 'active' OR p.post_date <= %(until)s)"
    return await _read(conn, _RISKS + near + _IN_ORDER, {"until": _until(now), "most": None})


def _until(now: datetime) -> datetime:
    return now + timedelta(days=max(DAYS))


async def _read(conn: AsyncConnection, query: LiteralString, params: dict[str, object]) -> list[Risk]:
    async with conn.cursor(row_factory=class_row(Risk)) as cursor:
        await cursor.execute(query, params)
        return await cursor.fetchall()


def problems(account: Account, post_date: datetime | None) -> Sequence[Problem]:
    """While composing: what stands between this account and that date. None of it stops anyone."""
    if account.state is AccountState.needs_reconnect:
        return [
            Problem(
                sentence="It must be connected again: until then this post waits for it.",
                field="accounts",
                blocking=False,
            )
        ]
    ends_at = account.token_expires_at
    if ends_at is None or post_date is None or ends_at >= post_date:
        return []
    day = f"{ends_at:%d %B %Y}".lstrip("0")
    if account.state_reason:
        said = f"Its access ends on {day}, before this post, and could not be renewed. Connect it again before that."
    else:
        said = (
            f"Its access ends on {day}, before this post. It is renewed in time by itself; you are told if it is not."
        )
    return [Problem(sentence=said, field="post_date", blocking=False)]
