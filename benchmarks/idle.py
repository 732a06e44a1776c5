"""What workers ask of the database while nothing is due, and how many of them one job wakes.

Worker processes under the stock command, ours and Procrastinate's own, with posts scheduled for later. First as shipped:
transactions per second and worker over half a minute in which nothing happens. Then with the poll an hour away, so that
each claim was caused by what is done: one job for tomorrow, a hundred at ten a second, one that falls due.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import psycopg

from benchmarks import ground, lateness, world

#: PostgreSQL adds up what an idle session did at most so much later.
COUNTED_S = 12.0


class Size(NamedTuple):
    """So many workers while idle and while woken, for so long, with so many posts for later."""

    idle: int
    woken: int
    window_s: float
    later: int


FULL, QUICK = Size(5, 20, 30, 100_000), Size(2, 4, 10, 5_000)


def run(*, quick: bool) -> dict[str, object]:
    """Prints what was counted and returns it."""
    size = QUICK if quick else FULL
    figures: dict[str, object] = {}
    with world.sandbox() as box:
        for way in (lateness.POSTFLOW, lateness.STOCK):
            idle = _idle(way, size, box)
            claims = _claims(way, size, box)
            figures[way.name] = {"idle_transactions_per_s_and_worker": idle, **claims}
            said = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in claims.items())
            ground.say(f"{way.name}: idle {idle} transactions/s per worker; claims by {size.woken} workers: {said}")
    return {"bench": "idle", **size._asdict(), "counted": figures}


def _idle(way: lateness.Way, size: Size, box: world.Box) -> float:
    with lateness.prepared(way, size.later, box) as (conn, environ), world.running(way.command, size.idle, environ):
        _all_here(conn, size.idle)
        time.sleep(COUNTED_S)
        before = _transactions(conn)
        time.sleep(size.window_s)
        return round((_transactions(conn) - before) / size.window_s / size.idle, 2)


def _claims(way: lateness.Way, size: Size, box: world.Box) -> dict[str, int]:
    with lateness.prepared(way, size.later, box) as (conn, environ):
        conn.execute(f"ALTER DATABASE {conn.info.dbname} SET track_functions = 'pl'".encode())
        # Other periodic work of the minute would be counted too.
        command = (*way.command, "--fetch-job-polling-interval=3600", "--queues=posts")
        with world.running(command, size.woken, environ):
            _all_here(conn, size.woken)
            return {
                "one_for_tomorrow": _caused(conn, lambda: _defer(conn, "1 day")),
                "hundred_for_tomorrow": _caused(conn, lambda: _defer(conn, "1 day", times=100)),
                "one_due": _caused(conn, lambda: _defer(conn, "2 seconds")),
            }


def _caused(conn: psycopg.Connection, do: Callable[[], None]) -> int:
    before = _calls(conn)
    do()
    time.sleep(3)
    return _calls(conn) - before


def _all_here(conn: psycopg.Connection, count: int) -> None:
    until = time.monotonic() + 180
    while conn.execute("SELECT count(*) FROM procrastinate_workers").fetchone() != (count,):
        assert time.monotonic() < until, "not all workers came"
        time.sleep(0.5)
    time.sleep(5)


def _defer(conn: psycopg.Connection, later: str, times: int = 1) -> None:
    for _ in range(times):
        conn.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args, scheduled_at)"
            " VALUES ('posts', 'publish', '{\"delivery_id\": 0}', now() + %s::interval)",
            [later],
        )
        time.sleep(0.1)


def _transactions(conn: psycopg.Connection) -> int:
    """Of everybody in this database; our own few questions are among them."""
    row = conn.execute(
        "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    ).fetchone()
    return row[0] if row else 0


def _calls(conn: psycopg.Connection) -> int:
    """Calls of the claim, once PostgreSQL knows of all of them."""
    time.sleep(COUNTED_S)
    row = conn.execute(
        "SELECT coalesce(sum(calls), 0) FROM pg_stat_user_functions WHERE funcname = 'procrastinate_fetch_job_v2'"
    ).fetchone()
    return int(row[0]) if row else 0
