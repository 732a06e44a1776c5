"""The ground every benchmark stands on: a fresh PostgreSQL server that durably writes, a migrated database, the machine."""

import contextlib
import functools
import itertools
import os
import platform
import sys
from collections.abc import Iterator
from datetime import datetime

import psycopg

from postflow import embedded, migrate

#: PostFlow's tables with Procrastinate's queue as it ships: the revision before the one that changes it.
STOCK_REVISION = "0003"

_numbers = itertools.count(1)


@contextlib.contextmanager
def a_database(revision: str = "head") -> Iterator[str]:
    """The URL of a migrated database on the server of this run; dropped afterwards."""
    server = _server()
    name = f"bench_{next(_numbers)}"
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}".encode())
        try:
            migrate.upgrade(server.url(name), revision)
            yield server.url(name)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


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
def _server() -> embedded.EmbeddedPostgres:
    return _open.enter_context(embedded.ephemeral(careless=False))


def close() -> None:
    _open.close()
    _server.cache_clear()
