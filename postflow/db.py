"""Connections to the database: the only place that opens one.

Pooled connections are in autocommit: a single statement is its own transaction, and whatever must happen
together says so with `transaction`. Sessions run in UTC, within the bounds of `postflow.session_limits`. Functions that take a
connection never commit.
"""

import contextlib
import functools
import secrets
import select
import time
import weakref
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import scalar_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from postflow import errors, session_limits

#: The oldest and the newest PostgreSQL that are tried, by major version; docs/operations.md names them.
OLDEST_SERVER, NEWEST_SERVER = 15, 18
_VERSIONS = Path(__file__).parent.parent / "migrations" / "versions"
_NOW: LiteralString = "SELECT clock_timestamp()"
#: While the database is read-only its sessions are renewed this often: the first that may write ends the outage.
READ_ONLY_LIFE_S = 5.0
_LEFT_BEHIND = "this session is read-only; another one may not be"
_read_only_since: weakref.WeakKeyDictionary[object, float] = weakref.WeakKeyDictionary()
#: A server, or the way to it, that vanishes without a word is noticed within half a minute: the kernel alone would take
#: a quarter of an hour. What stands in DATABASE_URL wins.
_NETWORK: dict[str, Any] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}
#: psycopg's pools pause longer and longer between their tries, up to minutes: after so long they begin anew for whoever
#: waits, so that the database is found within seconds of its return.
_TRIES_S = 5.0
_POOL: dict[str, Any] = {"open": False, "name": "postflow", "reconnect_timeout": _TRIES_S}
#: Of a worker's queue; its bell has one more.
QUEUE_CONNECTIONS = 4
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
        configure=functools.partial(_configure, kind=session_limits.PAGE),
        check=_check,
        timeout=PATIENCE_S,
        kwargs=_options(database_url),
        reconnect_failed=_try_again,
        **_POOL,
    )


def async_pool(database_url: str, *, max_size: int = 8, min_size: int = 1) -> AsyncConnectionPool:
    """For the worker side. Open it with `async with` or `await .open()` inside the running loop."""
    return AsyncConnectionPool(
        database_url,
        min_size=min_size,
        max_size=max_size,
        configure=functools.partial(_configure_async, kind=session_limits.JOB),
        check=_check_async,
        timeout=JOBS_PATIENCE_S,
        kwargs=_options(database_url),
        reconnect_failed=_try_again_async,
        **_POOL,
    )


def queue_pool(*, conninfo: str, **options: Any) -> AsyncConnectionPool:
    """The queue's own, as Procrastinate asks for it, with our look at each connection before it is lent; each of its
    statements stands alone.
    """
    ours = {
        "min_size": QUEUE_CONNECTIONS,
        "timeout": JOBS_PATIENCE_S,
        "configure": functools.partial(_configure_async, kind=session_limits.QUEUE),
        "check": _check_async,
        "kwargs": _options(conninfo),
        "reconnect_failed": _try_again_async,
    }
    return AsyncConnectionPool(conninfo, **{**options, **_POOL, **ours, "name": "queue"})


class Unreachable(errors.Misconfigured):
    """No database answers at DATABASE_URL: for now, or for ever."""


def connect(database_url: str, kind: session_limits.Kind = session_limits.COMMAND) -> psycopg.Connection:
    """One connection in autocommit, for a command. Raises Unreachable, and Misconfigured where PostFlow cannot live."""
    try:
        conn = psycopg.connect(database_url, **_options(database_url))
    except psycopg.OperationalError as refused:
        raise Unreachable(f"The database cannot be reached: {_first_line(refused)}") from None
    if unfit := _unfit(conn):
        conn.close()
        raise errors.Misconfigured(unfit)
    _configure(conn, kind)
    return conn


def server_name(conn: psycopg.Connection) -> str:
    return "PostgreSQL {}.{}".format(*divmod(conn.info.server_version, 10_000))


def _unfit(conn: psycopg.Connection) -> str | None:
    """By what the server says of itself when a session begins: nothing is asked, let alone written."""
    if conn.info.server_version < OLDEST_SERVER * 10_000:
        return f"The database is {server_name(conn)}, and PostFlow needs {OLDEST_SERVER} or newer."
    encoding = conn.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        return (
            f"The database's encoding is {encoding}, which cannot hold every letter or does not know which it holds. Make "
            "another one (CREATE DATABASE postflow ENCODING 'UTF8' TEMPLATE template0) and name it in DATABASE_URL."
        )
    return None


@contextlib.asynccontextmanager
async def listening(database_url: str, name: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """One connection to hear notifications and hold locks on; `name` is its own in pg_stat_activity. Raises
    psycopg.OperationalError.
    """
    options = {**_options(database_url), "application_name": name}
    async with await psycopg.AsyncConnection.connect(database_url, **options) as conn:
        await _configure_async(conn, session_limits.BELL)
        yield conn


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


async def async_values(conn: psycopg.AsyncConnection, query: LiteralString, params: Mapping[str, Any]) -> list[Any]:
    """Of rows of one column."""
    cursor = await conn.cursor(row_factory=scalar_row).execute(query, params)
    return await cursor.fetchall()


async def async_value(conn: psycopg.AsyncConnection, query: LiteralString, params: Mapping[str, Any]) -> Any:
    """Of the first row, which has one column; None where there is none."""
    return next(iter(await async_values(conn, query, params)), None)


def check_schema(conn: psycopg.Connection) -> None:
    """Raises SchemaBehind unless every revision this program ships is applied.

    A newer database is fine: during a deploy the former release runs on until it is replaced.
    """
    try:
        applied, shipped = applied_revision(conn), shipped_revision()
    except psycopg.errors.InsufficientPrivilege as refused:
        raise errors.Misconfigured(
            f"The user in DATABASE_URL may not read PostFlow's tables ({_first_line(refused)}): it should own them."
        ) from None
    if applied is None:
        raise errors.SchemaBehind("The database has no PostFlow tables yet; run: postflow migrate")
    if applied < shipped:
        raise errors.SchemaBehind(f"The database is at revision {applied} of {shipped}; run: postflow migrate")


def keeps_sessions(database_url: str) -> bool:
    """Does a session stay ours between two statements? A pooler that lends it to others in between (PgBouncer's
    transaction mode) breaks LISTEN and advisory locks without a word. Takes two connections. Raises Unreachable.
    """
    token, look = secrets.token_hex(8), "SELECT current_setting('postflow.session', true)"
    with connect(database_url) as ours, connect(database_url) as other:
        ours.execute("SELECT set_config('postflow.session', %s, false)", [token])
        with other.transaction():  # it keeps the session that we have just let go of
            if other.execute(look).fetchone() == (token,):
                return False
            return ours.execute(look).fetchone() == (token,)


def applied_revision(conn: psycopg.Connection) -> str | None:
    """None where nothing was ever migrated."""
    if conn.execute("SELECT to_regclass('alembic_version')").fetchone() == (None,):
        return None
    row = conn.execute("SELECT max(version_num) FROM alembic_version").fetchone()
    return row[0] if row else None


def shipped_revision() -> str:
    """The newest revision's number, from the file names: web and worker need no Alembic to know it."""
    return max(path.name.partition("_")[0] for path in _VERSIONS.glob("[0-9]*_*.py"))


def _options(database_url: str) -> dict[str, Any]:
    try:
        given = conninfo_to_dict(database_url)
    except psycopg.ProgrammingError:  # its words repeat the password
        raise errors.Misconfigured("DATABASE_URL: must look like postgresql://user:password@host:5432/name") from None
    return {"autocommit": True, "client_encoding": "utf8"} | {
        name: value for name, value in _NETWORK.items() if name not in given
    }


def _instant(row: tuple[datetime] | None) -> datetime:
    assert row
    return row[0]


def _try_again(pool: ConnectionPool) -> None:
    """Somebody waits for a connection; a pool that has given up tries again only when the next one comes."""
    if pool.get_stats()["requests_waiting"]:
        pool.check()


async def _try_again_async(pool: AsyncConnectionPool) -> None:
    if pool.get_stats()["requests_waiting"]:
        await pool.check()


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


def _configure(conn: psycopg.Connection, kind: session_limits.Kind) -> None:
    conn.execute(session_limits.SET, session_limits.asked(kind))
    _is_left_behind(conn)  # from here on its life counts


async def _configure_async(conn: psycopg.AsyncConnection, kind: session_limits.Kind) -> None:
    await conn.execute(session_limits.SET, session_limits.asked(kind))
    _is_left_behind(conn)


def refusal(error: Exception) -> str | None:
    """A sentence for what whoever runs the database can mend; None for anything else, which is a fault of ours."""
    kinds = (
        psycopg.OperationalError,
        psycopg.errors.ReadOnlySqlTransaction,
        psycopg.errors.InsufficientPrivilege,
    )
    if not isinstance(error, kinds):
        return None
    reason = _first_line(error) or type(error).__name__
    return f"The database would not do it: {reason}. Try `postflow doctor`, then run this again."


def _first_line(refused: psycopg.Error) -> str:
    """libpq's message names host, port, user and reason, never the password; what follows repeats the statement."""
    return next(iter(str(refused).strip().splitlines()), "")
