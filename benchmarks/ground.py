"""The ground every benchmark stands on: a fresh PostgreSQL server that durably writes, a migrated database, the machine.

POSTFLOW_PG_BINDIR, or POSTFLOW_TEST_PG_BINDIR as for the tests, names the directory of another server's programs.
"""

import contextlib
import functools
import itertools
import os
import platform
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

import psycopg
import psycopg.conninfo

from postflow.dev import embedded_postgres
from postflow.operations import migrate
from tests import servers

#: Takes our changes to Procrastinate's queue away again: the same tables for both, the queue as it ships.
_STOCK_QUEUE = migrate.MIGRATIONS / "sql" / "0004_queue_down.sql"

_numbers = itertools.count(1)


@contextlib.contextmanager
def a_database(*, stock_queue: bool = False) -> Iterator[str]:
    """The URL of a migrated database on the server of this run; dropped afterwards."""
    server = _server()
    name = f"bench_{next(_numbers)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        try:
            migrate.upgrade(server.url(name))
            if stock_queue:
                with psycopg.connect(server.url(name)) as conn:
                    conn.execute(_STOCK_QUEUE.read_bytes())
            yield server.url(name)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


class Statement(NamedTuple):
    """One that a session sent, by the server's log."""

    pid: int
    application: str
    text: str


@contextlib.contextmanager
def told(database_url: str) -> Iterator[psycopg.Connection]:
    """From now on the server logs each statement of sessions that begin in this database; `statements` reads them. To ask
    meanwhile without being among them there is a session in another database.
    """
    server = _server()
    with psycopg.connect(server.url("postgres"), autocommit=True) as aside:
        aside.execute("ALTER SYSTEM SET log_line_prefix = '%d|%p|%a|'")
        aside.execute("SELECT pg_reload_conf()")
        aside.execute(f"ALTER DATABASE {_name(database_url)} SET log_statement = 'all'".encode())
        yield aside


def statements(database_url: str, since: int) -> list[Statement]:
    """What was logged after a place in the log; BEGIN and COMMIT are statements too."""
    with _server().log.open("rb") as log:
        log.seek(since)
        lines = log.read().decode(errors="replace").replace("\n\t", " ").splitlines()  # what goes on begins with a tab
    found = [_STATEMENT.match(line) for line in lines]
    of_here = [one for one in found if one and one[1] == _name(database_url)]
    return [Statement(int(one[2]), one[3], one[4]) for one in of_here]


def log_ends_at() -> int:
    return _server().log.stat().st_size


#: A prepared statement is logged when it is executed.
_STATEMENT = re.compile(r"([^|]*)\|(\d+)\|([^|]*)\|LOG:  (?:statement|execute [^:]*): (.*)")


def _name(database_url: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(database_url)["dbname"])


def machine() -> str:
    """One line that says what was measured on."""
    with psycopg.connect(_server().url("postgres"), autocommit=True) as conn:
        row = conn.execute("SHOW server_version").fetchone()
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return (
        f"{os.cpu_count()} CPUs, load {load}, PostgreSQL {row[0] if row else '?'}, Python {platform.python_version()},"
        f" {platform.system()}"
    )


def now(conn: psycopg.Connection) -> datetime:
    """By the database's clock."""
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    assert row
    return row[0]


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


_open = contextlib.ExitStack()


@functools.cache
def _server() -> embedded_postgres.EmbeddedPostgres:
    servers.use_the_named()
    return _open.enter_context(embedded_postgres.ephemeral(careless=False))


def close() -> None:
    _open.close()
    _server.cache_clear()
