"""Clocks that are set in one step: the database's own, as every statement reads it.

`now()` and its like are found in the schema `public` before those of the server, and tell its time plus an offset, which is
a setting: so every session has the new time as soon as it has read the settings again, and nothing but the time has changed.
"""

import time
from typing import LiteralString, NamedTuple

import psycopg
from psycopg import sql

from postflow.dev import embedded_postgres

_SETTING = "chaos.ahead_s"
_CLOCKS: dict[LiteralString, LiteralString] = {
    "now": "STABLE",
    "transaction_timestamp": "STABLE",
    "statement_timestamp": "STABLE",
    "clock_timestamp": "VOLATILE",
}


class Step(NamedTuple):
    """From then on (epoch seconds) the database's clock is so much ahead; behind where it is less than 0."""

    at: float
    ahead_s: float


def install(postgres: embedded_postgres.EmbeddedPostgres) -> None:
    """Before anything else is made there, so that all defaults mean this clock."""
    step(postgres, 0)
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        for name, volatility in _CLOCKS.items():
            conn.execute(
                sql.SQL(
                    "CREATE FUNCTION public.{name}() RETURNS timestamptz LANGUAGE sql PARALLEL SAFE {volatility} AS"
                    " $$ SELECT pg_catalog.{name}() + pg_catalog.make_interval(secs =>"
                    " pg_catalog.current_setting('chaos.ahead_s')::float8) $$"
                ).format(name=sql.Identifier(name), volatility=sql.SQL(volatility))
            )
        conn.execute(_activity(conn))
        conn.execute("ALTER DATABASE postflow SET search_path = public, pg_catalog")


def _activity(conn: psycopg.Connection) -> sql.Composed:
    """What the server tells of its sessions is told by the same clock."""
    columns = [
        sql.SQL("{0} + make_interval(secs => current_setting('chaos.ahead_s')::float8) AS {0}").format(
            sql.Identifier(name)
        )
        if kind == "timestamp with time zone"
        else sql.Identifier(name)
        for name, kind in conn.execute(
            "SELECT attname, atttypid::regtype::text FROM pg_attribute"
            " WHERE attrelid = 'pg_catalog.pg_stat_activity'::regclass AND attnum > 0 ORDER BY attnum"
        )
    ]
    return sql.SQL("CREATE VIEW public.pg_stat_activity AS SELECT {} FROM pg_catalog.pg_stat_activity").format(
        sql.SQL(", ").join(columns)
    )


def step(postgres: embedded_postgres.EmbeddedPostgres, ahead_s: float) -> Step:
    """The last line of its kind in the server's settings counts."""
    with (postgres.data / "postgresql.conf").open("a") as settings:
        settings.write(f"{_SETTING} = '{ahead_s:g}'\n")
    with psycopg.connect(postgres.url(), autocommit=True) as conn:
        conn.execute("SELECT pg_reload_conf()")
        while conn.execute("SELECT current_setting(%s, true)", [_SETTING]).fetchone() != (f"{ahead_s:g}",):
            time.sleep(0.01)
    return Step(time.time(), ahead_s)
