"""Connections: UTC, autocommit, transactions that hold together, and a sentence when there is no database."""

import asyncio
import datetime
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from postflow import db as database
from postflow import errors
from postflow.dev import embedded_postgres
from tests.pooler import transaction_pooler


def test_a_pooled_connection_commits_each_statement_and_runs_in_utc(database_url: str):
    with database.pool(database_url) as pool:
        with pool.connection() as conn:
            conn.execute("CREATE TABLE note (word text)")
            conn.execute("INSERT INTO note VALUES ('kept')")
            assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            assert conn.execute("SELECT now()").fetchone()[0].tzinfo.utcoffset(None) == datetime.timedelta(0)  # type: ignore[index]
        assert words(database_url) == ["kept"]


def test_a_transaction_keeps_all_or_nothing(database_url: str, db: psycopg.Connection):
    db.execute("CREATE TABLE note (word text)")
    with database.pool(database_url) as pool:
        with pytest.raises(ZeroDivisionError):
            write_and_fail(pool)
        with database.transaction(pool) as conn:
            conn.execute("INSERT INTO note VALUES ('kept')")
    assert words(database_url) == ["kept"]


async def test_the_async_pool_does_the_same(database_url: str, db: psycopg.Connection):
    db.execute("CREATE TABLE note (word text)")
    async with database.async_pool(database_url) as pool:
        with pytest.raises(ZeroDivisionError):
            await write_and_fail_async(pool)
        async with database.async_transaction(pool) as conn:
            await conn.execute("INSERT INTO note VALUES ('kept')")
            row = await (await conn.execute("SHOW timezone")).fetchone()
            assert row == ("UTC",)
    assert words(database_url) == ["kept"]


def test_a_pool_lends_a_living_connection_after_the_server_cut_the_old_one(database_url: str, db: psycopg.Connection):
    with database.pool(database_url, max_size=1) as pool:
        with pool.connection() as conn:
            pid = conn.info.backend_pid
        db.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        with pool.connection() as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_whoever_vanishes_without_a_word_is_noticed_within_seconds(database_url: str):
    with database.connect(database_url) as conn:
        wanted = conn.info.get_parameters()
    assert wanted["connect_timeout"] == "5"
    assert (wanted["keepalives_idle"], wanted["keepalives_interval"], wanted["keepalives_count"]) == ("10", "5", "3")
    assert wanted["tcp_user_timeout"] == "15000"


async def test_every_kind_of_connection_asks_for_it_and_what_the_address_says_wins(database_url: str):
    url = make_conninfo(database_url, keepalives_idle=77, connect_timeout=9)
    found = []
    with database.pool(url) as pool, pool.connection() as conn:
        found.append(conn.info.get_parameters())
    async with database.async_pool(url) as apool, apool.connection() as aconn:
        found.append(aconn.info.get_parameters())
    async with database.queue_pool(conninfo=url) as qpool, qpool.connection() as aconn:
        found.append(aconn.info.get_parameters())
    async with database.listening(url, "a name of its own") as aconn:
        found.append(aconn.info.get_parameters())
        assert found[-1]["application_name"] == "a name of its own"
    for one in found:
        told = [one[name] for name in ("connect_timeout", "keepalives_idle", "keepalives_count", "tcp_user_timeout")]
        assert told == ["9", "77", "3", "15000"]


def test_nobody_else_in_the_program_opens_a_connection():
    """`published` watches over `postflow dev`'s own database, `embedded` makes it."""
    allowed = {"postflow/db.py", "postflow/dev/published_lines.py", "postflow/dev/embedded_postgres/__init__.py"}
    opens = re.compile(r"\b(psycopg|AsyncConnection|Connection)\.connect\(|(?<!httpcore\.)\b(Async)?ConnectionPool\(")
    checkout = Path(__file__).parents[2]
    paths = [
        path for folder in ("postflow", "web", "worker", "migrations") for path in (checkout / folder).rglob("*.py")
    ]
    assert {str(path.relative_to(checkout)) for path in paths if opens.search(path.read_text())} == allowed


@pytest.fixture
def server() -> Iterator[embedded_postgres.EmbeddedPostgres]:
    """One of our own: the others' must not be stopped."""
    with embedded_postgres.ephemeral() as running:
        yield running


async def test_whoever_waits_for_a_connection_gets_it_when_the_database_is_back(
    server: embedded_postgres.EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
):
    """The pools' own tries would have given up by then, or pause for minutes."""
    monkeypatch.setitem(database._POOL, "reconnect_timeout", 0.5)

    def ask(pool: ConnectionPool) -> object:
        with pool.connection(timeout=60) as conn:
            return conn.execute("SELECT 1").fetchone()

    async def ask_async(pool: AsyncConnectionPool) -> object:
        async with pool.connection(timeout=60) as conn:
            return await (await conn.execute("SELECT 1")).fetchone()

    with database.pool(server.url()) as pool:
        async with database.async_pool(server.url()) as apool, database.queue_pool(conninfo=server.url()) as qpool:
            assert (ask(pool), await ask_async(apool), await ask_async(qpool)) == ((1,), (1,), (1,))
            server._end_process("immediate")  # `stop` would let go of its directory, which others then tidy away
            waiting = [asyncio.to_thread(ask, pool), ask_async(apool), ask_async(qpool)]
            tasks = [asyncio.ensure_future(one) for one in waiting]
            await asyncio.sleep(3)
            assert not any(task.done() for task in tasks)
            server._launch()
            assert await asyncio.gather(*tasks) == [(1,), (1,), (1,)]


def test_a_session_that_a_pooler_lends_to_others_is_told_from_one_of_our_own(database_url: str):
    assert database.keeps_sessions(database_url)
    with transaction_pooler(database_url) as pooled:
        assert not database.keeps_sessions(pooled)
        with database.connect(pooled) as conn:  # it is a database for all that
            assert conn.execute("SELECT 1").fetchone() == (1,)


def test_no_database_is_one_sentence_without_the_password(tmp_path):
    url = f"postgresql://ada:hunter2@/postflow?host={tmp_path}"
    with pytest.raises(database.Unreachable, match="cannot be reached") as refused:
        database.connect(url)
    assert isinstance(refused.value, errors.Misconfigured)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("url", ["postgres://ada:hunter%zz2@localhost/x", "postgres://ada:hunter2@localhost/x?pool=7"])
def test_an_address_that_cannot_be_understood_is_one_sentence_without_the_password(url: str):
    for opened in (database.connect, database.pool, database.async_pool, lambda url: database.queue_pool(conninfo=url)):
        with pytest.raises(errors.Misconfigured, match="DATABASE_URL: must look like postgresql://") as refused:
            opened(url)
        assert "hunter" not in str(refused.value)


def test_postgres_urls_as_heroku_writes_them_work(database_url: str):
    with database.connect(database_url.replace("postgresql://", "postgres://")) as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def write_and_fail(pool: ConnectionPool) -> None:
    with database.transaction(pool) as conn:
        conn.execute("INSERT INTO note VALUES ('lost')")
        raise ZeroDivisionError


async def write_and_fail_async(pool: AsyncConnectionPool) -> None:
    async with database.async_transaction(pool) as conn:
        await conn.execute("INSERT INTO note VALUES ('lost')")
        raise ZeroDivisionError


def words(url: str) -> list[str]:
    with psycopg.connect(url) as conn:
        return [word for (word,) in conn.execute("SELECT word FROM note")]
