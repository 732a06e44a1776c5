"""The networks' ledger against the database: what went out twice, what was lost, and why a person has to look."""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from psycopg.rows import class_row

from chaos.plan import Plan
from chaos.stage import Stage
from sandbox.ledger import RequestEntry, StatusEntry

MARKER = re.compile(r"Chaos post (\d+\.\d+), version (\d+)")
COMMIT = re.compile(r"/statuses$|/media_publish$")
#: Answers from which nobody can tell whether the post is out.
OPEN = {"drop_before", "drop_after_commit", "cut_body", "garbage", "answer_without_id", "status", "redirect", "slow",
        "graph_error", "publish_error_but_live"}  # fmt: skip


class Row(NamedTuple):
    id: int
    handle: str
    platform: str
    status: str
    text: str
    remote_id: str | None
    error_code: str | None
    error: str | None
    staged: dict[str, Any] | None
    struck: bool  # its story tells that whoever sent it was gone before the answer was written down


class Attention(NamedTuple):
    row: Row
    because: str | None  # None: nothing explains it


@dataclass
class Verdict:
    seed: int
    deliveries: int
    kills: int
    restarts: int
    faulted: float
    requests: int
    by_status: dict[str, int]
    stuck: int
    twice: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    attention: list[Attention] = field(default_factory=list)

    @property
    def unexplained(self) -> list[Attention]:
        return [one for one in self.attention if one.because is None]

    @property
    def well(self) -> bool:
        return not (self.twice or self.lost or self.stuck or self.unexplained)

    def figures(self) -> dict[str, float]:
        return {
            "deliveries": self.deliveries,
            "kills": self.kills,
            "restarts": self.restarts,
            "faulted": round(self.faulted, 3),
            "twice": len(self.twice),
            "lost": len(self.lost),
            "stuck": self.stuck,
            "attention": len(self.attention),
        }


def reached(stage: Stage, plan: Plan, stuck: int) -> Verdict:
    with stage.connect() as conn, conn.cursor(row_factory=class_row(Row)) as cursor:
        rows = cursor.execute(
            """
            SELECT d.id, ltrim(a.handle, '@') AS handle, a.platform, d.status, p.content->>'text' AS text, d.remote_id,
                   d.error_code, d.error, d.staged, EXISTS(SELECT FROM delivery_events e WHERE e.delivery_id = d.id
                       AND e.detail->>'code' IN ('worker_gone', 'worker_stopped')) AS struck
              FROM deliveries d JOIN posts p ON p.id = d.post_id JOIN accounts a ON a.id = d.account_id
             ORDER BY d.id
            """
        ).fetchall()
    requests = stage.sandbox.ledger.requests()
    counted: dict[str, int] = defaultdict(int)
    for row in rows:
        counted[row.status] += 1
    verdict = Verdict(
        seed=plan.seed,
        deliveries=len(rows),
        kills=stage.killed,
        restarts=len(plan.restarts),
        faulted=sum(bool(one.faults) for one in requests) / max(1, len(requests)),
        requests=len(requests),
        by_status=dict(counted),
        stuck=stuck,
    )
    _compare(verdict, rows, stage.sandbox.ledger.statuses(published=True))
    verdict.attention = [Attention(row, _because(row, requests)) for row in rows if row.status == "attention"]
    return verdict


def _compare(verdict: Verdict, rows: list[Row], statuses: list[StatusEntry]) -> None:
    out: dict[tuple[str, str], list[StatusEntry]] = defaultdict(list)
    for status in statuses:
        if found := MARKER.search(status.text):
            out[status.handle, found[1]].append(status)
    for row in rows:
        found = MARKER.search(row.text)
        assert found, row
        there = out.pop((row.handle, found[1]), [])
        if len(there) > 1:
            verdict.twice.append(f"{row.handle}: “{row.text}” is out {len(there)} times")
        elif said := _untrue(row, there):
            verdict.lost.append(f"{row.handle}: “{row.text}” {said}")
    verdict.lost += [f"{handle}: post {key} is out and unknown to the database" for handle, key in out]


def _untrue(row: Row, there: list[StatusEntry]) -> str | None:
    """What the row says must be what the network has; `attention` says that it does not know."""
    if row.status == "published":
        if not there:
            return "is told to be published and is not there"
        if there[0].text != row.text:
            return f"went out as “{there[0].text}”"
        if row.remote_id not in (None, there[0].id):
            return f"is known as {row.remote_id} and is {there[0].id}"
    elif row.status in ("failed", "missed", "cancelled") and there:
        return f"is told to be {row.status} and is out"
    return None


def _because(row: Row, requests: list[RequestEntry]) -> str | None:
    """The open answer, or the blow to its sender, that left this outcome undecided."""
    spoilt = {name for one in requests if _is_its_commit(one, row) for name in one.faults} & OPEN
    if spoilt:
        return "it was answered in a way that tells nothing: " + ", ".join(sorted(spoilt))
    if row.struck:
        return "a worker or the database was struck while it was sent"
    return None


def _is_its_commit(request: RequestEntry, row: Row) -> bool:
    if request.account != row.handle or request.method != "POST" or not COMMIT.search(request.path):
        return False
    if container := request.params.get("creation_id"):
        return str(container) in str(row.staged)
    return request.params.get("status") == row.text
