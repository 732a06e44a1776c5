"""What workers ask of the database while nothing is due, and how many of them one job wakes.

Twenty worker processes under the stock command, ours and Procrastinate's own, with posts scheduled for later. First as
shipped: statements per second over a minute in which nothing is published, the minute's periodic work included, counted
in the server's log, where BEGIN and COMMIT are statements too. Our workers listen on sessions that carry a name, which
tells the keeper of the bell from those that stand by. Then with the poll an hour away, so that each fetch was caused by
what is done: one job for tomorrow, a hundred at ten a second, one that falls due in two seconds.

A fetch is one call of the claim function, counted in the log too. A worker that took a job asks once more, so one due
job costs two fetches and is claimed once; the claims are counted by the queue's own events. Stock wakes everybody when
a job is inserted and nobody when it falls due: it would be claimed at the next poll.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psycopg

from benchmarks import ground, ways, world

_FETCH = "procrastinate_fetch_job_v2"


class Size(NamedTuple):
    """So many workers, idle for so long, with so many posts for later."""

    workers: int
    window_s: float
    later: int


FULL, QUICK = Size(20, 60, 100_000), Size(3, 5, 500)


class Caused(NamedTuple):
    """Calls of the claim function, and jobs that were claimed."""

    fetches: int
    claimed: int


def run(*, quick: bool) -> dict[str, object]:
    """Prints what was counted and returns it."""
    size = QUICK if quick else FULL
    counted: dict[str, object] = {}
    with world.sandbox() as box:
        for way in (ways.POSTFLOW, ways.STOCK):
            idle = _idle(way, size, box)
            ground.say(f"{way.name}, idle: {_said(idle)}")
            caused = _causes(way, size, box)
            for name, one in caused.items():
                ground.say(f"{way.name}, {size.workers} workers, {name.replace('_', ' ')}: {_said(one._asdict())}")
            counted[way.name] = {
                "idle": idle,
                **{name: one._asdict() for name, one in caused.items()},
            }
    return {"bench": "idle", **size._asdict(), "counted": counted}


def _said(figures: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {figure}" for name, figure in figures.items())


# -- while nothing is due ----------------------------------------------------------------------------------


def _idle(way: ways.Way, size: Size, box: world.Box) -> dict[str, float]:
    with (
        ways.prepared(way, size.later, box) as (conn, environ),
        ground.told(environ["DATABASE_URL"]) as aside,
        world.running(way.command, size.workers, environ),
    ):
        _wait_until_all_are_here(conn, size.workers)
        keeper, since = _keeper(aside), ground.log_ends_at()
        time.sleep(size.window_s)
        sent = ground.statements(environ["DATABASE_URL"], since)
        assert _keeper(aside) == keeper, "the bell changed hands meanwhile"
    return _per_second(sent, keeper, size)


def _per_second(sent: Sequence[ground.Statement], keeper: int | None, size: Size) -> dict[str, float]:
    """What is not sent on a listening session is shared out evenly: polls, heartbeats, the minute's periodic work."""
    found = {
        "statements_per_worker": len(sent) / size.workers,
        "fetches_per_worker": sum(_FETCH in one.text for one in sent) / size.workers,
    }
    if keeper is not None:
        listening = [one.pid for one in sent if one.application.startswith("postflow bell ")]
        kept = listening.count(keeper)
        shared = (len(sent) - len(listening)) / size.workers
        found["statements_of_the_keeper"] = shared + kept
        found["statements_of_one_standing_by"] = shared + (len(listening) - kept) / (size.workers - 1)
    return {f"{name}_per_s": round(count / size.window_s, 2) for name, count in found.items()}


def _keeper(aside: psycopg.Connection) -> int | None:
    """The listening session that keeps the bell, by its lock. Stock has none."""
    row = aside.execute(
        "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)"
        " WHERE locktype = 'advisory' AND granted AND application_name LIKE 'postflow bell %'"
    ).fetchone()
    return row[0] if row else None


# -- who is woken ------------------------------------------------------------------------------------------


def _causes(way: ways.Way, size: Size, box: world.Box) -> dict[str, Caused]:
    with ways.prepared(way, size.later, box) as (conn, environ), ground.told(environ["DATABASE_URL"]):
        # Other periodic work of the minute would be counted too.
        command = (*way.command, "--fetch-job-polling-interval=3600", "--queues=posts")
        with world.running(command, size.workers, environ):
            _wait_until_all_are_here(conn, size.workers)
            return {
                "one_for_tomorrow": _caused(conn, environ, lambda: _defer(conn, "1 day")),
                "hundred_for_tomorrow": _caused(conn, environ, lambda: _defer(conn, "1 day", times=100)),
                "one_due": _caused(conn, environ, lambda: _defer(conn, "2 seconds")),
            }


def _caused(conn: psycopg.Connection, environ: dict[str, str], do: Callable[[], None]) -> Caused:
    before, since = _claims(conn), ground.log_ends_at()
    do()
    time.sleep(3)
    fetches = sum(_FETCH in one.text for one in ground.statements(environ["DATABASE_URL"], since))
    return Caused(fetches, _claims(conn) - before)


def _claims(conn: psycopg.Connection) -> int:
    [count] = conn.execute("SELECT count(*)::int FROM procrastinate_events WHERE type = 'started'").fetchone() or [0]
    return count


def _defer(conn: psycopg.Connection, later: str, times: int = 1) -> None:
    for _ in range(times):
        conn.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args, scheduled_at)"
            " VALUES ('posts', 'publish', '{\"delivery_id\": 0}', now() + %s::interval)",
            [later],
        )
        time.sleep(0.1)


def _wait_until_all_are_here(conn: psycopg.Connection, count: int) -> None:
    until = time.monotonic() + 180
    while conn.execute("SELECT count(*) FROM procrastinate_workers").fetchone() != (count,):
        assert time.monotonic() < until, "not all workers came"
        time.sleep(0.5)
    time.sleep(5)
