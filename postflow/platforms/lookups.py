"""What every network's reconciling has in common: how often to ask a network that is silent, and when absence is proof."""

from datetime import timedelta

from postflow.errors import PublishError
from postflow.models import Attempt, LookAgain, Undecidable

#: Between two looks that must both see nothing before a post is held to be absent.
SETTLE_S = 30.0
#: So long a proxy waits for its server as a rule (nginx: proxy_read_timeout), and the server may be at work on the request.
PROXY_S = 60.0
#: It may hold a request back for minutes all the same. Where that would make two posts of one, nobody is asked sooner.
HELD_S = 300.0
LONGEST_LOOKING = timedelta(hours=24)


def cannot_ask(attempt: Attempt, error: PublishError) -> LookAgain | Undecidable:
    """Ever longer pauses while the network cannot be asked; after a day a person has to look."""
    if attempt.now - attempt.sent_at > LONGEST_LOOKING:
        return Undecidable(why="The server could not be asked for a day whether the post is out.")
    pause = getattr(error, "retry_in_s", None) or _pause_s(attempt)
    return LookAgain(in_s=pause, why=f"The server cannot be asked right now: {error.sentence}")


def list_is_short(attempt: Attempt) -> LookAgain | Undecidable:
    """A list without what is known to be on the account says nothing of what else it does not show."""
    if attempt.now - attempt.sent_at > LONGEST_LOOKING:
        return Undecidable(why="It is not on the account's list, but for a day that list has not been whole.")
    return LookAgain(in_s=_pause_s(attempt), why="The account's list is not whole right now, so it proves nothing.")


def _pause_s(attempt: Attempt) -> float:
    return min(1800.0, 30.0 * 2 ** min(attempt.looks, 10))


def once_more(attempt: Attempt) -> LookAgain | None:
    """None when it was seen absent twice, `SETTLE_S` apart, and nothing of it was on its way any more by the first time."""
    since_sent_s = (attempt.now - attempt.sent_at).total_seconds()
    gone_after_s = max(PROXY_S, attempt.still_ours_s)
    if since_sent_s < gone_after_s:
        why = "It is not on the account so far, but may still be on its way. Looking again."
        return LookAgain(in_s=max(1.0, gone_after_s - since_sent_s), why=why)
    first = attempt.first_absent_at
    if first and attempt.now - first >= timedelta(seconds=SETTLE_S - 1):
        return None
    return LookAgain(in_s=SETTLE_S, why="It is not on the account so far. Looking once more.", absent=True)


def before_asking(attempt: Attempt) -> LookAgain | None:
    """None when even a request that was held back for minutes would have arrived: now a person may be asked."""
    if (attempt.now - attempt.sent_at).total_seconds() >= HELD_S:
        return None
    why = "It is not on the account. Something on the way may be holding it back, so PostFlow looks for a few minutes more."
    return LookAgain(in_s=60, why=why, absent=True)
