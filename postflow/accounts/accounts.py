"""The accounts table: who is connected where, with credentials sealed.

What the web reads takes `user_id`: somebody else's account is not found. The async functions are the worker's.
"""

import contextlib
from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString, NamedTuple

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row, dict_row
from pydantic import SecretStr

from postflow import crypto, platforms
from postflow.errors import Misconfigured, NotFound, Unauthorized
from postflow.models import Account, AccountState, AppRegistration, Credentials, Login, Profile, Server

Keys = Sequence[SecretStr]

_COLUMNS: LiteralString = """
    accounts.id, accounts.user_id, accounts.platform, accounts.base_url, accounts.remote_id, accounts.handle,
    accounts.display_name, accounts.avatar_url, accounts.profile_url, accounts.state, accounts.state_reason,
    accounts.token_expires_at, accounts.throttled_until, accounts.uploads_throttled_until, accounts.verified_at,
    accounts.created_at
"""
#: The registration an account's token was made with, for refreshing and revoking it; the newest when we moved.
_LOGIN: LiteralString = (
    "SELECT "
    + _COLUMNS
    + """, accounts.sealed, encode(sha256(accounts.sealed), 'hex') AS version, newest.sealed AS app_sealed
      FROM accounts
      LEFT JOIN LATERAL (
           SELECT apps.sealed FROM apps
            WHERE apps.platform = accounts.platform AND apps.base_url = accounts.base_url
              AND apps.option = accounts.option
            ORDER BY apps.created_at DESC LIMIT 1) newest ON true
     WHERE accounts.id = %(id)s
    """
)
#: Only what was learned with the credentials that are still stored may change their account.
_STILL_THE_SAME: LiteralString = " AND encode(sha256(sealed), 'hex') = %(version)s"


class WaitingPost(NamedTuple):
    delivery_id: int
    post_id: int
    post_date: datetime
    text: str  # its beginning
    in_flight: bool  # a request may have left: it cannot be held back


class Waiting(NamedTuple):
    """Posts that would lose this account."""

    posts: list[WaitingPost]

    @property
    def delivery_ids(self) -> list[int]:
        return [post.delivery_id for post in self.posts if not post.in_flight]

    @property
    def in_flight(self) -> int:
        return sum(post.in_flight for post in self.posts)


# -- the web side ------------------------------------------------------------------------------------------


def of_user(conn: Connection, user_id: int, *, with_disconnected: bool = False) -> list[Account]:
    """Those that need the person first."""
    query: LiteralString = (
        "SELECT "
        + _COLUMNS
        + """ FROM accounts
         WHERE user_id = %(user_id)s AND (%(all)s OR state <> 'disconnected')
         ORDER BY state = 'active', lower(handle), id
        """
    )
    with conn.cursor(row_factory=class_row(Account)) as cursor:
        return cursor.execute(query, {"user_id": user_id, "all": with_disconnected}).fetchall()


def get(conn: Connection, user_id: int, account_id: int, *, lock: bool = False) -> Account:
    """`lock` holds it until the transaction ends, before anything of its posts is locked. Raises NotFound."""
    query: LiteralString = "SELECT " + _COLUMNS + " FROM accounts WHERE id = %(id)s AND user_id = %(user_id)s"
    held: LiteralString = " FOR NO KEY UPDATE"
    with conn.cursor(row_factory=class_row(Account)) as cursor:
        found = cursor.execute(query + held if lock else query, {"id": account_id, "user_id": user_id}).fetchone()
    if found is None:
        raise NotFound("There is no such account.")
    return found


def connect(
    conn: Connection,
    user_id: int,
    *,
    platform: str,
    base_url: str,
    option: str,
    profile: Profile,
    credentials: Credentials,
    keys: Keys,
) -> Account:
    """New, or in place when this person connected it before: its posts stay with it, and it is active again."""
    query: LiteralString = (
        """
        INSERT INTO accounts (user_id, platform, base_url, remote_id, handle, display_name, avatar_url, profile_url,
                              option, sealed, state, token_expires_at, verified_at)
        VALUES (%(user_id)s, %(platform)s, %(base_url)s, %(remote_id)s, %(handle)s, %(display_name)s, %(avatar_url)s,
                %(profile_url)s, %(option)s, %(sealed)s, 'active', %(expires_at)s, now())
        ON CONFLICT ON CONSTRAINT accounts_once DO UPDATE
           SET handle = excluded.handle, display_name = excluded.display_name, avatar_url = excluded.avatar_url,
               profile_url = excluded.profile_url, option = excluded.option, sealed = excluded.sealed,
               state = 'active', state_reason = NULL, token_expires_at = excluded.token_expires_at,
               throttled_until = NULL, uploads_throttled_until = NULL, verified_at = now()
        RETURNING """
        + _COLUMNS
    )
    row = {
        **profile.model_dump(),
        "user_id": user_id,
        "platform": platform,
        "base_url": base_url,
        "option": option,
        "sealed": crypto.seal(keys, credentials),
        "expires_at": credentials.expires_at,
    }
    with conn.cursor(row_factory=class_row(Account)) as cursor:
        stored = cursor.execute(query, row).fetchone()
    if stored is None:
        raise psycopg.DataError("an upsert returned nothing")
    return stored


def disconnect(conn: Connection, user_id: int, account_id: int) -> None:
    """Forgets the credentials; the row stays for the posts that went out through it."""
    conn.execute(
        """
        UPDATE accounts SET state = 'disconnected', state_reason = NULL, sealed = NULL, token_expires_at = NULL
         WHERE id = %(id)s AND user_id = %(user_id)s
        """,
        {"id": account_id, "user_id": user_id},
    )


def waiting(conn: Connection, user_id: int, account_id: int, *, lock: bool = False) -> Waiting:
    """What still hangs on this account; `lock` holds those rows until the transaction ends."""
    query: LiteralString = """
        SELECT deliveries.id, posts.id, posts.post_date, left(posts.content->>'text', 60),
               deliveries.status IN ('sending', 'unknown')
          FROM deliveries JOIN accounts ON accounts.id = deliveries.account_id JOIN posts ON posts.id = deliveries.post_id
         WHERE deliveries.account_id = %(id)s AND accounts.user_id = %(user_id)s
           AND deliveries.status IN ('scheduled', 'preparing', 'ready', 'sending', 'unknown')
         ORDER BY posts.post_date, deliveries.id
    """
    held: LiteralString = " FOR UPDATE OF deliveries"
    rows = conn.execute(query + held if lock else query, {"id": account_id, "user_id": user_id}).fetchall()
    return Waiting([WaitingPost(*row) for row in rows])


def option_of(conn: Connection, account_id: int) -> str:
    """By which way it was connected last."""
    row = conn.execute("SELECT option FROM accounts WHERE id = %(id)s", {"id": account_id}).fetchone()
    return row[0] if row else ""


def login_of(conn: Connection, user_id: int, account_id: int, keys: Keys) -> Login:
    """Raises NotFound, Unauthorized when it is disconnected."""
    get(conn, user_id, account_id)
    with conn.cursor(row_factory=dict_row) as cursor:
        return _login(cursor.execute(_LOGIN, {"id": account_id}).fetchone(), keys)


def logins(conn: Connection, platform: str, keys: Keys) -> list[Login]:
    """Every account on this network that can still be opened, of anyone here; locked while a transaction is open.

    One whose key is lost is passed over: it must not stand in the way of the others.
    """
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT id FROM accounts WHERE platform = %(platform)s AND sealed IS NOT NULL ORDER BY id FOR NO KEY UPDATE",
            {"platform": platform},
        ).fetchall()
        found = []
        for row in rows:
            with contextlib.suppress(Misconfigured):
                found.append(_login(cursor.execute(_LOGIN, {"id": row["id"]}).fetchone(), keys))
        return found


def forget_person(conn: Connection, account_id: int) -> None:
    """Who they are on the network; the row stays for the posts that went out through it."""
    conn.execute(
        """
        UPDATE accounts SET remote_id = 'deleted-' || id, handle = '(deleted)', display_name = '', avatar_url = NULL,
               profile_url = NULL
         WHERE id = %(id)s AND state = 'disconnected'
        """,
        {"id": account_id},
    )
    conn.execute("UPDATE deliveries SET place = 'deleted-' || account_id WHERE account_id = %(id)s", {"id": account_id})


def shares_token(conn: Connection, login: Login, keys: Keys) -> bool:
    """Does any other account, of anyone here, stand on this very token? Sealed texts differ, so each is opened; what
    cannot be opened may, so that nobody's access is taken away.
    """
    rows = conn.execute(
        """
        SELECT sealed FROM accounts
         WHERE platform = %(platform)s AND base_url = %(base_url)s AND id <> %(id)s AND sealed IS NOT NULL
        """,
        {"platform": login.account.platform, "base_url": login.account.base_url, "id": login.account.id},
    ).fetchall()
    model = platforms.get(login.account.platform).credentials_model
    try:
        others = [crypto.unseal(keys, row[0], model) for row in rows]
    except Misconfigured:
        return True
    return any(_same_grant(login.credentials, other) for other in others)


def _same_grant(one: Credentials, other: Credentials) -> bool:
    """The same token, or the same person's grant behind several (Facebook pages)."""
    names = [name for name in type(one).model_fields if name.endswith("token")]
    mine = {getattr(one, name).get_secret_value() for name in names if getattr(one, name, None)}
    theirs = {getattr(other, name).get_secret_value() for name in names if getattr(other, name, None)}
    return bool(mine & theirs)


# -- the worker side -----------------------------------------------------------------------------------------


async def login(conn: AsyncConnection, account_id: int, keys: Keys) -> Login:
    """Raises NotFound, Unauthorized when the account was disconnected or waits for its person."""
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(_LOGIN, {"id": account_id})
        return _login(await cursor.fetchone(), keys)


async def mark_needs_reconnect(conn: AsyncConnection, login: Login, reason: str) -> bool:
    """active → needs_reconnect. False when it was so before, or when other credentials are stored by now."""
    done = await conn.execute(
        "UPDATE accounts SET state = 'needs_reconnect', state_reason = %(reason)s WHERE id = %(id)s AND state = 'active'"
        + _STILL_THE_SAME,
        {"id": login.account.id, "version": login.version, "reason": reason},
    )
    return done.rowcount == 1


async def note_trouble(conn: AsyncConnection, login: Login, reason: str) -> None:
    """It works, but will not for ever: the page says so, and a later refresh takes it back."""
    await conn.execute(
        "UPDATE accounts SET state_reason = %(reason)s WHERE id = %(id)s AND state = 'active'" + _STILL_THE_SAME,
        {"id": login.account.id, "version": login.version, "reason": reason},
    )


async def note_verified(conn: AsyncConnection, login: Login) -> bool:
    """needs_reconnect → active when these credentials are still the stored ones. True when that brought it back."""
    back = await conn.execute(
        "UPDATE accounts SET state = 'active', state_reason = NULL WHERE id = %(id)s AND state = 'needs_reconnect'"
        + _STILL_THE_SAME,
        {"id": login.account.id, "version": login.version},
    )
    await conn.execute("UPDATE accounts SET verified_at = now() WHERE id = %(id)s", {"id": login.account.id})
    return back.rowcount == 1


async def has_newer_credentials(conn: AsyncConnection, login: Login) -> bool:
    rows = await conn.execute(
        "SELECT FROM accounts WHERE id = %(id)s AND state = 'active' AND encode(sha256(sealed), 'hex') <> %(version)s",
        {"id": login.account.id, "version": login.version},
    )
    return await rows.fetchone() is not None


async def mark_server_changed(conn: AsyncConnection, server: Server, reason: str) -> list[Account]:
    """Every account there needs its person. Returns those that did not before."""
    query: LiteralString = (
        """
        UPDATE accounts SET state = 'needs_reconnect', state_reason = %(reason)s
         WHERE platform = %(platform)s AND base_url = %(base_url)s AND state = 'active'
        RETURNING """
        + _COLUMNS
    )
    async with conn.cursor(row_factory=class_row(Account)) as cursor:
        await cursor.execute(query, {"platform": server.platform, "base_url": server.base_url, "reason": reason})
        return await cursor.fetchall()


async def save_credentials(
    conn: AsyncConnection, login: Login, renewed: Credentials, keys: Keys
) -> AccountState | None:
    """In the place of those that were renewed; the account is active with them. Returns what it was before: a 401 may have
    come between, since a rotating token dies before its successor is stored. None: the person connected anew meanwhile.
    """
    query: LiteralString = (
        """
        WITH before AS (SELECT id, state FROM accounts WHERE id = %(id)s"""
        + _STILL_THE_SAME
        + """ FOR NO KEY UPDATE)
        UPDATE accounts SET sealed = %(sealed)s, token_expires_at = %(expires_at)s, verified_at = now(), state = 'active',
               state_reason = NULL
          FROM before WHERE accounts.id = before.id
        RETURNING before.state
        """
    )
    rows = await conn.execute(
        query,
        {
            "id": login.account.id,
            "version": login.version,
            "sealed": crypto.seal(keys, renewed),
            "expires_at": renewed.expires_at,
        },
    )
    row = await rows.fetchone()
    return AccountState(row[0]) if row else None


def _login(row: dict[str, object] | None, keys: Keys) -> Login:
    if row is None:
        raise NotFound("There is no such account.")
    sealed, version, app_sealed = row.pop("sealed"), row.pop("version"), row.pop("app_sealed")
    account = Account.model_validate(row)
    if not isinstance(sealed, bytes):
        raise Unauthorized(
            f"{account.handle} is no longer connected.", next_step="Connect the account again, then publish once more."
        )
    return Login(
        account=account,
        credentials=crypto.unseal(keys, sealed, platforms.get(account.platform).credentials_model),
        app=crypto.unseal(keys, app_sealed, AppRegistration) if isinstance(app_sealed, bytes) else None,
        version=str(version),
    )
