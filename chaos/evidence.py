"""All that the verdict is drawn from: the plan, what people were told, the rows, and what the networks remember."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg import Connection
from psycopg.rows import class_row, dict_row

from chaos.ending import Left
from chaos.people import People, Wish
from chaos.plan import Plan
from chaos.stage import Stage
from sandbox.ledger import RequestEntry, StatusEntry


class Row(NamedTuple):
    """One delivery at the end."""

    id: int
    place: tuple[int, int] | None  # in the plan: post and part
    handle: str
    platform: str
    status: str
    text: str
    post_date: datetime
    remote_id: str | None
    error_code: str | None
    error: str | None
    faults: int
    container: str | None  # Instagram: what was published, or should have been
    sent_at: datetime | None  # when its last attempt began, by its story
    struck: bool  # since then its story tells that whoever sent it was gone before the answer was written down
    deaths: int  # of workers that prepared it
    pictures: int = 0
    told_twice: bool = False  # its person was told that it is out twice


class Blows(NamedTuple):
    """What the stories tell of deaths: how many hit a delivery that was being sent, or prepared."""

    sending: int = 0
    preparing: int = 0


@dataclass
class Evidence:
    plan: Plan
    rows: list[Row]
    statuses: list[StatusEntry]
    requests: list[RequestEntry]
    began_at: datetime  # the plan's second zero, as old as everything else is by now
    aged: timedelta = timedelta()
    wishes: list[Wish] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)
    left: Left = field(default_factory=lambda: Left(0, 0))
    blows: Blows = field(default_factory=Blows)
    kills: int = 0
    restarts: int = 0
    freezes: int = 0  # that ended with the worker going on
    suspended: int = 0
    silences: int = 0
    outages: int = 0
    timeout_s: float = 5
    max_faults: int = 12

    def wished(self, post: int) -> list[Wish]:
        """What people did to a post, or may have done."""
        return [wish for wish in self.wishes if wish.post == post and wish.may_hold]

    @property
    def fault_kinds(self) -> Counter[str]:
        return Counter(kind for request in self.requests for kind in request.faults)

    @property
    def faulted(self) -> float:
        """The share of requests that a fault took effect on."""
        return sum(bool(request.faults) for request in self.requests) / max(1, len(self.requests))


def gathered(stage: Stage, plan: Plan, people: People, left: Left) -> Evidence:
    """Only once workers and pages are stopped and the sandbox is left alone: nothing may move any more."""
    assert people.began_at
    aged = timedelta(seconds=stage.aged_s)
    with stage.connect() as conn:
        rows = rows_of(conn, people)
        with conn.cursor(row_factory=class_row(Blows)) as cursor:
            blows = cursor.execute(_BLOWS).fetchone()
    return Evidence(
        plan=plan,
        rows=rows,
        statuses=stage.sandbox.ledger.statuses(),
        requests=stage.sandbox.ledger.requests(),
        began_at=people.began_at - aged,
        aged=aged,
        wishes=people.wishes,
        surprises=people.surprises,
        left=left,
        blows=blows or Blows(),
        kills=stage.crew.killed,
        restarts=stage.restarted,
        freezes=stage.crew.outlived,
        suspended=stage.crew.suspended,
        silences=stage.silences,
        outages=stage.outages,
        timeout_s=stage.settings.request_timeout_s,
        max_faults=stage.settings.max_faults,
    )


def rows_of(conn: Connection, people: People) -> list[Row]:
    with conn.cursor(row_factory=dict_row) as cursor:
        return [Row(place=people.places.get(one.pop("post_id")), **one) for one in cursor.execute(_ROWS).fetchall()]


_ROWS = """
    SELECT d.id, d.post_id, ltrim(a.handle, '@') AS handle, a.platform, d.status, p.content->>'text' AS text, p.post_date,
           d.remote_id, d.error_code, d.error, d.faults, d.staged->'parent'->>'remote_id' AS container, sent.at AS sent_at,
           EXISTS(SELECT FROM delivery_events e WHERE e.delivery_id = d.id AND e.id > sent.id AND e.status = 'unknown'
                     AND e.detail->>'code' IN ('worker_gone', 'worker_stopped')) AS struck,
           (SELECT count(*) FROM delivery_events e WHERE e.delivery_id = d.id AND e.status = 'scheduled'
               AND e.detail->>'code' = 'worker_gone') AS deaths,
           coalesce(jsonb_array_length(p.content->'attachments'), 0) AS pictures,
           array_to_string(d.notes, ' ') LIKE '%%on the account twice%%'
               AND EXISTS(SELECT FROM notices n WHERE n.user_id = a.user_id AND n.key = 'twice:' || d.id) AS told_twice
      FROM deliveries d JOIN posts p ON p.id = d.post_id JOIN accounts a ON a.id = d.account_id
      LEFT JOIN LATERAL (SELECT e.id, e.at FROM delivery_events e
                          WHERE e.delivery_id = d.id AND e.status = 'sending' ORDER BY e.id DESC LIMIT 1) sent ON true
     ORDER BY d.id
"""
_BLOWS = """
    SELECT count(*) FILTER (WHERE status = 'unknown') AS sending, count(*) FILTER (WHERE status = 'scheduled') AS preparing
      FROM delivery_events WHERE detail->>'code' = 'worker_gone'
"""
