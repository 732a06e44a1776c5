"""How late the visible call is: the time a post's request arrives at the network, against its `post_date`.

Three ways to be on time, one after another in one run, each on a fresh database with as many posts scheduled for later:
PostFlow's worker as it is shipped; the same engine on Procrastinate as it ships; an APScheduler loop that publishes once
a minute, one post after another. PostFlow goes first and last, with half of the posts each time. The accounts are real
ones in the sandbox, a process of its own; two posts in three carry a picture, uploaded before unless nothing is prepared.
The network itself (a fresh connection and a request to the sandbox) is measured beside it and not subtracted.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import httpx
import psycopg

from benchmarks import ground, world
from postflow import config

WORKERS = 2
SEED = 20260917
PATIENCE_S = 90.0


class Size(NamedTuple):
    """So many posts in so many seconds, with so many for later."""

    posts: int
    window_s: float
    later: int
    lead_s: float


FULL, QUICK = Size(180, 120, 100_000, 30), Size(40, 20, 5_000, 15)


class Way(NamedTuple):
    """One way to publish: the processes to run, on the schema at a revision."""

    name: str
    command: tuple[str, ...]
    processes: int
    revision: str
    prepares: bool


POSTFLOW = Way("postflow", ("-m", "procrastinate", "--app=worker.app.app", "worker"), WORKERS, "head", True)
STOCK = Way(
    "stock procrastinate",
    ("-m", "procrastinate", "--app=benchmarks.stock_worker.app", "worker", "--concurrency=20"),
    WORKERS,
    ground.STOCK_REVISION,
    True,
)
MINUTE_LOOP = Way("minute loop", ("-m", "benchmarks.minute_loop"), 1, "head", False)


def run(*, quick: bool) -> dict[str, object]:
    """Prints a table and returns its figures, in ms."""
    size = QUICK if quick else FULL
    half = size._replace(posts=size.posts // 2, window_s=size.window_s / 2)
    with world.sandbox() as box:
        network_ms = _network_ms(box)
        ground.say(f"A fresh connection and a request to the sandbox: {network_ms:.1f} ms (median).")
        figures = {}
        first, first_pictured = _late(POSTFLOW, half, box)
        stock, _ = _late(STOCK, size, box)
        loop, _ = _late(MINUTE_LOOP, size, box)
        last, last_pictured = _late(POSTFLOW, half, box)
    for name, late in (
        ("postflow", first + last),
        ("postflow, pictures only", first_pictured + last_pictured),
        ("stock procrastinate", stock),
        ("minute loop", loop),
    ):
        figures[name] = _summary(late)
        ground.say(f"{name:<24}" + "  ".join(f"{key} {ms:>10,.1f}" for key, ms in figures[name].items()) + "  ms")
    return {"bench": "lateness", **size._asdict(), "network_ms": round(network_ms, 2), "late_ms": figures}


def _late(way: Way, size: Size, box: world.Box) -> tuple[list[float], list[float]]:
    """Of all posts, and of those with pictures."""
    with prepared(way, size.later, box) as (conn, environ):
        settings = config.load(environ)
        account_ids = [row[0] for row in conn.execute("SELECT id FROM accounts ORDER BY id").fetchall()]
        with world.running(way.command, way.processes, environ):
            marker = f"{way.name} at {time.time():.0f}"
            dates = world.dates(conn, size.posts, lead_s=size.lead_s, window_s=size.window_s, seed=SEED)
            made = world.posts(conn, settings, account_ids, dates, marker)
            _wait_until_prepared(way, conn, min(dates).timestamp())
            until = max(dates).timestamp() + PATIENCE_S
            while {post.text for post in made} - set(world.arrivals(box)):
                assert time.time() < until, f"{way.name}: not everything was published"
                time.sleep(1)
    late = world.lateness_ms(box, made)
    ground.say(f"{way.name}: {len(late)} posts, median {statistics.median(late.values()):,.1f} ms late")
    return list(late.values()), [late[post.text] for post in made if post.pictured]


@contextlib.contextmanager
def prepared(way: Way, later: int, box: world.Box) -> Iterator[tuple[psycopg.Connection, dict[str, str]]]:
    """A fresh database with people in it and so many posts for later, and the environment of its workers."""
    with ground.a_database(way.revision) as url, psycopg.connect(url, autocommit=True) as conn:
        environ = world.environment(url, box)
        world.crowd(conn, world.people(conn, config.load(environ), box), later)
        yield conn, environ


def _wait_until_prepared(way: Way, conn: psycopg.Connection, first: float) -> None:
    """Everything that can be prepared is prepared before the first is due."""
    while way.prepares:
        row = conn.execute(
            "SELECT count(*) FROM deliveries WHERE staged IS NULL AND wake_at < now() + interval '1 hour'"
        )
        [(waiting,)] = row.fetchall()
        if not waiting:
            return
        assert time.time() < first, f"{way.name}: {waiting} not prepared in time"
        time.sleep(0.5)


def _network_ms(box: world.Box, rounds: int = 50) -> float:
    """From before the connection to the arrival of a request of the same size."""
    times = []
    for number in range(rounds):
        with httpx.Client() as http:
            before = time.time()
            http.post(f"{box.urls['mastodon']}/api/v1/statuses", data={"status": f"network {number}"})
            times.append(before)
    arrived = world.arrivals(box)
    return statistics.median((arrived[f"network {n}"][0] - before) * 1000 for n, before in enumerate(times))


def _summary(late: Sequence[float]) -> dict[str, float]:
    ordered = sorted(late)
    return {
        "p50": round(statistics.median(ordered), 1),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
        "max": round(ordered[-1], 1),
    }
