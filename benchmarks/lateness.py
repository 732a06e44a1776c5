"""How late the visible call is: the time a post's request arrives at the network, against its `post_date`.

Three ways to be on time, one after another in one run, each on a fresh database with as many posts scheduled for later:
PostFlow's worker as it is shipped; the same engine on Procrastinate as it ships; an APScheduler loop that publishes once
a minute, one post after another. PostFlow goes first and last, with half of the posts each time. The accounts are real
ones on all three networks of the sandbox, which is a process of its own. Three posts in four carry a picture, uploaded
or put into a container before its date, unless nothing is prepared; Instagram's are fetched from our web app.

While posts are due, only the database is asked whether all are out, once a second; the sandbox's ledger is read at the
end. Stock profits from two things that it has not by itself: posts are prepared early, and their jobs are scheduled a
head start (0.3 s) before the date. The network itself (a fresh connection and a request to the sandbox) is measured
beside it and not subtracted. The p99 of 180 posts is the second largest of them, of fewer than 100 it is the largest.
"""

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import httpx
import psycopg

from benchmarks import ground, people, ways, world

SEED = 20260917
#: After the last date; a minute loop that is late may have to keep the pace of late posts.
PATIENCE_S = 300.0
_ENDED_BADLY = {"failed", "missed", "attention", "cancelled"}


class Size(NamedTuple):
    """So many posts in so many seconds, with so many for later."""

    posts: int
    window_s: float
    later: int
    lead_s: float


FULL, QUICK = Size(180, 120, 100_000, 60), Size(16, 4, 500, 30)


def run(*, quick: bool) -> dict[str, object]:
    """Prints a table and returns its figures, in ms."""
    size = QUICK if quick else FULL
    half = size if quick else size._replace(posts=size.posts // 2, window_s=size.window_s / 2)
    with world.sandbox() as box:
        network_ms = _network_ms(box)
        ground.say(f"A fresh connection and a request to the sandbox: {network_ms:.1f} ms (median).")
        first = _late(ways.POSTFLOW, half, box, SEED)
        stock = _late(ways.STOCK, size, box, SEED)
        loop = _late(ways.MINUTE_LOOP, size, box, SEED)
        last = [] if quick else _late(ways.POSTFLOW, half, box, SEED + 1)
    figures = {name: _summary(late) for name, late in _rows(first + last, stock, loop)}
    for name, figure in figures.items():
        said = "  ".join(f"{key} {value:>10,.1f}" for key, value in figure.items() if key != "posts")
        ground.say(f"{name:<24}{figure['posts']:>4} posts   {said}  ms")
    return {"bench": "lateness", **size._asdict(), "seed": SEED, "network_ms": round(network_ms, 2), "late_ms": figures}


def _rows(
    ours: Sequence[people.Late], stock: Sequence[people.Late], loop: Sequence[people.Late]
) -> Iterator[tuple[str, Sequence[people.Late]]]:
    yield "postflow", ours
    yield "postflow, pictures only", [one for one in ours if one.post.pictured]
    for network, _ in people.ACCOUNTS:
        yield f"postflow, {network}", [one for one in ours if one.post.network == network]
    yield "stock procrastinate", stock
    yield "minute loop", loop


def _late(way: ways.Way, size: Size, box: world.Box, seed: int) -> list[people.Late]:
    with ways.prepared(way, size.later, box) as (conn, environ), world.pages(environ):
        with world.running(way.command, way.processes, environ):
            marker = f"{way.name} at {time.time():.0f}"
            dates = people.dates(conn, size.posts, lead_s=size.lead_s, window_s=size.window_s, seed=seed)
            made = people.write(conn, dates, marker)
            if way.prepares:
                _wait_until_prepared(way, conn, made)
            _wait_until_published(way, conn, made)
        late = people.lateness(conn, box, made)
    ground.say(f"{way.name}: {len(late)} posts, median {statistics.median(one.ms for one in late):,.1f} ms late")
    return late


def _wait_until_prepared(way: ways.Way, conn: psycopg.Connection, made: Sequence[people.Post]) -> None:
    """Everything is prepared before the first is due."""
    first = min(post.at for post in made).timestamp()
    while (states := people.states(conn, made)) != {"ready": len(made)}:
        assert time.time() < first, f"{way.name}: not prepared in time: {states}"
        time.sleep(0.5)


def _wait_until_published(way: ways.Way, conn: psycopg.Connection, made: Sequence[people.Post]) -> None:
    until = max(post.at for post in made).timestamp() + PATIENCE_S
    while (states := people.states(conn, made)) != {"published": len(made)}:
        assert not _ENDED_BADLY & set(states), f"{way.name}: not everything goes out: {states}"
        assert time.time() < until, f"{way.name}: not everything was published: {states}"
        time.sleep(1)


def _network_ms(box: world.Box, rounds: int = 50) -> float:
    """From before the connection to the arrival of a request of the same size."""
    times = []
    for number in range(rounds):
        with httpx.Client() as http:
            before = time.time()
            http.post(f"{box.urls['mastodon']}/api/v1/statuses", data={"status": f"network {number}"})
            times.append(before)
    arrived = people.arrivals(box, "/api/v1/statuses", "status")
    return statistics.median((arrived[f"network {n}"][0] - before) * 1000 for n, before in enumerate(times))


def _summary(late: Sequence[people.Late]) -> dict[str, float]:
    """The p99 is the smallest that 99 in a hundred do not exceed."""
    ordered = sorted(one.ms for one in late)
    return {
        "posts": len(ordered),
        "p50": round(statistics.median(ordered), 1),
        "p99": round(ordered[math.ceil(len(ordered) * 0.99) - 1], 1),
        "max": round(ordered[-1], 1),
    }
