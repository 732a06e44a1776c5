"""Why a person has to look, where one has: what was done to the last attempt that nobody could decide afterwards.

Mastodon and Pixelfed always tell in the end, since the sandbox lists everything and holds no drafts: an outcome left open
there is never explained, unless the database's clock was set, so that dates tell nothing. Instagram has no key and no way
from a container to its post. GoToSocial knows no key: a text that was lost there is never sent again without asking.
"""

from datetime import timedelta
from typing import NamedTuple

from chaos.evidence import Evidence
from chaos.rows import Row
from chaos.troubles import DATABASE
from postflow.platforms.mastodon.reconciling import UNCLEAR
from postflow.publishing.reconciling import NAMED_ANOTHER
from sandbox.core.ledger import RequestEntry

#: Answers from which nobody can tell whether the post is out.
OPEN = {"drop_before", "drop_after_commit", "cut_body", "garbage", "answer_without_id", "status", "redirect",
        "publish_error_but_live", "held"}  # fmt: skip
#: Errors of the plan that plainly say that nothing was published.
DEFINITE = {9007}


class Attention(NamedTuple):
    row: Row
    because: str | None  # None: nothing explains it


def attention(evidence: Evidence) -> list[Attention]:
    """Whatever a person was asked about, or would have to be."""
    open_still = [row for row in evidence.rows if row.status == "attention"]
    return [Attention(row, _because(evidence, row)) for row in [*evidence.asked, *open_still]]


def untold(evidence: Evidence, row: Row) -> str:
    """What is known of the last attempt of one that nothing explains: for whoever looks for the reason."""
    seen = [
        f"{one.status} after {one.answered_at - one.received_at:.1f} s" if one.answered_ns else "no answer"
        for one in evidence.requests
        if _is_last_commit(evidence, one, row)
    ]
    return f"it ended with {row.last_end or 'nothing'}; the network saw {', '.join(seen) or 'none of it'}"


def _because(evidence: Evidence, row: Row) -> str | None:
    if row.error_code != "undecidable":
        return None
    if row.forgotten:
        return "the database may have forgotten that it was sent"
    if row.error == UNCLEAR and evidence.steps:
        return "a clock was set, and dates do not tell which it is"
    if row.error == NAMED_ANOTHER and _is_a_forgotten_ones_like(evidence, row):
        return "the database had forgotten one in the same words, and a look took this one for that"
    if row.sent_at is None or (row.platform != "instagram" and not _is_unguarded(evidence, row)):
        return None
    if row.struck:
        return "whoever sent it was struck before an answer was written down"
    commits = [one for one in evidence.requests if _is_last_commit(evidence, one, row)]
    kinds = {kind for one in commits for kind in _open(one, evidence.timeout_s)}
    if kinds:
        return f"it was answered in a way that tells nothing: {', '.join(sorted(kinds))}"
    return "the wire was silent" if _was_unheard(evidence, row) else None


def _is_a_forgotten_ones_like(evidence: Evidence, row: Row) -> bool:
    """What comes into doubt when the database forgets is not kept apart from what is alike."""
    posts = evidence.plan.posts
    return any(
        one.forgotten and one.place and row.place and one.id != row.id
        and (one.handle, one.place[1], posts[one.place[0]].says) == (row.handle, row.place[1], posts[row.place[0]].says)
        for one in evidence.rows
    )  # fmt: skip


def _was_unheard(evidence: Evidence, row: Row) -> bool:
    """It was sent just before, or in, a silence on its way, or on the database's."""
    assert row.sent_at
    ways = {DATABASE, evidence.plan.accounts.get(row.handle)}
    waited = timedelta(seconds=evidence.timeout_s)
    return any(
        one.began_at - waited < sent_at < one.ended_at and ways & set(one.wires)
        for one in evidence.unheard
        for sent_at in evidence.instants(row.sent_at)
    )


def _is_unguarded(evidence: Evidence, row: Row) -> bool:
    """A text on a server that neither knows keys nor has uploads to refuse."""
    return evidence.plan.accounts.get(row.handle) == "gotosocial" and not row.pictures


def _is_last_commit(evidence: Evidence, request: RequestEntry, row: Row) -> bool:
    if row.sent_at is None or request.account != row.handle:
        return False
    if not any(request.received_at >= at.timestamp() for at in evidence.instants(row.sent_at)):
        return False
    if row.platform == "instagram":
        return request.path.endswith("/media_publish") and request.params.get("creation_id") == row.container
    return request.path.endswith("/statuses") and request.params.get("status") == row.text


def _open(request: RequestEntry, timeout_s: float) -> set[str]:
    """The kinds of its faults that leave the outcome open; `slow` only when we could not wait for the answer."""
    kinds = set(request.faults) & OPEN
    if request.fault_options.get("slow", {}).get("seconds", 0) >= timeout_s:
        kinds.add("slow")
    if request.fault_options.get("graph_error", {}).get("code", min(DEFINITE)) not in DEFINITE:
        kinds.add("graph_error")
    return kinds
