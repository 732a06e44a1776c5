"""What one claim costs: Procrastinate's own fetch function beside ours, whatever the future holds.

For each size of the future, with and without as many finished jobs as the largest future besides: none due, one due, a
thousand due; on tables never analysed, then vacuumed and analysed, then after thousands of jobs were claimed and
finished and nothing vacuumed since. Due jobs have the lowest priority and the highest ids, the bad case for both.

Each measured claim is one statement on an open connection, rolled back so that the next finds the same. Stock, ours,
and ours on an empty table take turns (A B C A B C), each on a database of its own. "Empty" has the same number due, no
future, no past, and is analysed. Times are in milliseconds, the round trip over a Unix socket included. A cell is the
median of its turns' medians; its spread is the lowest and the highest of them. The aim, within twice of empty, is held
against every cell but those after the claims, whose worst is told by itself.
"""

import contextlib
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import LiteralString, NamedTuple

import psycopg

from benchmarks import ground

CLAIM: LiteralString = "SELECT id FROM procrastinate_fetch_job_v2(NULL, NULL)"
TURNS = 5
DUE = (0, 1, 1000)
EMPTY = "ours, same number due, no future, no past, analysed; measured in the same turns"
NEVER, ANALYSED, CLAIMED = "never analysed", "analysed", "after claims"


class Size(NamedTuple):
    futures: tuple[int, ...]
    history: int
    claims: int
    rounds: int


FULL, QUICK = Size((0, 10_000, 1_000_000), 1_000_000, 20_000, 60), Size((0, 10_000), 10_000, 1_000, 8)


class Cell(NamedTuple):
    """One measured situation; times in ms."""

    tables: str
    history: int
    future: int
    due: int
    stock_ms: float
    stock_spread_ms: tuple[float, float]
    ours_ms: float
    ours_spread_ms: tuple[float, float]
    empty_ms: float
    ours_vs_empty: float


def run(*, quick: bool) -> dict[str, object]:
    """Prints a table and returns its figures."""
    size = QUICK if quick else FULL
    ground.say("ms a claim: median of the turns (lowest-highest turn); times: ours against the empty table.")
    with _filled(0, 0) as empty:
        cells = [
            cell
            for history in (0, size.history)
            for future in size.futures
            for cell in _measured(empty, history, future, size)
        ]
    worst = max(cell.ours_vs_empty for cell in cells if cell.tables != CLAIMED)
    worst_claimed = max(cell.ours_vs_empty for cell in cells if cell.tables == CLAIMED)
    ground.say(f"Ours, slowest against the empty table: {worst:.1f} times; after claims {worst_claimed:.1f} times.")
    ground.say(f"Stock against ours: up to {max(cell.stock_ms / cell.ours_ms for cell in cells):.0f} times.")
    return {
        "bench": "claim",
        "empty": EMPTY,
        **size._asdict(),
        "turns": TURNS,
        "cells": [cell._asdict() for cell in cells],
        "ours_worst_vs_empty": worst,
        "ours_worst_vs_empty_after_claims": worst_claimed,
    }


def _measured(empty: psycopg.Connection, history: int, future: int, size: Size) -> Iterator[Cell]:
    """In this order, so that tables are filled once: what is dead from before is vacuumed away with the analysis."""
    with _filled(history, future, stock=True) as stock, _filled(history, future) as ours:
        for tables in (NEVER, ANALYSED) if history else (NEVER, ANALYSED, CLAIMED):
            if tables == CLAIMED:
                _claim_many(stock, _CLAIM_ALL_BY_ID, size.claims)
                _claim_many(ours, _CLAIM_ALL, size.claims)
            for due in DUE:
                _make_due(empty, due, analysed=True)
                for conn in (stock, ours):
                    _make_due(conn, due, analysed=tables == ANALYSED)
                cell = _cell(tables, history, future, due, _turns((stock, ours, empty), due, size.rounds))
                ground.say(_line(cell))
                yield cell


def _cell(tables: str, history: int, future: int, due: int, turns: Sequence[Sequence[float]]) -> Cell:
    stock, ours, empty = zip(*turns, strict=True)
    ours_ms, empty_ms = statistics.median(ours), statistics.median(empty)
    return Cell(
        tables=tables,
        history=history,
        future=future,
        due=due,
        stock_ms=statistics.median(stock),
        stock_spread_ms=(min(stock), max(stock)),
        ours_ms=ours_ms,
        ours_spread_ms=(min(ours), max(ours)),
        empty_ms=empty_ms,
        ours_vs_empty=round(ours_ms / empty_ms, 2),
    )


def _line(cell: Cell) -> str:
    past = "with history" if cell.history else ""
    stock, ours = ("{:.3f}-{:.3f}".format(*spread) for spread in (cell.stock_spread_ms, cell.ours_spread_ms))
    return (
        f"{cell.tables:<15}{past:<13}{cell.future:>9,} ahead {cell.due:>5,} due"
        f"   stock {cell.stock_ms:>8.3f} ({stock})   ours {cell.ours_ms:>6.3f} ({ours})   {cell.ours_vs_empty:.1f} times"
    )


# -- measuring ---------------------------------------------------------------------------------------------


def _turns(conns: Sequence[psycopg.Connection], due: int, rounds: int) -> list[list[float]]:
    """Per turn the median ms of each. The slow have fewer rounds: they take about as long."""
    counts = [rounds if _median_ms(conn, due, 5) < 5 else rounds // 4 for conn in conns]
    return [[_median_ms(conn, due, count) for conn, count in zip(conns, counts, strict=True)] for _ in range(TURNS)]


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


# -- filling -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _filled(history: int, future: int, *, stock: bool = False) -> Iterator[psycopg.Connection]:
    with ground.a_database(stock_queue=stock) as url, psycopg.connect(url, autocommit=True) as conn:
        conn.execute("ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false)")
        with _without_triggers(conn):
            conn.execute(_PAST, [history])
            conn.execute(_FUTURE, [future])
        conn.execute("CHECKPOINT")  # what was filled in is written now, and not while we measure
        yield conn


def _make_due(conn: psycopg.Connection, due: int, *, analysed: bool) -> None:
    conn.execute("DELETE FROM procrastinate_jobs WHERE scheduled_at <= now() AND status = 'todo'")
    with _without_triggers(conn):
        conn.execute(_DUE, [due])
    if analysed:
        conn.execute("VACUUM ANALYZE procrastinate_jobs")


def _claim_many(conn: psycopg.Connection, claim_all: LiteralString, count: int) -> None:
    """So many jobs claimed and finished, each in transactions of its own, and nothing vacuumed since."""
    _make_due(conn, count, analysed=True)
    conn.execute("SET synchronous_commit = off")  # for the time it takes; the rows come out the same
    conn.execute(claim_all)
    conn.execute("RESET synchronous_commit")
    row = conn.execute("SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'").fetchone()
    assert row == (count,), "not all were claimed"
    conn.execute("CHECKPOINT")


@contextlib.contextmanager
def _without_triggers(conn: psycopg.Connection) -> Iterator[None]:
    """They are not what is measured."""
    conn.execute("SET session_replication_role = replica")
    yield
    conn.execute("SET session_replication_role = origin")


_PAST: LiteralString = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, status, scheduled_at, attempts)
    SELECT 'posts', 'publish', n %% 2 * 10, 'succeeded', now() - n * interval '1 second', 1
      FROM generate_series(1, %s) AS n
"""
#: Half of it publishes, half prepares.
_FUTURE: LiteralString = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, scheduled_at)
    SELECT 'posts', 'publish', n %% 2 * 10, now() + interval '1 day' + random() * interval '1 year'
      FROM generate_series(1, %s) AS n
"""
_DUE: LiteralString = """
    INSERT INTO procrastinate_jobs (queue_name, task_name, priority, scheduled_at)
    SELECT 'posts', 'prepare', 0, now() - n * interval '1 millisecond' FROM generate_series(1, %s) AS n
"""
_CLAIM_ALL: LiteralString = """
    DO $$
    DECLARE
        job procrastinate_jobs;
    BEGIN
        LOOP
            job := procrastinate_fetch_job_v2(NULL, NULL);
            EXIT WHEN job.id IS NULL;
            COMMIT;
            PERFORM procrastinate_finish_job_v1(job.id, 'succeeded', false);
            COMMIT;
        END LOOP;
    END $$
"""
#: What the stock function leaves behind without what it costs: with a million ahead, it would take an hour.
_CLAIM_ALL_BY_ID: LiteralString = """
    DO $$
    DECLARE
        due_id bigint;
        due bigint[] := array(
            SELECT id FROM procrastinate_jobs WHERE status = 'todo' AND scheduled_at <= now() ORDER BY id);
    BEGIN
        FOREACH due_id IN ARRAY due LOOP
            UPDATE procrastinate_jobs SET status = 'doing' WHERE id = due_id;
            COMMIT;
            PERFORM procrastinate_finish_job_v1(due_id, 'succeeded', false);
            COMMIT;
        END LOOP;
    END $$
"""
