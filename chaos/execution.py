"""Carries a plan out: kills, freezes, restarts and cuts at their times, while networks misbehave and people meddle."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from chaos.failover import fail_over, set_right
from chaos.people import People
from chaos.plan import Plan
from chaos.stage import Stage
from postflow import db

#: A blow that found nobody to fall on is struck again after so long.
AGAIN_S = 0.3
#: On a busy machine workers start slower than they are killed, and kills that hit nobody at work prove nothing: so each
#: waits until its share of the posts is out, a third of what it would be if all went well, but no longer than the sweep
#: takes to come by.
SHARE, WAIT_FOR_SHARE_S = 1 / 3, 60.0
#: Faults go on until so many are out, or for half as long again: those that get out in peace afterwards prove less.
MOST, LONGEST = 0.8, 1.5

Say = Callable[[str], None]


@dataclass
class Blow:
    at_s: float
    strike: Callable[[], bool | None]  # False: it found nobody to fall on


def wreak(stage: Stage, plan: Plan, people: People, workers: int, say: Say) -> None:
    """Until every blow has fallen and every post was due, and while posts that are late get out."""
    assert people.began_at
    with stage.connect() as conn:
        ahead_s = (people.began_at - db.now(conn)).total_seconds()
    zero = time.monotonic() + ahead_s
    stage.begin(workers)
    stage.sandbox.faults.seed(plan.seed)
    for fault in plan.faults:
        stage.sandbox.faults.add(times=None, **fault)
    people.begin(zero)
    blows = _blows(stage, plan, people, zero)
    now_s = told = 0.0
    while blows or now_s < plan.length_s or (now_s < LONGEST * plan.length_s and not _most_are_out(stage, plan)):
        stage.keep_alive()
        now_s = time.monotonic() - zero
        if blows and blows[0].at_s <= now_s:
            blow = blows.pop(0)
            if blow.strike() is False:
                blows = _in_order([*blows, Blow(now_s + AGAIN_S, blow.strike)])
        if now_s - told > 30:
            told = now_s
            say(f"{now_s:4.0f} s  {stage.crew.killed} kills  {stage.published} published")
        time.sleep(0.05)
    people.finish()
    stage.sandbox.faults.clear()
    stage.calm_at = time.time()
    stage.sandbox.let_go()  # what waits for a next request may wait for ever; the rest comes a little earlier


def _blows(stage: Stage, plan: Plan, people: People, zero: float) -> list[Blow]:
    crew = stage.crew
    blows = [Blow(at, lambda n=n, at=at: _kill(stage, plan, n, zero + at)) for n, at in enumerate(plan.kills)]
    blows += [
        Blow(one.at_s, lambda place=place, one=one: crew.freeze(place, one.length_s, spared=one.spared))
        for place, one in enumerate(plan.freezes)
    ]
    blows += [
        Blow(one.at_s, lambda place=place, one=one: crew.suspend(place, one.length_s, everybody=one.everybody))
        for place, one in enumerate(plan.suspensions)
    ]
    blows += [Blow(at, lambda mode=mode: stage.restart_postgres(mode)) for at, mode in plan.restarts]
    blows += [Blow(at, stage.cut_connections) for at in plan.cuts]
    blows += [Blow(one.at_s, lambda one=one: stage.set_clock(one.ahead_s)) for one in plan.clock_steps]
    for failover in plan.failovers:
        blows.append(Blow(failover.at_s, lambda one=failover: fail_over(stage, people, one)))
        if failover.ahead_s:
            blows.append(Blow(failover.at_s + failover.right_after_s, lambda one=failover: set_right(stage, one)))
    for silence in plan.silences:
        blows.append(Blow(silence.at_s, lambda one=silence: stage.hold_wires(one.wires)))
        blows.append(Blow(silence.at_s + silence.length_s, lambda one=silence: stage.let_wires_go(one.wires)))
    for outage in plan.outages:
        blows.append(Blow(outage.at_s, lambda one=outage: stage.begin_outage(one)))
        blows.append(Blow(outage.at_s + outage.length_s, lambda one=outage: stage.end_outage(one)))
    return _in_order(blows)


def _kill(stage: Stage, plan: Plan, place: int, planned: float) -> bool:
    share = SHARE * plan.deliveries * place / len(plan.kills)
    is_its_turn = time.monotonic() - planned > WAIT_FOR_SHARE_S or stage.published >= share
    return is_its_turn and stage.crew.kill(place)


def _most_are_out(stage: Stage, plan: Plan) -> bool:
    return stage.published > MOST * plan.deliveries


def _in_order(blows: list[Blow]) -> list[Blow]:
    return sorted(blows, key=lambda blow: blow.at_s)


def to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201
