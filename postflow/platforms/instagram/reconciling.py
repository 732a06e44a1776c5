"""After a lost answer: was the container published? Looks, never sends, and prefers a question to a second post.

    found in /media (or /stories)                             it is out
    the container says PUBLISHED, no listing shows it         it is out; its link is looked for a few times
    FINISHED, absent and uncounted for ten minutes            the same container again, if POSTFLOW_INSTAGRAM_REPUBLISH=auto
    absent, but more is counted than we know of, or the
    list does not reach what was there before                 again, for half an hour
    anything else after ten minutes                           a person has to look

There is no key of ours at Instagram and no way from a container to its medium: it is told by time, kind, caption and
number of pictures. What another delivery owns is not ours, and without a caption only PUBLISHED makes it ours.
"""

import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from postflow.errors import PublishError, Unauthorized
from postflow.models import (
    Attempt,
    Found,
    LookAgain,
    MediaKind,
    Outgoing,
    Receipt,
    SafeToResend,
    Undecidable,
    Verdict,
)
from postflow.platforms.instagram import containers, options
from postflow.platforms.instagram.graph import Graph, rows, within

SETTLED = timedelta(minutes=10)
LONGEST_UNCOUNTED = timedelta(minutes=30)
LONGEST_LOOKING = timedelta(hours=24)
#: Meta's clock may be ahead of ours.
SKEW = timedelta(seconds=60)
#: An account may pin so many posts to the top, however old they are.
MOST_PINNED = 3
LOOKS_FOR_A_LINK = 4
UNREADABLE = "unreadable"
_FIELDS = "id,caption,timestamp,permalink,media_type,media_product_type,children{id}"


class Listing(NamedTuple):
    candidates: list[Mapping[str, Any]]  # newest first
    known: int  # how many belong to other deliveries, and are old enough to be counted by now
    complete: bool  # read to its end, and seen to go on to what was there before


async def reconcile(
    graph: Graph, outgoing: Outgoing, stage: containers.Staged, attempt: Attempt, republish: Literal["auto", "ask"]
) -> Verdict:
    if stage.parent is None:
        return Undecidable(why="What was handed to Instagram is no longer known here.")
    age, told = attempt.now - attempt.sent_at, ""
    try:
        told = await _state(graph, stage.parent)
        listing = await _listed(graph, outgoing, attempt)
    except Unauthorized:
        raise
    except PublishError as error:
        return _published_somewhere(attempt) if told == "PUBLISHED" else _not_asked(attempt, age, error)
    if not attempt.rivalled and (receipt := _ours(outgoing, listing, told)) is not None:
        return Found(receipt=receipt)
    if told == "PUBLISHED":
        return _published_somewhere(attempt)
    unpublished = told == "FINISHED" and listing.complete and not listing.candidates
    absent = unpublished if listing.complete else None
    again = LookAgain(in_s=60, why="It is not on the account so far. Looking again in a minute.", absent=absent)
    if age < SETTLED:
        return again
    if unpublished and republish == "auto" and attempt.now - stage.parent.created_at < containers.LIFE:
        if not _settled(attempt):
            return again
        try:
            counted = await _counted_since(graph, outgoing, _since(attempt))
        except PublishError as error:
            return _not_asked(attempt, age, error)
        if counted is not None and counted <= listing.known:
            return SafeToResend(why="Instagram still holds it unpublished and counts no post since that is not known.")
        if age < LONGEST_UNCOUNTED:
            return again
    if not listing.complete and republish == "auto" and age < LONGEST_UNCOUNTED:
        return again
    return Undecidable(why=_why(told, listing))


async def _state(graph: Graph, container: containers.Container) -> str:
    """A container that is not found may be one that was published: the listing has to tell."""
    try:
        told, _ = await containers.state(graph, container)
    except PublishError as error:
        if error.code != "ig_100_33":
            raise
        return UNREADABLE
    return told


async def _listed(graph: Graph, outgoing: Outgoing, attempt: Attempt) -> Listing:
    """Everything of the right kind since the first send that no other delivery owns. Newest first, but for what is pinned."""
    since = _since(attempt)
    stories = options.kind(outgoing.content) == "story"
    path = f"{outgoing.login.account.remote_id}/{'stories' if stories else 'media'}"
    candidates: list[Mapping[str, Any]] = []
    known, read, older, complete = 0, 0, 0, True
    async for one in graph.pages(path, fields=_FIELDS, limit="50"):
        at = _at(one) if one else None
        if one is None or at is None:
            complete = False
            continue
        read += 1
        if at < since:
            older += 1
            if older > MOST_PINNED:
                break
        elif str(one.get("id")) in attempt.taken_remote_ids:
            known += at <= attempt.now - SETTLED
        elif _is_like(one, outgoing) and one.get("id"):
            candidates.append(one)
    if complete and not older and not stories and not candidates:
        complete = await _has_no_more(graph, outgoing, read)
    return Listing(candidates, known, complete)


async def _has_no_more(graph: Graph, outgoing: Outgoing, read: int) -> bool:
    """A listing that shows nothing older is whole when the account counts no more. Stories last a day and are not counted
    there: for them container and quota have to do.
    """
    counted = (await graph.read(outgoing.login.account.remote_id, fields="media_count")).get("media_count")
    return isinstance(counted, int) and counted <= read


def _since(attempt: Attempt) -> datetime:
    """What is listed and what is counted must be of the same time, and Instagram knows whole seconds only."""
    return (attempt.first_sent_at - SKEW).replace(microsecond=0)


def _is_like(one: Mapping[str, Any], outgoing: Outgoing) -> bool:
    """Kind, caption and number of pictures. Stories come without a caption."""
    many = len(outgoing.media) > 1
    video = outgoing.media[0].kind is MediaKind.video
    wanted = "CAROUSEL_ALBUM" if many else "VIDEO" if video else "IMAGE"
    if one.get("media_type") not in (wanted, None):
        return False
    if options.kind(outgoing.content) == "story":
        return True
    children = len(rows(within(one, "children")))
    if many and children not in (0, len(outgoing.media)):
        return False
    return _flat(str(one.get("caption") or "")) == _flat(outgoing.content.text)


def _ours(outgoing: Outgoing, listing: Listing, told: str) -> Receipt | None:
    """A caption makes the oldest match ours; without one it must be the only one, and the container PUBLISHED."""
    if not listing.candidates:
        return None
    captioned = options.kind(outgoing.content) != "story" and bool(outgoing.content.text.strip())
    if not captioned and (told != "PUBLISHED" or len(listing.candidates) > 1):
        return None
    one = listing.candidates[-1]
    return Receipt(remote_id=str(one["id"]), permalink=one.get("permalink"))


def _published_somewhere(attempt: Attempt) -> Verdict:
    if attempt.looks < LOOKS_FOR_A_LINK:
        return LookAgain(in_s=30, why="Instagram says it is published; looking for its link.", absent=False)
    note = "Instagram says it is published; its link could not be found."
    return Found(receipt=Receipt(remote_id=None, notes=(note,)))


def _settled(attempt: Attempt) -> bool:
    """Unpublished and absent at every look of the last ten minutes."""
    since = attempt.first_absent_at
    return since is not None and attempt.absent_looks >= 2 and attempt.now - since >= SETTLED


async def _counted_since(graph: Graph, outgoing: Outgoing, since: datetime) -> int | None:
    """Posts of this account as its quota counts them, stories too; None when that is not told. Raises PublishError."""
    path = f"{outgoing.login.account.remote_id}/content_publishing_limit"
    body = await graph.read(path, fields="quota_usage", since=str(int(since.timestamp())))
    used = next(iter(rows(body)), {}).get("quota_usage")
    return used if isinstance(used, int) and not isinstance(used, bool) else None


def _not_asked(attempt: Attempt, age: timedelta, error: PublishError) -> Verdict:
    if age > LONGEST_LOOKING:
        return Undecidable(why="Instagram could not be asked for a day whether the post is out.")
    wait_s = getattr(error, "retry_in_s", None) or min(1800, 30 * 2 ** min(attempt.looks, 10))
    return LookAgain(in_s=wait_s, why=f"Instagram cannot be asked: {error.sentence}")


def _why(told: str, listing: Listing) -> str:
    if listing.candidates:
        return "Something like it was published around that time; Instagram does not say whether it is this post."
    if not listing.complete:
        return "Instagram's list of posts was not whole, so what it does not show proves nothing."
    if told == "FINISHED":
        return "Instagram shows neither the post nor that it was published, but it may be behind."
    if told in ("ERROR", "EXPIRED"):
        gone = "Instagram does not show the post, and can no longer publish what was handed over to it"
        return f"{gone}: it went out before that, or not at all."
    return "Instagram does not say whether the post went out."


def _flat(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _at(one: Mapping[str, Any]) -> datetime | None:
    """ "2026-11-23T10:00:00+0000": no colon in the zone."""
    try:
        return datetime.strptime(str(one.get("timestamp")), "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return None
