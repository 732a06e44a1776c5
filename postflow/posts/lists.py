"""The lists of the queue: what is coming, is out, needs somebody, drafts, and the rest; a thread is one entry."""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from psycopg import Connection
from psycopg.rows import class_row, dict_row

from postflow.models import Delivery, DeliveryStatus, Post
from postflow.posts.posts import COLUMNS, Line, lines

#: `Delivery.is_flawed`.
_FLAWED: LiteralString = "(d.status = 'published' AND d.error_code IS NOT NULL)"
#: Whose person has something to do about it: also what is out, and lacks something, until they have seen it.
_NEEDS_ATTENTION: LiteralString = "(d.status IN ('failed', 'attention', 'missed') OR " + _FLAWED + ")"
#: What has not ended well or not at all in the further parts of threads, with every post above such a part.
_LATER: LiteralString = (
    """
    WITH RECURSIVE later AS (
        SELECT part.parent_id AS above, d.status, """
    + _NEEDS_ATTENTION
    + """ AS needs_attention FROM posts part JOIN deliveries d ON d.post_id = part.id
         WHERE part.user_id = %(user_id)s AND part.parent_id IS NOT NULL
           AND (d.status NOT IN ('published', 'cancelled') OR """
    + _FLAWED
    + """)
        UNION
        SELECT p.parent_id, later.status, later.needs_attention FROM posts p JOIN later ON p.id = later.above
         WHERE p.parent_id IS NOT NULL)
"""
)
#: Which posts a tab of the queue shows; each is a condition on `posts p` beside `later`. A thread is where its parts are.
_VIEWS: dict[str, LiteralString] = {
    "upcoming": """p.draft_account_ids IS NULL AND (EXISTS (SELECT FROM deliveries d WHERE d.post_id = p.id
            AND d.status IN ('scheduled', 'preparing', 'ready', 'sending', 'unknown'))
        OR p.id IN (SELECT above FROM later WHERE status IN ('scheduled', 'preparing', 'ready', 'sending', 'unknown')))""",
    "published": """p.draft_account_ids IS NULL AND EXISTS (SELECT FROM deliveries d WHERE d.post_id = p.id
        AND d.status = 'published')""",
    "attention": "p.draft_account_ids IS NULL AND (EXISTS (SELECT FROM deliveries d WHERE d.post_id = p.id AND "
    + _NEEDS_ATTENTION
    + ") OR p.id IN (SELECT above FROM later WHERE needs_attention))",
    "drafts": "p.draft_account_ids IS NOT NULL",
}
#: All that no other list has, so that nothing a person made is out of reach: cancelled, in the first place.
_VIEWS["cancelled"] = (
    "NOT (" + _VIEWS["upcoming"] + ") AND NOT (" + _VIEWS["published"] + ") AND NOT (" + _VIEWS["attention"] + ")"
    " AND NOT (" + _VIEWS["drafts"] + ")"
)
_ORDER: dict[str, LiteralString] = {
    "upcoming": "p.post_date ASC, p.id ASC",
    "published": "p.post_date DESC, p.id DESC",
    "attention": "p.post_date DESC, p.id DESC",
    "drafts": "p.updated_at DESC, p.id DESC",
    "cancelled": "p.post_date DESC, p.id DESC",
}


class Summary(NamedTuple):
    """A post in a list: of a thread, per account the part that most needs to be known about."""

    post: Post
    deliveries: list[Line]
    places: dict[int, int]  # of its parts by their ids, from 1

    @property
    def is_thread(self) -> bool:
        return len(self.places) > 1


#: What a person should hear of first.
_URGENT = (
    DeliveryStatus.attention, DeliveryStatus.failed, DeliveryStatus.missed, DeliveryStatus.unknown,
    DeliveryStatus.sending, DeliveryStatus.preparing, DeliveryStatus.ready, DeliveryStatus.scheduled,
    DeliveryStatus.cancelled, DeliveryStatus.published,
)  # fmt: skip


def page(conn: Connection, user_id: int, view: str, *, before: int = 0, limit: int = 50) -> list[Summary]:
    """One page of a tab; `before` is how many posts earlier pages have shown."""
    query: LiteralString = (
        _LATER + "SELECT " + COLUMNS + " FROM posts p WHERE p.user_id = %(user_id)s AND p.parent_id IS NULL AND "
    )
    query = query + _VIEWS[view] + " ORDER BY " + _ORDER[view] + " LIMIT %(limit)s OFFSET %(before)s"
    with conn.cursor(row_factory=class_row(Post)) as cursor:
        found = cursor.execute(query, {"user_id": user_id, "limit": limit, "before": before}).fetchall()
    threads = _threads(conn, [post.id for post in found])
    by_post = lines(conn, user_id, [part for parts in threads.values() for part in parts])
    return [_summary(post, threads[post.id], by_post) for post in found]


def _threads(conn: Connection, first_ids: Sequence[int]) -> dict[int, list[int]]:
    """The ids of all parts, in order, by the first's."""
    rows = conn.execute(
        "WITH RECURSIVE parts AS (SELECT id AS first, id, 1 AS place FROM posts WHERE id = ANY(%(ids)s)"
        " UNION ALL SELECT parts.first, p.id, place + 1 FROM posts p JOIN parts ON p.parent_id = parts.id)"
        " SELECT first, array_agg(id ORDER BY place) FROM parts GROUP BY first",
        {"ids": list(first_ids)},
    ).fetchall()
    return dict(rows)


def _summary(post: Post, parts: Sequence[int], by_post: dict[int, list[Line]]) -> Summary:
    shown: dict[int, Line] = {}
    for line in (line for part in parts for line in by_post[part]):
        before = shown.get(line.account.id)
        if before is None or _urgency(line.delivery) < _urgency(before.delivery):
            shown[line.account.id] = line
    return Summary(post, list(shown.values()), {part: place for place, part in enumerate(parts, 1)})


def _urgency(delivery: Delivery) -> tuple[bool, int]:
    return not delivery.is_flawed, _URGENT.index(delivery.status)


def counts(conn: Connection, user_id: int) -> dict[str, int]:
    """How many posts each tab has."""
    columns: LiteralString = ""
    for view, condition in _VIEWS.items():
        name: LiteralString = view  # pyright: ignore[reportAssignmentType] keys of a constant
        columns += (", " if columns else "") + "count(*) FILTER (WHERE " + condition + ") AS " + name
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            _LATER + "SELECT " + columns + " FROM posts p WHERE p.user_id = %(user_id)s AND p.parent_id IS NULL",
            {"user_id": user_id},
        ).fetchone()
    return dict(row or {})
