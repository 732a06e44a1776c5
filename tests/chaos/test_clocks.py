"""The database's clock in a chaos run: every session tells another time from one statement to the next."""

import time
from collections.abc import Iterator
from datetime import timedelta

import psycopg
import pytest

from chaos import clocks
from postflow import db
from postflow.dev import embedded_postgres
from postflow.operations import migrate


@pytest.fixture(scope="module")
def server() -> Iterator[embedded_postgres.EmbeddedPostgres]:
    with embedded_postgres.ephemeral() as postgres:
        clocks.install(postgres)
        migrate.upgrade(postgres.url())
        yield postgres


def until_it_is_read(conn: psycopg.Connection, ahead_s: int) -> None:
    """Each session reads the settings again when the server tells it to: on a busy machine one later than another."""
    for _ in range(500):
        if conn.execute("SELECT current_setting('chaos.ahead_s')").fetchone() == (f"{ahead_s}",):
            return
        time.sleep(0.01)
    raise AssertionError("the session keeps the old time")


def test_a_session_that_is_open_tells_the_new_time(server: embedded_postgres.EmbeddedPostgres) -> None:
    with psycopg.connect(server.url(), autocommit=True) as conn:
        for ahead_s in (-3600, 3600, 0):
            assert clocks.step(server, ahead_s).ahead_s == ahead_s
            until_it_is_read(conn, ahead_s)
            told = conn.execute(
                "SELECT now() - pg_catalog.now(), clock_timestamp() - pg_catalog.clock_timestamp()"
            ).fetchone()
            assert told
            assert [round(one.total_seconds()) for one in told] == [ahead_s, ahead_s]
            assert abs(db.now(conn) - db.now(conn)) < timedelta(minutes=1)


def test_defaults_of_the_tables_and_the_sessions_that_the_server_tells_of_go_by_the_same_clock(
    server: embedded_postgres.EmbeddedPostgres,
) -> None:
    with psycopg.connect(server.url(), autocommit=True) as conn:
        clocks.step(server, 3600)
        until_it_is_read(conn, 3600)
        made = conn.execute(
            "INSERT INTO users (email, password_hash) VALUES ('a@b.example', 'x') RETURNING created_at - now()"
        ).fetchone()
        assert made and abs(made[0]) < timedelta(minutes=1)
        mine = conn.execute(
            "SELECT now() - backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        assert mine and abs(mine[0]) < timedelta(minutes=1)
