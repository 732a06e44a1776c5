"""The plan, the rows and the networks' ledger side by side: every part of every post on every account."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from chaos.evidence import Evidence
from chaos.people import Wish, marker
from chaos.rows import MARKER, Row
from postflow.publishing.preparing import MOST_DEATHS
from sandbox.core.ledger import StatusEntry

#: The web, or the database behind it, was away thrice when Meta came for a picture.
FETCH_REFUSED = {"ig_9004_2207052", "ig_-2_2207003"}
#: Mastodon before 4.6 knows a key and does not lock it; the others refuse uploads that have a status, and lock neither.
NO_LOCK, NO_LOCK_ON_UPLOADS, TOGETHER_S = {"mastodon-4.1"}, {"gotosocial", "pixelfed"}, 1.0
MAY_BE_OUT = {"published", "sending", "unknown", "attention"}
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
    doubled: list[str] = field(default_factory=list)  # out twice, as cannot be prevented, and told so
    incomplete: list[str] = field(default_factory=list)  # out without a picture, and told so


def compare(evidence: Evidence) -> Findings:
    found = Findings()
    rows = _rows_by_key(evidence, found)
    statuses = _statuses_by_key(evidence, found, rows)
    out = {key: there[0] for key, there in statuses.items()}
    expected = set(_planned(evidence))
    for key in sorted(expected | set(rows) | set(statuses)):
        there = statuses.get(key, [])
        if len(there) > 1:
            said = f"{key} is out {len(there)} times: {', '.join(one.id for one in there)}"
            is_told = key in rows and _is_no_fault_of_ours(evidence, rows[key], there)
            (found.doubled if is_told else found.twice).append(said)
        if key not in expected:
            found.lost.append(f"{key} is in no plan")
        elif key not in rows:
            found.lost.append(f"{key} has no row{' and is out' if there else ''}")
        else:
            _compare_one(evidence, found, key, rows[key], out, is_twice=len(there) > 1)
    _kept_word(evidence, found, rows)
    return found


def _is_no_fault_of_ours(evidence: Evidence, row: Row, there: list[StatusEntry]) -> bool:
    """docs/networks.md, the last row of the troubles: two requests that arrived in the same instant, where the server locks
    neither key nor upload, and their person was told.
    """
    instance = evidence.plan.accounts.get(row.handle)
    is_unlocked = instance in NO_LOCK or (instance in NO_LOCK_ON_UPLOADS and row.pictures > 0)
    apart_s = max(one.committed_at for one in there) - min(one.committed_at for one in there)
    return is_unlocked and len(there) == 2 and apart_s < TOGETHER_S and row.status == "published" and row.told_twice


def _planned(evidence: Evidence) -> Iterator[Key]:
    for post in evidence.plan.posts:
        yield from (Key(handle, post.number, part) for handle in post.accounts for part in range(post.parts))


def _rows_by_key(evidence: Evidence, found: Findings) -> dict[Key, Row]:
    rows: dict[Key, Row] = {}
    for row in evidence.rows:
        key = Key(row.handle, *row.place) if row.place else None
        if key is None or MARKER.fullmatch(row.text) is None:
            found.wrong.append(f"{row.handle}: a row of no post of the plan, or without a marker, “{row.text}”")
        elif key in rows:
            found.wrong.append(f"{key} has two rows")
        else:
            rows[key] = row
    return rows


def _statuses_by_key(evidence: Evidence, found: Findings, rows: dict[Key, Row]) -> dict[Key, list[StatusEntry]]:
    """Posts in the same words on the same account are told apart by the ids that their rows know. Whatever is over then
    belongs to one that is in doubt or told to be out, else to the first: it is out too often.
    """
    alike: dict[Key, list[Key]] = defaultdict(list)  # by what the status says
    for key in _planned(evidence):
        alike[key._replace(post=evidence.plan.posts[key.post].says)].append(key)
    there: dict[Key, list[StatusEntry]] = defaultdict(list)
    for status in sorted(evidence.statuses, key=lambda one: one.committed_ns):
        told = MARKER.fullmatch(status.text)
        says = Key(status.handle, int(told[1]), int(told[2])) if told else None
        if says is None:
            found.wrong.append(f"{status.handle}: a status without a marker, “{status.text}”")
        elif not status.published:
            found.wrong.append(f"{says} is there and hidden: {status.hidden}")
        else:
            there[says].append(status)
    return {key: mine for says, those in there.items() for key, mine in _shared_out(alike[says] or [says], rows, those)}


def _shared_out(
    keys: list[Key], rows: dict[Key, Row], statuses: list[StatusEntry]
) -> Iterator[tuple[Key, list[StatusEntry]]]:
    shares: dict[Key, list[StatusEntry]] = {}
    known = {rows[key].remote_id: key for key in keys if key in rows}
    over = [one for one in statuses if not (one.id in known and shares.setdefault(known[one.id], [one]))]
    without = [key for key in keys if key in rows and key not in shares and rows[key].status in MAY_BE_OUT]
    for status in over:
        fitting = [key for key in without if rows[key].text == status.text] or without
        if fitting:
            without.remove(fitting[0])
            shares[fitting[0]] = [status]
        else:
            shares.setdefault(next(iter(shares), keys[0]), []).append(status)
    yield from shares.items()


# -- one part of one post on one account -------------------------------------------------------------------


def _compare_one(
    evidence: Evidence, found: Findings, key: Key, row: Row, out: dict[Key, StatusEntry], *, is_twice: bool
) -> None:
    status = out.get(key)
    found.lost += [f"{key} {said}" for said in _untrue(row, status)]
    found.wrong += [f"{key} {said}" for said in _unreasoned(evidence, key, row)]
    if row.told_twice and not is_twice:
        found.wrong.append(f"{key} is told to be out twice and is not")
    if row.text not in _texts(evidence, key):
        found.wrong.append(f"{key} is kept as “{row.text}”, which nobody was told last")
    if status:
        found.wrong += [f"{key} {said}" for said in _unlike(key, row, status, out, evidence.ahead_s)]
        _all_pictures(evidence, found, key, row, status)


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
    """Its budget of faults is spent, each of its workers was killed, the clock was set while the
    server was at work on its upload, or Meta came for a picture in vain."""
    if row.error_code == "media_stuck":  # by a clock that is set forth, an upload of a moment ago is an hour old
        return bool(evidence.steps)
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
    return {marker(evidence.plan.posts[key.post].says, key.part, version) for version in versions}


def _all_pictures(evidence: Evidence, found: Findings, key: Key, row: Row, status: StatusEntry) -> None:
    """One that is missing is missing silently, unless the post's person reads so."""
    pictures = evidence.plan.posts[key.post].pictures if key.part == 0 else 0
    if len(status.media) != pictures:
        is_told = len(status.media) < pictures and (row.status, row.error_code) == ("published", "incomplete")
        said = f"{key} has {len(status.media)} pictures instead of {pictures}"
        (found.incomplete if is_told else found.lost).append(said)


def _unlike(key: Key, row: Row, status: StatusEntry, out: dict[Key, StatusEntry], ahead_s: float) -> Iterator[str]:
    if status.text != row.text:
        yield f"is kept as “{row.text}” and out as “{status.text}”"
    if datetime.fromtimestamp(status.committed_at + ahead_s, row.post_date.tzinfo) < row.post_date - SKEW:
        yield f"went out before its date, {row.post_date}"
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
