"""Connections: UTC, autocommit, transactions that hold together, and a sentence when there is no database."""

import datetime

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from postflow import db as database
from postflow import errors


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


def test_no_database_is_one_sentence_without_the_password(tmp_path):
    url = f"postgresql://ada:hunter2@/postflow?host={tmp_path}"
    with pytest.raises(errors.Misconfigured, match="cannot be reached") as refused:
        database.connect(url)
    assert "hunter2" not in str(refused.value)


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
