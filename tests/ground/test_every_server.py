"""Migrations on each PostgreSQL that is promised: from nothing, and from what the last release left, to the same tables."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psycopg
import pytest

from postflow import db as database
from postflow.dev import embedded_postgres
from postflow.operations import migrate
from tests import catalog, servers
from tests.conftest import a_database

RELEASES = Path(__file__).parent / "releases"
RELEASED = "0007"

ADatabase = Callable[[], AbstractContextManager[psycopg.Connection]]


@pytest.fixture(scope="module", params=servers.TESTED, ids="postgres{}".format)
def server(request: pytest.FixtureRequest) -> Iterator[embedded_postgres.EmbeddedPostgres]:
    found = servers.of_major(request.param)
    if found is None:
        pytest.skip(servers.why_not(request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("POSTFLOW_PG_BINDIR", str(found.bindir))
        with embedded_postgres.ephemeral() as running:
            yield running


@pytest.fixture
def empty(server: embedded_postgres.EmbeddedPostgres) -> Iterator[Callable[[], str]]:
    """Each call makes another empty database and tells its URL."""
    numbers = itertools.count()
    with psycopg.connect(server.url("postgres"), autocommit=True) as admin:
        made = []

        def make() -> str:
            made.append(a_database(admin, f"empty_{next(numbers)}"))
            return server.url(made[-1].__enter__())

        yield make
        for one in made:
            one.__exit__(None, None, None)


def test_it_is_the_server_that_was_asked_for(
    server: embedded_postgres.EmbeddedPostgres, request: pytest.FixtureRequest
):
    with psycopg.connect(server.url()) as conn:
        assert conn.info.server_version // 10_000 == request.node.callspec.params["server"]


def test_nothing_becomes_what_the_last_release_becomes_and_every_row_stays(empty: Callable[[], str]):
    fresh, upgraded = empty(), empty()
    migrate.upgrade(fresh)
    release(upgraded)
    with psycopg.connect(upgraded, autocommit=True) as conn, psycopg.connect(fresh, autocommit=True) as other:
        before = catalog.row_counts(conn)
        assert all(count for count in before.values()), "the release's house has a row of each kind"
        migrate.upgrade(upgraded)
        assert catalog.of(conn) == catalog.of(other)
        assert catalog.row_counts(conn) | before == catalog.row_counts(conn)
        database.check_schema(conn)


def test_the_revisions_of_the_last_release_still_make_its_tables(empty: Callable[[], str]):
    """Whoever edits one that is out makes two kinds of databases with one number."""
    ours, theirs = empty(), empty()
    migrate.upgrade(ours, RELEASED)
    release(theirs)
    with psycopg.connect(ours) as conn, psycopg.connect(theirs) as other:
        assert catalog.of(conn) == catalog.of(other)


def test_what_stopped_after_any_of_procrastinates_files_is_finished_by_the_next_run(empty: Callable[[], str]):
    """Before 17 the former release rolled all of them back; and a run may be killed after each."""
    fresh, stopped = empty(), empty()
    migrate.upgrade(fresh)
    with psycopg.connect(stopped, autocommit=True) as conn, psycopg.connect(fresh, autocommit=True) as other:
        for obstacle in ("procrastinate_periodic_defers", "procrastinate_workers"):
            conn.execute(f"CREATE TABLE {obstacle} ()".encode())
            with pytest.raises(psycopg.errors.DuplicateTable):
                migrate.upgrade(stopped)
            conn.execute(f"DROP TABLE {obstacle}".encode())
        migrate.upgrade(stopped)
        assert catalog.of(conn) == catalog.of(other)


def release(url: str) -> None:
    """A database as the last release left it, with rows."""
    with psycopg.connect(url) as conn:
        conn.execute("SET check_function_bodies = off")
        for part in ("schema", "rows"):
            conn.execute((RELEASES / f"{RELEASED}_{part}.sql").read_bytes())
        conn.execute("INSERT INTO alembic_version VALUES (%s)", [RELEASED])
