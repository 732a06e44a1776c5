"""Carries a plan out, then lets what is still under way come to its end."""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import psycopg

from chaos.people import People
from chaos.plan import Plan
from chaos.stage import Stage
from postflow import byhand, db

#: At the end both clocks move forward by so much in each round, instead of waiting for what networks ask to be waited.
ROUND = timedelta(minutes=2)
LONGEST_END_S = 240.0
MOVING = "status IN ('scheduled', 'preparing', 'ready', 'sending', 'unknown')"

Say = Callable[[str], None]


@dataclass(order=True)
class Blow:
    at_s: float
    strike: Callable[[], None]


def wreak(stage: Stage, plan: Plan, people: People, workers: int, say: Say) -> None:
    """Until every blow has fallen and every post was due."""
    assert people.began_at
    with stage.connect() as conn:
        ahead_s = (people.began_at - db.now(conn)).total_seconds()
    zero = time.monotonic() + ahead_s
    stage.start(workers)
    stage.sandbox.faults.seed(plan.seed)
    for fault in plan.faults:
        stage.sandbox.faults.add(times=None, **fault)
    blows = _blows(stage, plan, people)
    told = 0.0
    while blows or time.monotonic() - zero < plan.length_s:
        stage.keep_alive()
        now_s = time.monotonic() - zero
        if blows and blows[0].at_s <= now_s:
            blows.pop(0).strike()
            continue
        if now_s - told > 30:
            told = now_s
            say(f"{now_s:4.0f} s  {stage.killed} kills  {stage.sandbox.ledger.counts()['published']} published")
        time.sleep(0.05)
    stage.sandbox.faults.clear()


def _blows(stage: Stage, plan: Plan, people: People) -> list[Blow]:
    blows = [Blow(at, lambda place=place: stage.kill_worker(place)) for place, at in enumerate(plan.kills)]
    blows += [Blow(at, lambda mode=mode: stage.restart_postgres(mode)) for at, mode in plan.restarts]
    blows += [Blow(at, stage.cut_connections) for at in plan.cuts]
    blows += [Blow(deed.at_s, lambda deed=deed: people.change_their_minds(deed)) for deed in plan.deeds]
    return sorted(blows, key=lambda blow: blow.at_s)


def let_it_end(stage: Stage, say: Say) -> int:
    """How many deliveries are still moving when patience ends: they are stuck.

    The workers run on, without kills and faults. An operator's `postflow due` runs beside them, and time is moved
    forward for what waits: unknown outcomes are looked at for ten minutes and more before they are decided.
    """
    give_up = time.monotonic() + LONGEST_END_S
    told = None
    while time.monotonic() < give_up:
        stage.keep_alive()
        with stage.connect() as conn:
            left = _moving(conn)
            if not left:
                return 0
            if left != told:
                say(f"      {left} still under way")
                told = left
            _let_time_pass(conn)
        stage.sandbox.advance(ROUND.total_seconds())
        asyncio.run(byhand.publish_due(stage.settings, lambda line: None, dry_run=False))
        time.sleep(0.5)
    with stage.connect() as conn:
        return _moving(conn)


def _moving(conn: psycopg.Connection) -> int:
    row = conn.execute(f"SELECT count(*) FROM deliveries WHERE {MOVING}".encode()).fetchone()
    return row[0] if row else 0


def _let_time_pass(conn: psycopg.Connection) -> None:
    """Every instant a waiting row compares with now lies further back.

    What is being sent is left alone: its answer may still come, and no clock of a network would have run on meanwhile.
    """
    passed = {"by": ROUND}
    with conn.transaction():
        conn.execute(
            """
            UPDATE deliveries SET wake_at = least(wake_at - %(by)s, clock_timestamp()), not_before = not_before - %(by)s,
                   sent_at = sent_at - %(by)s, first_sent_at = first_sent_at - %(by)s,
                   first_absent_at = first_absent_at - %(by)s, status_at = status_at - %(by)s
             WHERE status IN ('scheduled', 'ready', 'unknown') AND claim IS NULL
            """,
            passed,
        )
        conn.execute("UPDATE deliveries SET wake_at = wake_at - %(by)s WHERE status = 'preparing'", passed)
        conn.execute(
            "UPDATE accounts SET throttled_until = throttled_until - %(by)s WHERE throttled_until IS NOT NULL", passed
        )


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
