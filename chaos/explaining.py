"""Why a person has to look, where one has: what was done to the last attempt that nobody could decide afterwards.

Mastodon and Pixelfed always tell in the end, since the sandbox lists everything and holds no drafts: an outcome left open
there is never explained. Instagram has no key and no way from a container to its post. GoToSocial knows no key: a text that
was lost there is never sent again without asking.
"""

from typing import NamedTuple

from chaos.evidence import Evidence, Row
from sandbox.ledger import RequestEntry

#: Answers from which nobody can tell whether the post is out.
OPEN = {"drop_before", "drop_after_commit", "cut_body", "garbage", "answer_without_id", "status", "redirect",
        "publish_error_but_live", "held"}  # fmt: skip
#: Errors of the plan that plainly say that nothing was published.
DEFINITE = {9007}


class Attention(NamedTuple):
    row: Row
    because: str | None  # None: nothing explains it


def attention(evidence: Evidence) -> list[Attention]:
    return [Attention(row, _because(evidence, row)) for row in evidence.rows if row.status == "attention"]


def _because(evidence: Evidence, row: Row) -> str | None:
    if row.error_code != "undecidable" or row.sent_at is None:
        return None
    if row.platform != "instagram" and not _is_unguarded(evidence, row):
        return None
    if row.struck:
        return "whoever sent it was struck before an answer was written down"
    kinds = {kind for one in evidence.requests if _is_last_commit(one, row) for kind in _open(one, evidence.timeout_s)}
    return f"it was answered in a way that tells nothing: {', '.join(sorted(kinds))}" if kinds else None


def _is_unguarded(evidence: Evidence, row: Row) -> bool:
    """A text on a server that neither knows keys nor has uploads to refuse."""
    return evidence.plan.accounts.get(row.handle) == "gotosocial" and not row.pictures


def _is_last_commit(request: RequestEntry, row: Row) -> bool:
    if row.sent_at is None or request.account != row.handle or request.received_at < row.sent_at.timestamp():
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
