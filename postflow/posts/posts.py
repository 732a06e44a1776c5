"""The posts table: all of its SQL. What the web reads takes `user_id`; another person's post is not there."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString, NamedTuple

from psycopg import Connection
from psycopg.errors import ForeignKeyViolation
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from postflow.errors import Invalid, NotFound
from postflow.models import Account, Content, Delivery, NewPost, Post
from postflow.posts import deliveries

COLUMNS: LiteralString = """
    id, user_id, parent_id, content, post_date, time_zone, grace_s, revision, draft_account_ids, created_at, updated_at
"""
_ACCOUNT_COLUMNS: LiteralString = """
    a.id, a.user_id, a.platform, a.base_url, a.remote_id, a.handle, a.display_name, a.avatar_url, a.profile_url,
    a.state, a.state_reason, a.token_expires_at, a.throttled_until, a.uploads_throttled_until, a.verified_at,
    a.created_at
"""


MEDIA_GONE = "One of the pictures is gone. Remove it and add it again."


class Line(NamedTuple):
    """One account's row under a post."""

    delivery: Delivery
    account: Account


# -- reading -----------------------------------------------------------------------------------------------


def get(conn: Connection, user_id: int, post_id: int) -> Post:
    """Raises NotFound."""
    with conn.cursor(row_factory=class_row(Post)) as cursor:
        found = cursor.execute(
            "SELECT " + COLUMNS + " FROM posts WHERE id = %(id)s AND user_id = %(user_id)s",
            {"id": post_id, "user_id": user_id},
        ).fetchone()
    if found is None:
        raise NotFound("There is no such post.")
    return found


def thread(conn: Connection, user_id: int, post_id: int) -> list[Post]:
    """The post and the parts that follow it, in order."""
    with conn.cursor(row_factory=class_row(Post)) as cursor:
        return cursor.execute(
            "WITH RECURSIVE parts AS (SELECT posts.*, 0 AS place FROM posts WHERE id = %(id)s AND user_id = %(user_id)s"
            " UNION ALL SELECT p.*, parts.place + 1 FROM posts p JOIN parts ON p.parent_id = parts.id)"
            " SELECT " + COLUMNS + " FROM parts ORDER BY place",
            {"id": post_id, "user_id": user_id},
        ).fetchall()


def first_of(conn: Connection, user_id: int, post_id: int) -> int:
    """The id of the thread's first part; a post that is no thread is its own. Raises NotFound."""
    row = conn.execute(
        "WITH RECURSIVE parts AS (SELECT id, parent_id FROM posts WHERE id = %(id)s AND user_id = %(user_id)s"
        " UNION ALL SELECT p.id, p.parent_id FROM posts p JOIN parts ON p.id = parts.parent_id)"
        " SELECT id FROM parts WHERE parent_id IS NULL",
        {"id": post_id, "user_id": user_id},
    ).fetchone()
    if row is None:
        raise NotFound("There is no such post.")
    return row[0]


def hold(conn: Connection, user_id: int, post_id: int) -> None:
    """Keeps everybody else's changes to the post's whole thread out until the transaction ends. Raises NotFound.

    Whoever waits here reads parts, revisions and deliveries after the other has committed, never before.
    """
    first = first_of(conn, user_id, post_id)
    conn.execute("SELECT FROM posts WHERE id = %(id)s FOR NO KEY UPDATE", {"id": first})


def lines(conn: Connection, user_id: int, post_ids: Sequence[int]) -> dict[int, list[Line]]:
    """Deliveries with their accounts, by post."""
    rows = deliveries.of_posts(conn, user_id, post_ids)
    with conn.cursor(row_factory=class_row(Account)) as cursor:
        accounts = {
            account.id: account
            for account in cursor.execute(
                "SELECT " + _ACCOUNT_COLUMNS + " FROM accounts a WHERE a.id = ANY(%(ids)s)",
                {"ids": [row.account_id for row in rows]},
            ).fetchall()
        }
    found: dict[int, list[Line]] = {post_id: [] for post_id in post_ids}
    for row in rows:
        found[row.post_id].append(Line(row, accounts[row.account_id]))
    return found


# -- writing -----------------------------------------------------------------------------------------------


def by_form(conn: Connection, user_id: int, form_key: str) -> Post | None:
    with conn.cursor(row_factory=class_row(Post)) as cursor:
        return cursor.execute(
            "SELECT " + COLUMNS + " FROM posts WHERE user_id = %(user_id)s AND form_key = %(form_key)s",
            {"user_id": user_id, "form_key": form_key},
        ).fetchone()


def insert(
    conn: Connection,
    user_id: int,
    new: NewPost,
    content: Content,
    *,
    parent_id: int | None,
    draft: bool,
    form_key: str | None,
) -> Post | None:
    """None when this form was stored before."""
    with conn.cursor(row_factory=class_row(Post)) as cursor:
        post = cursor.execute(
            "INSERT INTO posts (user_id, parent_id, content, post_date, time_zone, grace_s, draft_account_ids, form_key)"
            " VALUES (%(user_id)s, %(parent_id)s, %(content)s, %(post_date)s, %(time_zone)s, %(grace_s)s,"
            " %(draft_account_ids)s, %(form_key)s) ON CONFLICT (user_id, form_key) DO NOTHING RETURNING " + COLUMNS,
            {
                "user_id": user_id,
                "parent_id": parent_id,
                "form_key": form_key,
                **_stored(new, content, draft=draft),
            },
        ).fetchone()
    if post:
        _link_media(conn, post)
    return post


def update(conn: Connection, post_id: int, new: NewPost, content: Content, *, draft: bool) -> Post:
    """The next revision of a post whose ownership was checked."""
    with conn.cursor(row_factory=class_row(Post)) as cursor:
        post = cursor.execute(
            "UPDATE posts SET content = %(content)s, post_date = %(post_date)s, time_zone = %(time_zone)s,"
            " grace_s = %(grace_s)s, draft_account_ids = %(draft_account_ids)s, revision = revision + 1,"
            " updated_at = now() WHERE id = %(id)s RETURNING " + COLUMNS,
            {"id": post_id, **_stored(new, content, draft=draft)},
        ).fetchone()
    if post is None:
        raise NotFound("There is no such post.")
    conn.execute("DELETE FROM post_media WHERE post_id = %(id)s", {"id": post_id})
    _link_media(conn, post)
    return post


def set_date(conn: Connection, post_ids: Sequence[int], post_date: datetime, time_zone: str | None = None) -> None:
    conn.execute(
        "UPDATE posts SET post_date = %(post_date)s, time_zone = coalesce(%(time_zone)s, time_zone), updated_at = now()"
        " WHERE id = ANY(%(ids)s)",
        {"ids": list(post_ids), "post_date": post_date, "time_zone": time_zone},
    )


def delete(conn: Connection, post_ids: Sequence[int]) -> None:
    """With their deliveries and stories. Uploads stay until the purge finds them unused."""
    conn.execute("DELETE FROM posts WHERE id = ANY(%(ids)s)", {"ids": list(post_ids)})


def _stored(new: NewPost, content: Content, *, draft: bool) -> dict[str, object]:
    return {
        "content": Jsonb(content.model_dump(mode="json")),
        "post_date": new.post_date,
        "time_zone": new.time_zone,
        "grace_s": new.grace_s,
        "draft_account_ids": list(new.account_ids) if draft else None,
    }


def _link_media(conn: Connection, post: Post) -> None:
    """So that an upload in use is never purged. Raises Invalid for one that was purged a moment ago."""
    try:
        conn.execute(
            "INSERT INTO post_media (post_id, media_id) SELECT %(post_id)s, unnest(%(ids)s::bigint[])"
            " ON CONFLICT DO NOTHING",
            {"post_id": post.id, "ids": [attachment.media_id for attachment in post.content.attachments]},
        )
    except ForeignKeyViolation:
        raise Invalid({"media": MEDIA_GONE}) from None
