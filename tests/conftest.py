"""A real database for every test that asks for one.

postgres       one server per test process: TEST_DATABASE_URL, or our own that dies with us (which: tests/servers.py)
template       a database migrated once
database_url   a fresh copy of it, dropped afterwards
db             a connection to that copy, in autocommit
sandbox        pretended networks, nobody else's
"""

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import structlog
from psycopg import sql

from postflow.dev import embedded_postgres
from postflow.dev.embedded_postgres import binaries
from postflow.operations import migrate
from sandbox import Sandbox
from tests import servers

UrlOf = Callable[[str], str]


#: Begins of paths: tests that start whole programs, kill at each step, or drive a browser. `--quick` leaves them out.
_SLOW = (
    "acceptance/",
    "browser/",
    "chaos/",
    "engine/test_guards.py",
    "engine/test_kills",
    "engine/test_person_and_worker.py",
    "engine/test_troubles.py",
    "ground/test_benchmarks.py",
    "ground/test_deploy.py",
    "ground/test_dev_whole.py",
    "ground/test_embedded.py",
    "ground/test_every_server.py",
    "ground/test_migrations.py",
    "ground/test_unfit_databases.py",
)

servers.use_the_named()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.relative_to(Path(__file__).parent).as_posix().startswith(_SLOW):
            item.add_marker("slow")


def pytest_report_header() -> str:
    if os.environ.get("TEST_DATABASE_URL"):
        return "PostgreSQL: the one at TEST_DATABASE_URL"
    found = binaries.find()
    return f"PostgreSQL: {found.major}, from {found.bindir}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[UrlOf]:
    """`postgres("name")` is the URL of that database on the server of this test run."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        parts = urlsplit(given)  # an address stays one: settings take nothing else
        yield lambda name: urlunsplit(parts._replace(path=f"/{name}"))
        return
    with embedded_postgres.ephemeral() as server:
        yield server.url


@pytest.fixture(scope="session")
def admin(postgres: UrlOf) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres("postgres"), autocommit=True) as conn:
        yield conn


@pytest.fixture(scope="session")
def template(postgres: UrlOf, admin: psycopg.Connection) -> Iterator[str]:
    if given := os.environ.get("TEST_TEMPLATE"):  # of many short runs on one server
        yield given
        return
    with a_database(admin, f"postflow_template_{os.getpid()}") as name:
        migrate.upgrade(postgres(name))
        yield name


@pytest.fixture
def empty_database_url(postgres: UrlOf, admin: psycopg.Connection) -> Iterator[str]:
    """A database in which nothing was ever migrated."""
    with a_database(admin, f"postflow_empty_{os.getpid()}") as name:
        yield postgres(name)


@pytest.fixture
def database_url(postgres: UrlOf, admin: psycopg.Connection, template: str) -> Iterator[str]:
    with a_database(admin, f"postflow_test_{os.getpid()}", template) as name:
        yield postgres(name)


@pytest.fixture
def db(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("SET TIME ZONE 'UTC'")
        yield conn


@pytest.fixture
async def adb(database_url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as conn:
        await conn.execute("SET TIME ZONE 'UTC'")
        yield conn


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Each test has its own, which starts in milliseconds: what another test sent or set is never seen here."""
    with Sandbox.start() as running:
        yield running


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """What a test configures of logging, as each application and command does, ends with it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@contextlib.contextmanager
def a_database(admin: psycopg.Connection, name: str, template: str = "template1") -> Iterator[str]:
    quoted = sql.Identifier(name)
    admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(quoted))
    admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(quoted, sql.Identifier(template)))
    try:
        yield name
    finally:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(quoted))
