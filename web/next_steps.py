"""What happens next with a delivery, and when: said on the post's page, and how often that page should look again."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from postflow.models import RESTING, Account, AccountState, Delivery, DeliveryStatus, Post
from postflow.posts.posts import Line
from postflow.publishing import due

#: Seconds between two looks of an open page: while something moves or is about to, and else.
CLOSELY_S, NOW_AND_THEN_S = 2, 30
_HOWEVER_LATE_S = 366 * 86_400
_SOON = timedelta(seconds=60)
WAITING = frozenset({DeliveryStatus.scheduled, DeliveryStatus.preparing, DeliveryStatus.ready})

#: Rests although it is not out: what a part behind it waits for, and what its person can do.
HOLDS_UP = {
    DeliveryStatus.failed: "a part before it has failed. Try that one again",
    DeliveryStatus.missed: "a part before it was not sent in time. Publish that one",
    DeliveryStatus.cancelled: "a part before it is cancelled. Send that one after all",
    DeliveryStatus.attention: "nobody knows yet whether a part before it is out. Say there what you see",
}


class Next(NamedTuple):
    """`lead` [instant] `tail`, as one sentence."""

    lead: str
    at: datetime | None = None
    tail: str = ""


def following(
    delivery: Delivery, post: Post, account: Account, before: Delivery | None, *, now: datetime, grace_s: float
) -> Next | None:
    """`before` is what it waits for: the same account's delivery of the thread's part before, or of the one that holds up
    both. None when nothing moves by itself.
    """
    if delivery.status is DeliveryStatus.sending:
        return Next("It is being sent this moment.")
    if delivery.status is DeliveryStatus.unknown:
        return _looked_for(delivery, account)
    if delivery.status not in WAITING or post.post_date is None:
        return None
    due_at = max(post.post_date, delivery.asked_at or post.post_date)
    if account.state is AccountState.needs_reconnect:
        if grace_s > _HOWEVER_LATE_S:
            return Next("It waits until this account is connected again, however late that is.")
        lead = "It waits until this account is connected again. If that is later than"
        return Next(lead, due_at + timedelta(seconds=grace_s), ", it is not sent and waits for you.")
    if before and before.is_set_aside:
        return Next("It cannot follow: a part before it has become a post of its own. Cancel it, and make it one, too.")
    if before and before.status in HOLDS_UP:
        return _held(HOLDS_UP[before.status], due_at, grace_s)
    if before and before.status is not DeliveryStatus.published:
        return Next("It follows as soon as the part before it is out, not before", due_at, ".")
    return _when(delivery, account, due_at, now)


def _looked_for(delivery: Delivery, account: Account) -> Next:
    if account.state is AccountState.needs_reconnect:
        return Next(
            "Whether the post is there can be seen once this account is connected again. Nothing is sent before."
        )
    lost = "The network's answer got lost. PostFlow looks whether the post is there and sends nothing before it knows."
    if delivery.claim:  # `wake_at` is the end of a lease meanwhile
        return Next(f"{lost} It is looking this moment.")
    return Next(f"{lost} Next look:", delivery.wake_at, ".")


def holder(delivery: Delivery, before: Delivery | None) -> Delivery:
    """What the part behind `delivery` waits for: it, or what it waits for itself and what does not move."""
    return before if before and before.status in HOLDS_UP and delivery.status in WAITING else delivery


def _held(why: str, due_at: datetime, grace_s: float) -> Next:
    if grace_s > _HOWEVER_LATE_S:
        return Next(f"It waits: {why}, and this one follows, however late that is.")
    return Next(
        f"It waits: {why}, and this one follows. From", due_at + timedelta(seconds=grace_s), ", it is given up."
    )


def _when(delivery: Delivery, account: Account, due_at: datetime, now: datetime) -> Next:
    throttled, pause = account.throttled_until, delivery.not_before
    if throttled and throttled > max(now, due_at):
        return Next("The network asked this account to wait. It goes out", throttled, ".")
    uploads = account.uploads_throttled_until
    if uploads and uploads > max(now, due_at) and uploads == delivery.wake_at:
        return Next("The network asked to wait with pictures and videos. It goes out", uploads, ".")
    if pause and pause > max(now, due_at) and delivery.error_code == due.ALIKE:
        return Next(
            "It waits: another post with the same words may be on this account already, and PostFlow looks for that one"
            " first. It is asked again",
            pause,
            ".",
        )
    if pause and pause > max(now, due_at):
        return Next("It is tried again", pause, ".")
    distant = delivery.status is not DeliveryStatus.preparing  # there `wake_at` is the end of a lease
    if distant and delivery.wake_at and delivery.wake_at > max(now, due_at):
        return Next("It keeps its distance to this account's post before. It goes out", delivery.wake_at, ".")
    if due_at <= now:
        return Next("It is going out now.")
    if delivery.status is DeliveryStatus.preparing:
        return Next("It is being made ready. It goes out", due_at, ".")
    if delivery.status is DeliveryStatus.ready:
        return Next("All is made ready. It goes out", due_at, ".")
    return Next("It goes out", due_at, ".")


# -- how a page keeps up -------------------------------------------------------------------------------------------


def look_again_s(lines: Iterable[tuple[Post, Delivery]], now: datetime) -> int | None:
    """None when nothing on the page can change by itself."""
    moving = [(post, row) for post, row in lines if row.status not in RESTING]
    if not moving:
        return None
    close = any(
        row.status not in WAITING
        or row.status is DeliveryStatus.preparing
        or (row.wake_at is not None and row.wake_at < now + _SOON)
        or (post.post_date is not None and post.post_date < now + _SOON)
        for post, row in moving
    )
    return CLOSELY_S if close else NOW_AND_THEN_S


def seen(lines: Sequence[Line], *further: object) -> str:
    """Changes when there is something new to see; an open page that has it already is told so and left alone."""
    facts = [
        (row.id, row.status, row.status_at, row.wake_at, row.permalink, row.notes, row.error, account.state)
        for row, account in lines
    ]
    return hashlib.blake2s(repr((facts, further)).encode(), digest_size=8).hexdigest()
