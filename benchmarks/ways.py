"""The ways to be on time that are compared, and the database and environment each of them runs in."""

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

import psycopg

from benchmarks import ground, people, world
from postflow import config, logs

WORKERS = 2


class Way(NamedTuple):
    """One way to publish: so many processes of this command."""

    name: str
    command: tuple[str, ...]
    processes: int
    stock_queue: bool
    prepares: bool


POSTFLOW = Way(
    "postflow",
    ("-m", "procrastinate", "--app=worker.app.app", "worker"),
    WORKERS,
    stock_queue=False,
    prepares=True,
)
STOCK = Way(
    "stock procrastinate",
    ("-m", "procrastinate", "--app=benchmarks.stock_worker.app", "worker", "--concurrency=20"),
    WORKERS,
    stock_queue=True,
    prepares=True,
)
MINUTE_LOOP = Way("minute loop", ("-m", "benchmarks.minute_loop"), 1, stock_queue=False, prepares=False)


@contextlib.contextmanager
def prepared(way: Way, later: int, box: world.Box) -> Iterator[tuple[psycopg.Connection, dict[str, str]]]:
    """A fresh database with people in it and so many posts for later, and the environment of its processes."""
    with ground.a_database(stock_queue=way.stock_queue) as url, psycopg.connect(url, autocommit=True) as conn:
        environ = world.environment(url, box)
        os.environ.update(environ)  # this process does an operator's work, too
        settings = config.load(environ)
        logs.configure(settings.model_copy(update={"log_level": "ERROR"}))
        people.crowd(conn, people.move_in(conn, settings, box), later)
        yield conn, environ
