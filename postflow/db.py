"""Connections to the database: the only place that opens one.

Pooled connections are in autocommit: a single statement is its own transaction, and whatever must happen
together says so with `transaction`. Sessions run in UTC. Functions that take a connection never commit.
"""

import contextlib
import select
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from postflow import errors

_VERSIONS = Path(__file__).parent.parent / "migrations" / "versions"
_SESSION: LiteralString = "SET TIME ZONE 'UTC'"
_NOW: LiteralString = "SELECT clock_timestamp()"
#: While the database is read-only its sessions are renewed this often: the first that may write ends the outage.
READ_ONLY_LIFE_S = 5.0
_LEFT_BEHIND = "this session is read-only; another one may not be"
_read_only_since: weakref.WeakKeyDictionary[object, float] = weakref.WeakKeyDictionary()
_POOL: dict[str, Any] = {"kwargs": {"autocommit": True}, "open": False, "name": "postflow"}
#: A person would rather read "try again" than wait longer for a connection; a job has more patience.
PATIENCE_S, JOBS_PATIENCE_S = 5.0, 15.0


def pool(database_url: str, *, max_size: int = 8, min_size: int = 1) -> ConnectionPool:
    """For the web side's threads. Open it with `with` or `.open()`; it connects in the background.

    A connection is tried before it is lent, so a restarted database costs nobody an error.
    """
    return ConnectionPool(
        database_url,
        min_size=min_size,
        max_size=max_size,
        configure=_configure,
        check=_check,
        timeout=PATIENCE_S,
        **_POOL,
    )


def async_pool(database_url: str, *, max_size: int = 8, min_size: int = 1) -> AsyncConnectionPool:
    """For the worker side. Open it with `async with` or `await .open()` inside the running loop."""
    return AsyncConnectionPool(
        database_url,
        min_size=min_size,
        max_size=max_size,
        configure=_configure_async,
        check=_check_async,
        timeout=JOBS_PATIENCE_S,
        **_POOL,
    )


def queue_pool(**options: Any) -> AsyncConnectionPool:
    """The queue's own, with our look at each connection before it is lent; each of its statements stands alone."""
    return AsyncConnectionPool(**{**options, "check": _check_async, "kwargs": {"autocommit": True}})


def connect(database_url: str) -> psycopg.Connection:
    """One connection in autocommit, for a command."""
    try:
        conn = psycopg.connect(database_url, autocommit=True)
    except psycopg.OperationalError as refused:
        raise errors.Misconfigured(f"The database cannot be reached: {_without_secret(refused)}") from None
    _configure(conn)
    return conn


@contextlib.contextmanager
def transaction(source: ConnectionPool) -> Iterator[psycopg.Connection]:
    """A connection inside one transaction: committed at the end, rolled back when an exception leaves."""
    with source.connection() as conn, conn.transaction():
        yield conn


@contextlib.asynccontextmanager
async def async_transaction(
    source: AsyncConnectionPool,
) -> AsyncIterator[psycopg.AsyncConnection]:
    async with source.connection() as conn, conn.transaction():
        yield conn


def now(conn: psycopg.Connection) -> datetime:
    """The one clock that decides what is due, late or too old: every process asks the same one."""
    return _instant(conn.execute(_NOW).fetchone())


async def async_now(conn: psycopg.AsyncConnection) -> datetime:
    return _instant(await (await conn.execute(_NOW)).fetchone())


def check_schema(conn: psycopg.Connection) -> None:
    """Raises SchemaBehind unless every revision this program ships is applied.

    A newer database is fine: during a deploy the former release runs on until it is replaced.
    """
    applied, shipped = applied_revision(conn), shipped_revision()
    if applied is None:
        raise errors.SchemaBehind("The database has no PostFlow tables yet; run: postflow migrate")
    if applied < shipped:
        raise errors.SchemaBehind(f"The database is at revision {applied} of {shipped}; run: postflow migrate")


def applied_revision(conn: psycopg.Connection) -> str | None:
    """None where nothing was ever migrated."""
    if conn.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
        return None
    row = conn.execute("SELECT max(version_num) FROM alembic_version").fetchone()
    return row[0] if row else None


def shipped_revision() -> str:
    """The newest revision's number, from the file names: web and worker need no Alembic to know it."""
    return max(path.name.partition("_")[0] for path in _VERSIONS.glob("[0-9]*_*.py"))


def _instant(row: tuple[datetime] | None) -> datetime:
    assert row
    return row[0]


def _check(conn: psycopg.Connection) -> None:
    """Raises for a connection that is not to be lent; the pool then opens another."""
    ConnectionPool.check_connection(conn)
    if _is_left_behind(conn):
        conn.close()
        raise psycopg.OperationalError(_LEFT_BEHIND)


async def _check_async(conn: psycopg.AsyncConnection) -> None:
    """Without a round trip: a server that ended a session has said so, and only then is there anything to read.

    A worker lends connections a dozen times between the bell and the visible call.
    """
    if _has_something_to_say(conn):
        await AsyncConnectionPool.check_connection(conn)
    if _is_left_behind(conn):
        await conn.close()
        raise psycopg.OperationalError(_LEFT_BEHIND)


def _has_something_to_say(conn: psycopg.AsyncConnection) -> bool:
    asking = select.poll()
    asking.register(conn.fileno(), select.POLLIN)
    return bool(asking.poll(0))


def _is_left_behind(conn: psycopg.Connection | psycopg.AsyncConnection) -> bool:
    """A session that began while the database was set to read-only stays so when the others may write again."""
    if conn.info.parameter_status("default_transaction_read_only") != "on":
        return False
    since = _read_only_since.setdefault(conn, time.monotonic())
    return time.monotonic() - since > READ_ONLY_LIFE_S


def _configure(conn: psycopg.Connection) -> None:
    conn.execute(_SESSION)
    _is_left_behind(conn)  # from here on its life counts


async def _configure_async(conn: psycopg.AsyncConnection) -> None:
    await conn.execute(_SESSION)
    _is_left_behind(conn)


def _without_secret(refused: psycopg.OperationalError) -> str:
    """libpq's message names host, port, user and reason, never the password; keep its first line."""
    return str(refused).strip().splitlines()[0]
