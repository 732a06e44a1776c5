"""The plan, the rows and the networks' ledger side by side: every part of every post on every account."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from chaos.evidence import Evidence, Row
from chaos.people import Wish, marker
from postflow.preparing import MOST_DEATHS
from sandbox.ledger import StatusEntry

MARKER = re.compile(r"Chaos post (\d+)\.(\d+), version \d+")
#: The web, or the database behind it, was away thrice when Meta came for a picture.
FETCH_REFUSED = {"ig_9004_2207052", "ig_-2_2207003"}
#: Instants went through floats and back.
SKEW = timedelta(milliseconds=1)


class Key(NamedTuple):
    handle: str
    post: int
    part: int

    def __str__(self) -> str:
        return f"{self.handle}: post {self.post}.{self.part}"


@dataclass
class Findings:
    twice: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # not where it should be, or told wrongly
    wrong: list[str] = field(default_factory=list)  # ended for no good reason, or not as people were told


def compare(evidence: Evidence) -> Findings:
    found = Findings()
    rows, statuses = _rows_by_key(evidence, found), _statuses_by_key(evidence, found)
    out = {key: there[0] for key, there in statuses.items()}
    expected = set(_planned(evidence))
    for key in sorted(expected | set(rows) | set(statuses)):
        there = statuses.get(key, [])
        if len(there) > 1:
            found.twice.append(f"{key} is out {len(there)} times: {', '.join(one.id for one in there)}")
        if key not in expected:
            found.lost.append(f"{key} is in no plan")
        elif key not in rows:
            found.lost.append(f"{key} has no row{' and is out' if there else ''}")
        else:
            _compare_one(evidence, found, key, rows[key], out)
    _kept_word(evidence, found, rows)
    return found


def _planned(evidence: Evidence) -> Iterator[Key]:
    for post in evidence.plan.posts:
        yield from (Key(handle, post.number, part) for handle in post.accounts for part in range(post.parts))


def _rows_by_key(evidence: Evidence, found: Findings) -> dict[Key, Row]:
    rows: dict[Key, Row] = {}
    for row in evidence.rows:
        key = _key(row.handle, row.text)
        if key is None:
            found.wrong.append(f"{row.handle}: a row without a marker, “{row.text}”")
        elif key in rows:
            found.wrong.append(f"{key} has two rows")
        else:
            rows[key] = row
    return rows


def _statuses_by_key(evidence: Evidence, found: Findings) -> dict[Key, list[StatusEntry]]:
    statuses: dict[Key, list[StatusEntry]] = defaultdict(list)
    for status in evidence.statuses:
        key = _key(status.handle, status.text)
        if key is None:
            found.wrong.append(f"{status.handle}: a status without a marker, “{status.text}”")
        elif not status.published:
            found.wrong.append(f"{key} is there and hidden: {status.hidden}")
        else:
            statuses[key].append(status)
    return statuses


def _key(handle: str, text: str) -> Key | None:
    told = MARKER.fullmatch(text)
    return Key(handle, int(told[1]), int(told[2])) if told else None


# -- one part of one post on one account -------------------------------------------------------------------


def _compare_one(evidence: Evidence, found: Findings, key: Key, row: Row, out: dict[Key, StatusEntry]) -> None:
    status = out.get(key)
    found.lost += [f"{key} {said}" for said in _untrue(row, status)]
    found.wrong += [f"{key} {said}" for said in _unreasoned(evidence, key, row)]
    if row.text not in _texts(evidence, key):
        found.wrong.append(f"{key} is kept as “{row.text}”, which nobody was told last")
    if status:
        found.wrong += [f"{key} {said}" for said in _unlike(evidence, key, row, status, out)]


def _untrue(row: Row, status: StatusEntry | None) -> Iterator[str]:
    """What the row says must be what the network has; some say that they do not know."""
    if row.status == "published":
        if status is None:
            yield "is told to be published and is not there"
        elif row.remote_id is None and row.platform != "instagram":
            yield "is told to be published, and where is not known"
        elif row.remote_id not in (None, status.id):
            yield f"is known as {row.remote_id} and is {status.id}"
    elif status and row.status not in ("sending", "unknown", "attention"):
        yield f"is told to be {row.status} and is out"


def _unreasoned(evidence: Evidence, key: Key, row: Row) -> Iterator[str]:
    """Ends that nothing in the plan leads to."""
    if row.status == "missed":
        yield f"was missed: {row.error}"
    if row.status == "cancelled" and not any(wish.deed == "cancel" for wish in evidence.wished(key.post)):
        yield "is cancelled, and nobody asked for that"
    if row.status == "failed" and not _had_reason(evidence, row):
        yield f"failed ({row.error_code}, {row.faults} faults): {row.error}"


def _had_reason(evidence: Evidence, row: Row) -> bool:
    """Its budget of faults is spent, each of its workers was killed, or Meta came for a picture in vain."""
    if row.error_code == "workers_end":
        return row.deaths >= MOST_DEATHS
    return row.faults >= evidence.max_faults or _could_not_fetch(evidence, row)


def _could_not_fetch(evidence: Evidence, row: Row) -> bool:
    refused = [one for one in evidence.requests if one.account == row.handle and one.status == 400]
    fetching = [one for one in refused if one.method == "POST" and one.path.endswith("/media")]
    return row.error_code in FETCH_REFUSED and len(fetching) >= 3


def _texts(evidence: Evidence, key: Key) -> set[str]:
    """The last acknowledged edit's, or that of a later one whose answer got lost."""
    edits = [wish for wish in evidence.wished(key.post) if wish.deed == "edit" and wish.version]
    told = max((wish.version or 1 for wish in edits if wish.outcome == "done"), default=1)
    versions = {told} | {wish.version for wish in edits if wish.version and wish.version > told}
    return {marker(key.post, key.part, version) for version in versions}


def _unlike(evidence: Evidence, key: Key, row: Row, status: StatusEntry, out: dict[Key, StatusEntry]) -> Iterator[str]:
    if status.text != row.text:
        yield f"is kept as “{row.text}” and out as “{status.text}”"
    if datetime.fromtimestamp(status.committed_ns / 1e9, row.post_date.tzinfo) < row.post_date - SKEW:
        yield f"went out before its date, {row.post_date}"
    pictures = evidence.plan.posts[key.post].pictures if key.part == 0 else 0
    if len(status.media) != pictures:
        yield f"has {len(status.media)} pictures instead of {pictures}"
    before = out.get(key._replace(part=key.part - 1)) if key.part else None
    if status.in_reply_to_id != (before.id if before else None) or (key.part and before is None):
        yield f"answers {status.in_reply_to_id} instead of {before.id if before else 'nothing'}"


# -- what people were told ---------------------------------------------------------------------------------


def _kept_word(evidence: Evidence, found: Findings, rows: dict[Key, Row]) -> None:
    by_post: dict[int, list[Row]] = defaultdict(list)
    for key, row in rows.items():
        by_post[key.post].append(row)
    for post in evidence.plan.posts:
        wishes = evidence.wished(post.number)
        dates = _dates(evidence, post.due_s, wishes)
        if any(all(abs(row.post_date - date) > SKEW for date in dates) for row in by_post[post.number]):
            found.wrong.append(f"post {post.number} has a date that nobody was told last")
        if len(wishes) == 1 and wishes[0].outcome == "done":
            told = [row for row in by_post[post.number] if row.id in wishes[0].held_back]
            found.wrong += [f"{row.handle}: “{row.text}” was told to be cancelled and is {row.status}"
                            for row in told if row.status != "cancelled"]  # fmt: skip


def _dates(evidence: Evidence, due_s: float, wishes: list[Wish]) -> list[datetime]:
    """Of two windows at once, one of the two intended."""
    done = [wish.post_date for wish in wishes if wish.post_date and wish.outcome == "done"]
    unclear = [wish.post_date for wish in wishes if wish.post_date and wish.outcome == "unclear"]
    wished = [date - evidence.aged for date in done + unclear]
    return wished if done else [*wished, evidence.began_at + timedelta(seconds=due_s)]
