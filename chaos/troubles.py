"""Troubles that last for a while, drawn from the seed: machines that stand still, wires that are silent, gateways that answer
for a dead server, clocks that are set, databases that forget. Seconds from the start of the run.
"""

import random
from dataclasses import dataclass
from typing import Literal

#: A frozen worker stands still for longer than it may hold what it sends: request timeout and margin, 20 s in all.
FROZEN_S = (21.0, 30.0)
#: A suspended machine for longer than every lease (a minute while preparing, 20 s sending and looking) and every bound of a
#: session (sessions.py, 15 s idle in a transaction); in a run of less than a minute for longer than all but the first.
SUSPENDED_S, SUSPENDED_SHORT_S, SHORT_RUN_S = (62.0, 75.0), (21.0, 24.0), 60.0
#: Longer than a request is waited for (5 s), or than something of it may be on its way by our doing (15 s); on the
#: database's wire up to longer than a session may be idle in a transaction.
SILENT_S, LONG_SILENT_S, DATABASE_SILENT_S = (6.0, 9.0), (16.0, 30.0), (3.0, 17.0)
#: In which part of a run: some posts are out by then, and what it leaves behind meets the other troubles.
WHOLE = (0.2, 0.5)
#: So much of what is planned falls into the time in which the whole machine stands still.
MEANWHILE_S = 6.0
GATEWAY_S = (2.0, 6.0)
#: What a gateway says in the place of a dead server.
Gateway = Literal["404", "502", "503", "page"]
GATEWAYS: list[Gateway] = ["404", "502", "503", "page"]
DATABASE = "database"
#: The database's clock is set back by an hour, and forth again after so long; late in a long run forth, for good.
HOUR_S, WRONG_S = 3600.0, (3.0, 8.0)
#: Part of the run at which a replica takes over, and from which on the clock is an hour ahead.
FAILS_OVER, AHEAD_FROM = (0.45, 0.75), 0.9
#: How the clock of the machine that takes over goes: in a half of all failovers an hour behind, in a quarter ahead. Every
#: other time it does so before a worker reaches it, else it is set that soon after: about when the first one notices.
TAKES_OVER_AT, SOON_S = [-HOUR_S, -HOUR_S, HOUR_S, 0.0], 1.0


@dataclass(frozen=True)
class Suspension:
    """SIGSTOP, later SIGCONT. `everybody`: all workers at once, as on one machine. No kill falls on who is `spared`."""

    at_s: float
    length_s: float
    spared: bool
    everybody: bool = False


@dataclass(frozen=True)
class Silence:
    at_s: float
    length_s: float
    wires: tuple[str, ...]  # instances, or the database


@dataclass(frozen=True)
class Outage:
    """A gateway answers every request to an instance."""

    at_s: float
    length_s: float
    instance: str
    says: Gateway


@dataclass(frozen=True)
class ClockStep:
    at_s: float
    ahead_s: float  # of the right time, from then on


@dataclass(frozen=True)
class Failover:
    """What begins at `at_s` takes its time: the clock is set by when the replica has taken over."""

    at_s: float
    ahead_s: float  # of the right time is the new primary's clock; 0: it goes right
    set_after_s: float  # so much after the promotion; 0: before a worker reaches it
    right_after_s: float  # and so much after it is right again


def freezes(dice: random.Random, kills: int, first: float, last: float) -> list[Suspension]:
    return [
        Suspension(at, dice.uniform(*FROZEN_S), spared=n % 4 < 3)
        for n, at in enumerate(spread(dice, min(8, 1 + kills // 40), first, last))
    ]


def suspensions(dice: random.Random, deliveries: int, length_s: float, first: float, last: float) -> list[Suspension]:
    """The whole machine once in 1,500 deliveries, one worker much more often."""
    lengths = SUSPENDED_S if length_s > SHORT_RUN_S else SUSPENDED_SHORT_S
    whole = 1 + deliveries // 1500 if length_s > SHORT_RUN_S else 1
    alone = deliveries // 300 if length_s > SHORT_RUN_S else 0
    return [
        Suspension(at, dice.uniform(*lengths), spared=True, everybody=number < whole)
        for number, at in enumerate(
            spread(dice, whole, max(first, WHOLE[0] * last), WHOLE[1] * last) + spread(dice, alone, first, last)
        )
    ]


def silences(dice: random.Random, deliveries: int, instances: list[str], first: float, last: float) -> list[Silence]:
    """One wire, all of them, one, and the database's by turns: a third of the time is silent at most."""
    found = []
    for number, at in enumerate(spread(dice, 4 + deliveries // 250, first, last)):
        wires = [(dice.choice(instances),), tuple(instances), (dice.choice(instances),), (DATABASE,)][number % 4]
        lengths = DATABASE_SILENT_S if DATABASE in wires else LONG_SILENT_S if number % 4 == 2 else SILENT_S
        found.append(Silence(at, dice.uniform(*lengths), wires))
    return found


def outages(dice: random.Random, deliveries: int, instances: list[str], first: float, last: float) -> list[Outage]:
    return [
        Outage(at, dice.uniform(*GATEWAY_S), dice.choice(instances), GATEWAYS[number % 4])
        for number, at in enumerate(spread(dice, 2 + deliveries // 60, first, last))
    ]


def clock_steps(dice: random.Random, deliveries: int, length_s: float, first: float, last: float) -> list[ClockStep]:
    """Back and forth again once, and once more in 500 deliveries."""
    short = length_s <= SHORT_RUN_S
    found = []
    for at in spread(dice, 1 if short else 1 + deliveries // 500, first, (last if short else AHEAD_FROM * last) - 10):
        found += [ClockStep(at, -HOUR_S), ClockStep(at + dice.uniform(*WRONG_S), 0)]
    return found if short else [*found, ClockStep(AHEAD_FROM * last, HOUR_S)]


def failovers(dice: random.Random, length_s: float) -> list[Failover]:
    """None in a run of less than a minute: the copy takes its time."""
    if length_s <= SHORT_RUN_S:
        return []
    at_s, ahead_s = length_s * dice.uniform(*FAILS_OVER), dice.choice(TAKES_OVER_AT)
    set_after_s = dice.choice([0.0, dice.uniform(0, SOON_S)])
    return [Failover(at_s, ahead_s, set_after_s, set_after_s + dice.uniform(*WRONG_S))]


def spread(dice: random.Random, count: int, first: float, last: float) -> list[float]:
    """One in each of `count` equal stretches, anywhere inside it."""
    step = (last - first) / max(count, 1)
    return [first + step * (number + dice.random()) for number in range(count)]


def later(at_s: float, suspended: list[Suspension]) -> float:
    """The rest of the plan waits while the whole machine stands still, but for what falls into its last seconds."""
    for one in suspended:
        at_s += max(0.0, one.length_s - MEANWHILE_S) if at_s > one.at_s else 0
    return at_s
