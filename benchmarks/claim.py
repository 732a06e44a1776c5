"""What one claim costs: Procrastinate's own fetch function beside ours, whatever the future holds.

For each size of the future, and for tables freshly analysed, never analysed, and analysed with as many finished jobs
besides: none due, one due, a thousand due. Due jobs have the lowest priority and the highest ids, the bad case for both.
Each claim is one statement on an open connection, rolled back so that the next finds the same; stock and ours in turns
(A B A B), each on a database of its own that holds the same. Times are in milliseconds, the round trip over a Unix
socket included: the median of a turn, of the calmest of the turns, so that a busy neighbour does not decide.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import LiteralString, NamedTuple

import psycopg

from benchmarks import ground

CLAIM: LiteralString = "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"
TURNS = 5
DUE = (0, 1, 1000)


class Cell(NamedTuple):
    """One measured situation; times in ms."""

    tables: str
    future: int
    due: int
    stock_ms: float
    ours_ms: float


def run(*, quick: bool) -> dict[str, object]:
    """Prints a table and returns its figures."""
    sizes = (0, 10_000) if quick else (0, 10_000, 1_000_000)
    history = 10_000 if quick else 1_000_000
    cells = [
        cell
        for tables in ("analysed", "never analysed", "with history")
        for future in sizes
        for cell in _measured(tables, future, history, rounds=20 if quick else 60)
    ]
    worst = max(cell.ours_ms / _empty(cells, cell.due) for cell in cells)
    worst_stock = max(cell.stock_ms / cell.ours_ms for cell in cells)
    ground.say(
        f"Ours, slowest against the empty table: {worst:.1f} times. Stock against ours: up to {worst_stock:.0f} times."
    )
    return {
        "bench": "claim",
        "history": history,
        "cells": [cell._asdict() for cell in cells],
        "ours_worst_vs_empty": round(worst, 2),
    }


def _empty(cells: list[Cell], due: int) -> float:
    """What the same claim costs where there is no future and no past."""
    return next(cell.ours_ms for cell in cells if (cell.tables, cell.future, cell.due) == ("analysed", 0, due))


def _measured(tables: str, future: int, history: int, rounds: int) -> Iterator[Cell]:
    with (
        _filled(ground.STOCK_REVISION, tables, future, history) as stock,
        _filled("head", tables, future, history) as ours,
    ):
        for due in DUE:
            for conn in (stock, ours):
                _make_due(conn, due)
                if tables != "never analysed":
                    conn.execute("VACUUM ANALYZE procrastinate_jobs")
            turns = [
                (_median_ms(stock, due, rounds // 4 if future > 10_000 else rounds), _median_ms(ours, due, rounds))
                for _ in range(TURNS)
            ]
            cell = Cell(tables, future, due, min(turn[0] for turn in turns), min(turn[1] for turn in turns))
            ground.say(
                f"{tables:<15} {future:>9,} ahead {due:>5,} due"
                f"   stock {cell.stock_ms:>8.3f} ms   ours {cell.ours_ms:>6.3f} ms"
            )
            yield cell


@contextlib.contextmanager
def _filled(revision: str, tables: str, future: int, history: int) -> Iterator[psycopg.Connection]:
    with ground.a_database(revision) as url, psycopg.connect(url, autocommit=True) as conn:
        _fill(conn, tables, future, history)
        yield conn


def _fill(conn: psycopg.Connection, tables: str, future: int, history: int) -> None:
    """Half of the future publishes, half prepares. No triggers: they are not what is measured."""
    conn.execute("ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false)")
    conn.execute("SET session_replication_role = replica")
    if tables == "with history":
        conn.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, status, scheduled_at, attempts)"
            " SELECT 'posts', 'publish', n %% 2 * 10, 'succeeded', now() - n * interval '1 second', 1"
            " FROM generate_series(1, %s) AS n",
            [history],
        )
    conn.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, scheduled_at)"
        " SELECT 'posts', 'publish', n %% 2 * 10, now() + interval '1 day' + random() * interval '1 year'"
        " FROM generate_series(1, %s) AS n",
        [future],
    )
    conn.execute("SET session_replication_role = origin")


def _make_due(conn: psycopg.Connection, due: int) -> None:
    conn.execute("DELETE FROM procrastinate_jobs WHERE scheduled_at <= now() AND status = 'todo'")
    conn.execute("SET session_replication_role = replica")
    conn.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, scheduled_at)"
        " SELECT 'posts', 'prepare', 0, now() - n * interval '1 millisecond' FROM generate_series(1, %s) AS n",
        [due],
    )
    conn.execute("SET session_replication_role = origin")


def _median_ms(conn: psycopg.Connection, due: int, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        with conn.transaction(force_rollback=True):
            before = time.perf_counter()
            row = conn.execute(CLAIM, prepare=True).fetchone()
            times.append((time.perf_counter() - before) * 1000)
        assert row is not None
        assert (row[0] is not None) == (due > 0), "a claim found what is not there, or nothing where something is"
    return round(statistics.median(times), 3)
