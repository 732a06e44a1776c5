"""The story before post_date: schedule, edit, move, cancel, ask again. Called by the web inside one transaction.

Functions return the deliveries that need a wake-up call; the caller defers the jobs on the same connection, so that
row and job commit or vanish together. Rows are locked before they are read, the post's first and then its deliveries':
of two windows one finds what the other has done, and a worker that claims at the same instant either comes before
(then the person is told it is too late) or after (then it finds the new state).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg import Connection

from postflow.errors import Conflict, Invalid, NotFound
from postflow.models import IN_FLIGHT, Delivery, DeliveryStatus, NewPost, Post, Receipt
from postflow.posts import deliveries, posts, preflight


class Scheduled(NamedTuple):
    posts: list[Post]
    deliveries: list[Delivery]


# -- the arrows a person asks for ----------------------------------------------------------------------------


def schedule(
    conn: Connection,
    user_id: int,
    new: NewPost,
    *,
    now: datetime,
    form_key: str | None = None,
) -> Scheduled:
    """A post (or thread) and one delivery per account and part. The same form twice is one post. Raises Invalid."""
    if form_key and (before := posts.by_form(conn, user_id, form_key)):
        if before.is_draft:  # the browser's Back button leads from a saved draft to the form that made it
            return edit(conn, user_id, before.id, new, revision=before.revision, now=now)
        return Scheduled(_sent_before(conn, user_id, before, new), [])
    preflight.refuse(conn, user_id, new, now=now)
    return _store(conn, user_id, new, form_key)


def save_draft(
    conn: Connection,
    user_id: int,
    new: NewPost,
    *,
    form_key: str | None = None,
    draft_id: int | None = None,
    revision: int | None = None,
) -> Post:
    """Anything may be unfinished, but accounts and uploads must be one's own. A post that is scheduled becomes a draft again
    when it is still the `revision` that its person has looked at, and nothing of it may be out. Raises Invalid, Conflict.
    """
    preflight.own_accounts(conn, user_id, new.account_ids)
    preflight.own_media(conn, user_id, preflight.contents(new))
    if draft_id is None and form_key and (before := posts.by_form(conn, user_id, form_key)):
        if not before.is_draft:
            return _sent_before(conn, user_id, before, new)[0]
        draft_id = before.id
    if draft_id is not None:
        posts.hold(conn, user_id, draft_id)
        old = posts.get(conn, user_id, draft_id)
        if not old.is_draft:
            _unschedule(conn, user_id, old, revision)
        posts.delete(conn, [part.id for part in posts.thread(conn, user_id, draft_id)[1:]])
        first = posts.update(conn, draft_id, new, new.content, draft=True)
    else:
        stored = posts.insert(conn, user_id, new, new.content, parent_id=None, draft=True, form_key=form_key)
        if stored is None:
            return _stored_before(conn, user_id, form_key)
        first = stored
    _store_thread(conn, user_id, new, first, draft=True)
    return first


def _unschedule(conn: Connection, user_id: int, post: Post, revision: int | None) -> None:
    """Nothing of it goes out any more: whoever schedules it again begins anew."""
    parts, rows = _locked(conn, user_id, post.id)
    if post.revision != revision:
        raise Conflict("This post was changed in another window meanwhile. Look at it before you change it again.")
    _still_here(rows, "taken back")
    if any(row.is_set_aside for row in rows):
        raise Conflict("A part of it has become a post of its own. Take the others back by “Cancel” on its page.")
    deliveries.forget(conn, [part.id for part in parts])


_OUT_OF_ITS_OWN = (
    "On one of these accounts a part of it has become a post of its own, and would be out twice."
    " Take that account off here."
)


def edit(
    conn: Connection,
    user_id: int,
    post_id: int,
    new: NewPost,
    *,
    revision: int,
    now: datetime,
) -> Scheduled:
    """The whole post anew, as long as nothing of it has left. A draft becomes scheduled. Raises Invalid, Conflict."""
    parts, rows = _locked(conn, user_id, post_id)
    if parts[0].revision != revision:
        raise Conflict("This post was changed in another window meanwhile. Look at it before you change it again.")
    _still_here(rows, "changed")
    preflight.refuse(conn, user_id, new, now=now)
    chosen = set(new.account_ids)
    if chosen & {row.account_id for row in rows if row.is_set_aside}:
        raise Invalid({"accounts": _OUT_OF_ITS_OWN})
    dropped = [row.id for row in rows if row.account_id not in chosen]
    deliveries.cancel(conn, dropped, "You took this account off the post.")
    posts.delete(conn, [part.id for part in parts[1:]])
    first = posts.update(conn, post_id, new, new.content, draft=False)
    for row in rows:
        if row.post_id == post_id and row.account_id in chosen and row.status in ("cancelled", "failed", "missed"):
            deliveries.ask_again(conn, row.id, now, "You changed the post and scheduled it again.")
    kept = deliveries.begin_again(conn, post_id, "You changed the post.")
    added = deliveries.create(conn, post_id, new.account_ids, "Scheduled.")
    rest = _store_thread(conn, user_id, new, first, draft=False)
    return Scheduled([first, *rest.posts], [*kept, *added, *rest.deliveries])


def move(
    conn: Connection,
    user_id: int,
    post_id: int,
    post_date: datetime,
    *,
    now: datetime,
    time_zone: str | None = None,
) -> list[Delivery]:
    """Another time, in the zone it was chosen in, nothing else. What is prepared stays prepared where it keeps long enough."""
    if said := preflight.date_problem(post_date, now):
        raise Invalid({"post_date": said})
    parts, rows = _locked(conn, user_id, post_id)
    _still_here(rows, "moved")
    ids = [part.id for part in parts]
    posts.set_date(conn, ids, max(post_date, now), time_zone)
    return _any(deliveries.move(conn, ids, "You moved the post to another time."))


def publish_now(conn: Connection, user_id: int, post_id: int, *, now: datetime) -> list[Delivery]:
    """All that waits or was missed. Raises Conflict when nothing does."""
    parts, rows = _locked(conn, user_id, post_id)
    _still_here(rows, "published again")
    ids = [part.id for part in parts]
    posts.set_date(conn, ids, now)
    return _any(deliveries.move(conn, ids, "You asked to publish now."))


def cancel(conn: Connection, user_id: int, post_id: int) -> list[Delivery]:
    """All that has not left yet. Raises Conflict when nothing could be held back any more."""
    _, rows = _locked(conn, user_id, post_id)
    stopped = deliveries.cancel(conn, [row.id for row in rows], "You cancelled it.")
    if not stopped:
        raise Conflict("It is too late to cancel: nothing of this post is waiting any more.")
    return stopped


def delete(conn: Connection, user_id: int, post_id: int) -> None:
    """Forget the post here. What is published stays on the networks. Not while a request may be under way."""
    parts, rows = _locked(conn, user_id, post_id)
    if any(row.status in IN_FLIGHT for row in rows):
        raise Conflict("It is being sent right now. Wait until its outcome is known, then delete it.")
    posts.delete(conn, [part.id for part in reversed(parts)])


def retry(conn: Connection, user_id: int, delivery_id: int, *, now: datetime) -> list[Delivery]:
    """Once more on one account, for what failed, was missed or was cancelled; parts behind it are late with it."""
    if _own_delivery(conn, user_id, delivery_id).is_set_aside:
        raise Conflict("It has become a post of its own. Sent from here, too, it would be out twice.")
    again = deliveries.ask_again(conn, delivery_id, now, "You asked to try again.")
    if not again:
        raise Conflict("There is nothing to try again: its state has changed meanwhile.")
    return [*again, *deliveries.ask_with(conn, delivery_id, now)]


def set_aside(conn: Connection, user_id: int, delivery_id: int, new: NewPost) -> None:
    """`new` goes out in its place, where it goes to its account. Raises NotFound, Conflict when it is on its way itself."""
    found = _own_delivery(conn, user_id, delivery_id)
    if found.account_id in new.account_ids and not deliveries.set_aside(
        conn, delivery_id, "You made it a post of its own. It is not sent from here any more."
    ):
        raise Conflict("It is on its way by itself meanwhile. Look at its page before you send it once more.")


def settle(
    conn: Connection, user_id: int, delivery_id: int, *, published: bool, now: datetime, seen: Receipt | None = None
) -> list[Delivery]:
    """A person's word on an outcome that no look could decide, and what stands where they `seen` it (verify_link.py)."""
    _own_delivery(conn, user_id, delivery_id)
    if published:
        moved = deliveries.settle_published(
            conn,
            delivery_id,
            "You confirmed that it is on the network.",
            remote_id=seen.remote_id if seen else None,
            permalink=seen.permalink if seen else None,
        )
    else:
        moved = deliveries.settle_absent(
            conn, delivery_id, now, "You confirmed that it is not on the network. It is sent again."
        )
    if not moved:
        raise Conflict("This has been decided meanwhile.")
    behind = deliveries.ask_with(conn, delivery_id, now)
    return behind if published else [*moved, *behind]


def acknowledge(conn: Connection, user_id: int, delivery_id: int) -> list[Delivery]:
    """They have seen what is wrong with a post that is out: nothing is sent."""
    _own_delivery(conn, user_id, delivery_id)
    if not deliveries.acknowledge(conn, delivery_id, "You have seen it."):
        raise Conflict("This has been seen before.")
    return []


def _any(moved: list[Delivery]) -> list[Delivery]:
    if not moved:
        raise Conflict("Nothing of this post is waiting any more. Look at it before you do anything else.")
    return moved


def _own_delivery(conn: Connection, user_id: int, delivery_id: int) -> Delivery:
    """Held with its thread until the transaction ends, so that what other windows do comes before or after; as it is then.
    Raises NotFound.
    """
    found = deliveries.get(conn, user_id, delivery_id)
    if found:
        posts.hold(conn, user_id, found.post_id)
        found = deliveries.get(conn, user_id, delivery_id)
    if found is None:
        raise NotFound("There is no such delivery.")
    return found


# -- rows ---------------------------------------------------------------------------------------------------


def _locked(conn: Connection, user_id: int, post_id: int) -> tuple[list[Post], list[Delivery]]:
    """All parts and their deliveries, held until the transaction ends. Raises NotFound."""
    posts.hold(conn, user_id, post_id)
    parts = posts.thread(conn, user_id, post_id)
    if not parts:  # deleted while we waited
        raise NotFound("There is no such post.")
    return parts, deliveries.of_posts(conn, user_id, [part.id for part in parts], lock=True)


def _still_here(rows: Sequence[Delivery], verb: str) -> None:
    if any(row.status in IN_FLIGHT for row in rows):
        raise Conflict(f"It is being sent right now, so it cannot be {verb} any more.")
    gone = {DeliveryStatus.published, DeliveryStatus.attention}
    if any(row.status in gone for row in rows):
        raise Conflict(f"Part of this post is out already, so it cannot be {verb} as a whole.")


def _store(conn: Connection, user_id: int, new: NewPost, form_key: str | None) -> Scheduled:
    first = posts.insert(conn, user_id, new, new.content, parent_id=None, draft=False, form_key=form_key)
    if first is None:  # the same form came in twice at once
        return Scheduled([_stored_before(conn, user_id, form_key)], [])
    rows = deliveries.create(conn, first.id, new.account_ids, "Scheduled.")
    rest = _store_thread(conn, user_id, new, first, draft=False)
    return Scheduled([first, *rest.posts], [*rows, *rest.deliveries])


def _sent_before(conn: Connection, user_id: int, before: Post, new: NewPost) -> list[Post]:
    """The thread that this form has made. Raises Conflict when it says something else by now."""
    parts = posts.thread(conn, user_id, before.id)
    if [part.content for part in parts] != preflight.contents(new):
        raise Conflict("This form was sent before, and the post it made waits in the queue. Open and edit that one.")
    return parts


def _stored_before(conn: Connection, user_id: int, form_key: str | None) -> Post:
    before = posts.by_form(conn, user_id, form_key or "")
    if before is None:
        raise Conflict("This form was sent twice. Look at the queue before you send it again.")
    return before


def _store_thread(conn: Connection, user_id: int, new: NewPost, first: Post, *, draft: bool) -> Scheduled:
    """The parts after the first, each a reply to the one before."""
    before, parts, rows = first, list[Post](), list[Delivery]()
    for content in new.thread:
        part = posts.insert(conn, user_id, new, content, parent_id=before.id, draft=draft, form_key=None)
        if part is None:
            raise Conflict("This thread was stored meanwhile.")
        if not draft:
            rows += deliveries.create(conn, part.id, new.account_ids, "Scheduled as a part of a thread.")
        parts.append(part)
        before = part
    return Scheduled(parts, rows)
