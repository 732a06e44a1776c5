"""What every network's reconciling has in common: how often to ask a network that is silent, and when absence is proof."""

from datetime import timedelta

from postflow.errors import PublishError
from postflow.models import Attempt, LookAgain, Undecidable

#: Between two looks that must both see nothing before a post is held to be absent.
SETTLE_S = 30.0
#: And so long after the request: longer than any proxy waits, since Mastodon before 4.6 locks no key.
STILL_RUNNING_S = 60.0
LONGEST_LOOKING = timedelta(hours=24)


def cannot_ask(attempt: Attempt, error: PublishError) -> LookAgain | Undecidable:
    """Ever longer pauses while the network cannot be asked; after a day a person has to look."""
    if attempt.now - attempt.sent_at > LONGEST_LOOKING:
        return Undecidable(why="The server could not be asked for a day whether the post is out.")
    pause = getattr(error, "retry_in_s", None) or min(1800.0, 30.0 * 2 ** min(attempt.looks, 10))
    return LookAgain(in_s=pause, why=f"The server cannot be asked right now: {error.sentence}")


def once_more(attempt: Attempt) -> LookAgain | None:
    """None when it was seen absent twice, `SETTLE_S` apart: a slow server has had its time."""
    first, since_sent_s = attempt.first_absent_at, (attempt.now - attempt.sent_at).total_seconds()
    if first and attempt.now - first >= timedelta(seconds=SETTLE_S - 1) and since_sent_s >= STILL_RUNNING_S:
        return None
    in_s = max(SETTLE_S, STILL_RUNNING_S - since_sent_s)
    return LookAgain(in_s=in_s, why="It is not on the account so far. Looking once more.", absent=True)
