"""The servers and apps tables: what each instance accepts, and PostFlow as its client."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, LiteralString

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from postflow import crypto
from postflow.models import AppRegistration, Problem, Server

#: Servers are asked daily; one that kept silent for so long may be gone.
SILENT_AFTER = timedelta(days=3)
#: Limits older than this are asked anew by a worker.
STALE_AFTER = timedelta(hours=24)
#: And older than this before a post is accepted, or refused for them.
RECENT = timedelta(minutes=1)


def problems(server: Server | None, now: datetime) -> list[Problem]:
    """While composing: the server may have gone away. Stops nobody, since it may be back by the post's date."""
    if server is None or now - server.fetched_at < SILENT_AFTER:
        return []
    day = f"{server.fetched_at:%d %B %Y}".lstrip("0")
    said = f"Its server has not answered since {day}. Look whether it is still there; its limits may have changed too."
    return [Problem(sentence=said, field="accounts", blocking=False)]


def get(conn: Connection, platform: str, base_url: str) -> Server | None:
    """As last seen, however long ago."""
    with conn.cursor(row_factory=class_row(Server)) as cursor:
        return cursor.execute(
            """
            SELECT platform, base_url, software, version, title, limits, capabilities, fetched_at
              FROM servers WHERE platform = %(platform)s AND base_url = %(base_url)s
            """,
            {"platform": platform, "base_url": base_url},
        ).fetchone()


def of_user(conn: Connection, user_id: int) -> list[Server]:
    """Every server this person has an account on."""
    with conn.cursor(row_factory=class_row(Server)) as cursor:
        return cursor.execute(
            """
            SELECT platform, base_url, software, version, title, limits, capabilities, fetched_at
              FROM servers
             WHERE EXISTS (SELECT FROM accounts WHERE user_id = %(user_id)s AND state <> 'disconnected'
                              AND accounts.platform = servers.platform AND accounts.base_url = servers.base_url)
            """,
            {"user_id": user_id},
        ).fetchall()


def stale(conn: Connection, user_id: int, account_ids: Sequence[int]) -> list[Server]:
    """Those behind these accounts that were not asked this minute."""
    with conn.cursor(row_factory=class_row(Server)) as cursor:
        return cursor.execute(
            _STALE
            + """
               AND EXISTS (SELECT FROM accounts WHERE user_id = %(user_id)s AND accounts.id = ANY(%(account_ids)s)
                              AND accounts.platform = servers.platform AND accounts.base_url = servers.base_url)
            """,
            {"user_id": user_id, "account_ids": list(account_ids), "stale_after": RECENT},
        ).fetchall()


async def stale_anywhere(conn: AsyncConnection) -> list[Server]:
    """Those behind any account in use that were not asked for a day."""
    async with conn.cursor(row_factory=class_row(Server)) as cursor:
        await cursor.execute(
            _STALE
            + """
               AND EXISTS (SELECT FROM accounts WHERE state <> 'disconnected'
                              AND accounts.platform = servers.platform AND accounts.base_url = servers.base_url)
            """,
            {"stale_after": STALE_AFTER},
        )
        return await cursor.fetchall()


def save(conn: Connection, server: Server) -> None:
    """What came last over the wire wins, also when two processes asked at once."""
    conn.execute(_SAVE, _row(server))


async def async_save(conn: AsyncConnection, server: Server) -> None:
    await conn.execute(_SAVE, _row(server))


_STALE: LiteralString = """
    SELECT platform, base_url, software, version, title, limits, capabilities, fetched_at
      FROM servers WHERE fetched_at < now() - %(stale_after)s
"""
_SAVE: LiteralString = """
    INSERT INTO servers (platform, base_url, software, version, title, limits, capabilities, fetched_at)
    VALUES (%(platform)s, %(base_url)s, %(software)s, %(version)s, %(title)s, %(limits)s, %(capabilities)s,
            %(fetched_at)s)
    ON CONFLICT (platform, base_url) DO UPDATE
       SET software = excluded.software, version = excluded.version, title = excluded.title,
           limits = excluded.limits, capabilities = excluded.capabilities, fetched_at = excluded.fetched_at
     WHERE servers.fetched_at <= excluded.fetched_at
"""


def _row(server: Server) -> dict[str, Any]:
    return server.model_dump(mode="python") | {
        "limits": Jsonb(server.limits.model_dump(mode="json")),
        "capabilities": Jsonb(server.capabilities.model_dump(mode="json")),
    }


def app(
    conn: Connection, keys: Sequence[SecretStr], *, platform: str, base_url: str, option: str, redirect_uri: str
) -> AppRegistration | None:
    row = conn.execute(
        """
        SELECT sealed FROM apps
         WHERE platform = %(platform)s AND base_url = %(base_url)s AND option = %(option)s
           AND redirect_uri = %(redirect_uri)s
        """,
        {"platform": platform, "base_url": base_url, "option": option, "redirect_uri": redirect_uri},
    ).fetchone()
    return crypto.unseal(keys, row[0], AppRegistration) if row else None


def save_app(
    conn: Connection,
    keys: Sequence[SecretStr],
    registration: AppRegistration,
    *,
    platform: str,
    base_url: str,
    option: str,
    replace: bool = False,
) -> AppRegistration:
    """Two people connecting at once register twice; the first one stored is everybody's. `replace` when it is gone."""
    conn.execute(
        """
        INSERT INTO apps (platform, base_url, option, redirect_uri, sealed)
        VALUES (%(platform)s, %(base_url)s, %(option)s, %(redirect_uri)s, %(sealed)s)
        ON CONFLICT (platform, base_url, option, redirect_uri) DO UPDATE
           SET sealed = CASE WHEN %(replace)s THEN excluded.sealed ELSE apps.sealed END,
               created_at = CASE WHEN %(replace)s THEN excluded.created_at ELSE apps.created_at END
        """,
        {
            "platform": platform,
            "base_url": base_url,
            "option": option,
            "redirect_uri": registration.redirect_uri,
            "sealed": crypto.seal(keys, registration),
            "replace": replace,
        },
    )
    kept = app(conn, keys, platform=platform, base_url=base_url, option=option, redirect_uri=registration.redirect_uri)
    return kept or registration
