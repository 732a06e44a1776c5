"""All that the verdict is drawn from: the plan, what people were told, the rows, and what the networks remember."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from typing import NamedTuple

from psycopg.rows import class_row

from chaos.clocks import Step
from chaos.drain import Left
from chaos.people import People, Wish
from chaos.plan import Plan
from chaos.rows import Row, rows_of
from chaos.stage import Stage, Unheard
from sandbox.core.ledger import RequestEntry, StatusEntry

#: Sessions have the new time when they have read the settings again, a little before or after it is noted.
SET_WITHIN_S = 10.0


class Blows(NamedTuple):
    """What the stories tell: how many deliveries were hit by a death while they were sent, or prepared, and how many the
    database may have forgotten.
    """

    sending: int = 0
    preparing: int = 0
    forgotten: int = 0


@dataclass
class Evidence:
    plan: Plan
    rows: list[Row]
    statuses: list[StatusEntry]
    requests: list[RequestEntry]
    began_at: datetime  # the plan's second zero, as old as everything else is by now
    aged: timedelta = timedelta()
    asked: list[Row] = field(default_factory=list)  # as they were when a person was asked
    unheard: list[Unheard] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)  # of the database's clock
    wishes: list[Wish] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    left: Left = field(default_factory=lambda: Left(0, 0))
    blows: Blows = field(default_factory=Blows)
    kills: int = 0
    restarts: int = 0
    freezes: int = 0  # that ended with the worker going on
    suspended: int = 0
    outages: int = 0
    calm_at: float = inf  # when faults ended, seconds of the epoch
    failovers: int = 0
    timeout_s: float = 5
    max_faults: int = 12

    def wished(self, post: int) -> list[Wish]:
        """What people did to a post, or may have done."""
        return [wish for wish in self.wishes if wish.post == post and wish.may_hold]

    @property
    def ahead_s(self) -> float:
        """So far at most the database's clock was ahead of everybody else's."""
        return max([0.0, *(one.ahead_s for one in self.steps)])

    def instants(self, told: datetime) -> list[datetime]:
        """When it may have been by everybody else's clock, where the database's told this."""
        until = [one.at for one in self.steps]
        return [
            told - timedelta(seconds=step.ahead_s)
            for step, end in zip([Step(-inf, 0), *self.steps], [*until, inf], strict=True)
            if step.at - SET_WITHIN_S < told.timestamp() - step.ahead_s < end + SET_WITHIN_S
        ]

    @property
    def fault_kinds(self) -> Counter[str]:
        return Counter(kind for request in self.requests for kind in request.faults)

    @property
    def faulted(self) -> float:
        """The share of requests that a fault took effect on, while there were any: not of those that came in peace."""
        troubled = [request for request in self.requests if request.received_at < self.calm_at]
        return sum(bool(request.faults) for request in troubled) / max(1, len(troubled))


def gathered(stage: Stage, plan: Plan, people: People, left: Left) -> Evidence:
    """Only once workers and pages are stopped and the sandbox is left alone: nothing may move any more."""
    assert people.began_at
    aged = timedelta(seconds=stage.aged_s)
    with stage.connect() as conn:
        rows = rows_of(conn, people.numbers)
        with conn.cursor(row_factory=class_row(Blows)) as cursor:
            blows = cursor.execute(_BLOWS).fetchone()
    return Evidence(
        plan=plan,
        rows=rows,
        statuses=stage.sandbox.ledger.statuses(),
        requests=stage.sandbox.ledger.requests(),
        began_at=people.began_at - aged,
        aged=aged,
        asked=[
            row._replace(sent_at=row.sent_at and row.sent_at - (aged - then_aged)) for row, then_aged in people.asked
        ],
        unheard=[Unheard(one.began_at - aged, one.ended_at - aged, one.wires) for one in stage.unheard],
        steps=[Step(one.at - stage.aged_s, one.ahead_s) for one in stage.steps],
        wishes=people.wishes,
        surprises=people.surprises,
        left=left,
        blows=blows or Blows(),
        kills=stage.crew.killed,
        restarts=stage.restarted,
        freezes=stage.crew.outlived,
        suspended=stage.crew.suspended,
        outages=stage.outages,
        calm_at=stage.calm_at - stage.aged_s,  # the requests before it have aged by as much
        failovers=stage.failovers,
        timeout_s=stage.settings.request_timeout_s,
        max_faults=stage.settings.max_faults,
    )


_BLOWS = """
    SELECT count(*) FILTER (WHERE code = 'worker_gone' AND status = 'unknown') AS sending,
           count(*) FILTER (WHERE code = 'worker_gone' AND status = 'scheduled') AS preparing,
           count(*) FILTER (WHERE code IN ('forgotten', 'restored')) AS forgotten
      FROM (SELECT status, detail->>'code' AS code FROM delivery_events) AS told
"""
