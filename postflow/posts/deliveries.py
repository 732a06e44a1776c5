"""The deliveries table as people meet it: reading, and the arrows that a person moves.

Every arrow is one guarded UPDATE that appends its line to the delivery's story in the same statement; no row back
means somebody else was first. The worker's arrows are in `postflow.publishing.transitions`; docs/lifecycle.md draws them all.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString

from psycopg import Connection
from psycopg.errors import UniqueViolation
from psycopg.rows import class_row

from postflow.errors import Conflict
from postflow.models import SET_ASIDE, Delivery, DeliveryEvent

COLUMNS: LiteralString = """
    id, post_id, account_id, status, status_at, revision, staged, attempt_no, key_seed, key_no, asked_at, not_before,
    wake_at, claim, first_sent_at, sent_at, published_at, remote_id, permalink, looks, absent_looks, first_absent_at,
    faults, deaths, pauses, error_code, error, next_step, notes, created_at
"""


#: What is out, and was sent more than once, may be out twice: postflow.publishing.rechecking looks, first after so long.
FIRST_RECHECK_S = 300
PLAN_RECHECK: LiteralString = """
    INSERT INTO rechecks (delivery_id, look_at, since)
    SELECT %(id)s, clock_timestamp() + make_interval(secs => %(in_s)s), min(sent.at)
      FROM delivery_events sent
     WHERE sent.delivery_id = %(id)s AND sent.status = 'sending'
    HAVING EXISTS (SELECT FROM delivery_events lost WHERE lost.delivery_id = %(id)s AND lost.status = 'unknown'
                      AND lost.id < max(sent.id))
    ON CONFLICT (delivery_id) DO UPDATE SET look_at = excluded.look_at, looks = 0
"""


def told(update: LiteralString) -> LiteralString:
    """An UPDATE of deliveries plus its event: give %(sentence)s and %(detail)s (Jsonb) with the parameters."""
    return (
        "WITH moved AS ("
        + update
        + " RETURNING deliveries.*), told AS (INSERT INTO delivery_events (delivery_id, status, sentence, detail)"
        " SELECT id, status, %(sentence)s, %(detail)s FROM moved) SELECT " + COLUMNS + " FROM moved ORDER BY id"
    )


# -- reading -----------------------------------------------------------------------------------------------


def get(conn: Connection, user_id: int, delivery_id: int) -> Delivery | None:
    with conn.cursor(row_factory=class_row(Delivery)) as cursor:
        return cursor.execute(
            "SELECT " + COLUMNS + " FROM deliveries WHERE id = %(id)s AND post_id IN"
            " (SELECT id FROM posts WHERE user_id = %(user_id)s)",
            {"id": delivery_id, "user_id": user_id},
        ).fetchone()


def of_posts(conn: Connection, user_id: int, post_ids: Sequence[int], *, lock: bool = False) -> list[Delivery]:
    """In the order they were made. `lock` holds the rows until the transaction ends: a worker's claim waits."""
    query: LiteralString = (
        "SELECT " + COLUMNS + " FROM deliveries WHERE post_id = ANY(%(post_ids)s) AND post_id IN"
        " (SELECT id FROM posts WHERE user_id = %(user_id)s) ORDER BY id"
    )
    with conn.cursor(row_factory=class_row(Delivery)) as cursor:
        return cursor.execute(
            query + (" FOR UPDATE" if lock else ""), {"post_ids": list(post_ids), "user_id": user_id}
        ).fetchall()


def events(conn: Connection, user_id: int, post_id: int) -> list[DeliveryEvent]:
    """The story of all deliveries of a post, oldest first."""
    with conn.cursor(row_factory=class_row(DeliveryEvent)) as cursor:
        return cursor.execute(
            """
            SELECT e.id, e.delivery_id, e.at, e.status, e.sentence, e.detail
              FROM delivery_events e
              JOIN deliveries d ON d.id = e.delivery_id
              JOIN posts p ON p.id = d.post_id
             WHERE p.id = %(post_id)s AND p.user_id = %(user_id)s
             ORDER BY e.id
            """,
            {"post_id": post_id, "user_id": user_id},
        ).fetchall()


# -- arrows moved by a person ------------------------------------------------------------------------------


def create(conn: Connection, post_id: int, account_ids: Sequence[int], sentence: str) -> list[Delivery]:
    """∅ → scheduled, one per account, due at the post's date."""
    return _moved(
        conn,
        """
        WITH moved AS (
            INSERT INTO deliveries (post_id, account_id, revision, wake_at)
            SELECT p.id, a, p.revision, p.post_date FROM posts p, unnest(%(account_ids)s::bigint[]) AS a
             WHERE p.id = %(post_id)s
            ON CONFLICT (post_id, account_id) DO NOTHING
            RETURNING *),
        told AS (INSERT INTO delivery_events (delivery_id, status, sentence, detail)
            SELECT id, status, %(sentence)s, '{}' FROM moved)
        SELECT """
        + COLUMNS
        + " FROM moved ORDER BY id",
        {"post_id": post_id, "account_ids": list(account_ids), "sentence": sentence},
    )


def begin_again(conn: Connection, post_id: int, sentence: str) -> list[Delivery]:
    """scheduled, preparing, ready → scheduled: the post was edited; what was prepared belongs to the old text."""
    return _moved(
        conn,
        told(
            """
            UPDATE deliveries SET status = 'scheduled', status_at = clock_timestamp(), staged = NULL, staged_at = NULL,
                   claim = NULL, revision = p.revision, not_before = NULL, first_sent_at = NULL, wake_at = p.post_date,
                   faults = 0, deaths = 0, pauses = 0
              FROM posts p
             WHERE p.id = deliveries.post_id AND p.id = %(post_id)s
               AND status IN ('scheduled', 'preparing', 'ready')
            """
        ),
        {"post_id": post_id, "sentence": sentence, "detail": "{}"},
    )


def move(conn: Connection, post_ids: Sequence[int], sentence: str) -> list[Delivery]:
    """scheduled, ready → the same; preparing, missed → scheduled: post_date has changed, what is prepared stays good."""
    return _moved(
        conn,
        told(
            """
            UPDATE deliveries SET status = CASE status WHEN 'ready' THEN 'ready' ELSE 'scheduled' END,
                   status_at = clock_timestamp(), claim = NULL, not_before = NULL, asked_at = NULL,
                   faults = 0, deaths = 0, pauses = 0, error = NULL, error_code = NULL, next_step = NULL, wake_at = p.post_date
              FROM posts p
             WHERE p.id = deliveries.post_id AND p.id = ANY(%(post_ids)s)
               AND status IN ('scheduled', 'preparing', 'ready', 'missed')
            """
        ),
        {"post_ids": list(post_ids), "sentence": sentence, "detail": "{}"},
    )


def cancel(conn: Connection, delivery_ids: Sequence[int], sentence: str) -> list[Delivery]:
    """scheduled, preparing, ready → cancelled. Not once a request may have left."""
    return _moved(
        conn,
        told(
            """
            UPDATE deliveries SET status = 'cancelled', status_at = clock_timestamp(), wake_at = NULL, claim = NULL
             WHERE id = ANY(%(ids)s) AND status IN ('scheduled', 'preparing', 'ready')
            """
        ),
        {"ids": list(delivery_ids), "sentence": sentence, "detail": "{}"},
    )


def forget(conn: Connection, post_ids: Sequence[int]) -> None:
    """No arrow: what becomes a draft again has no deliveries, and is given new ones when it is scheduled. A worker that has
    one of them in hand finds that it is gone, as when the post is deleted.
    """
    conn.execute("DELETE FROM deliveries WHERE post_id = ANY(%(ids)s)", {"ids": list(post_ids)})


def forget_remote(conn: Connection, account_id: int) -> None:
    """No arrow: where it is published is no longer known here. What is on its way keeps what it needs."""
    conn.execute(
        """
        UPDATE deliveries SET remote_id = NULL, permalink = NULL, staged = NULL, staged_at = NULL
         WHERE account_id = %(id)s AND status NOT IN ('scheduled', 'preparing', 'ready', 'sending', 'unknown')
        """,
        {"id": account_id},
    )


def ask_again(conn: Connection, delivery_id: int, at: datetime, sentence: str) -> list[Delivery]:
    """failed, missed, cancelled → scheduled: the person wants another try; lateness counts from now."""
    return _moved(
        conn,
        told(
            """
            UPDATE deliveries SET status = 'scheduled', status_at = clock_timestamp(), asked_at = %(at)s,
                   wake_at = greatest(p.post_date, %(at)s), not_before = NULL, faults = 0, deaths = 0, pauses = 0,
                   staged = NULL, staged_at = NULL, key_no = key_no + 1, revision = p.revision, first_sent_at = NULL,
                   sent_at = NULL, looks = 0, absent_looks = 0, first_absent_at = NULL,
                   error = NULL, error_code = NULL, next_step = NULL
              FROM posts p
             WHERE p.id = deliveries.post_id AND deliveries.id = %(id)s AND status IN ('failed', 'missed', 'cancelled')
            """
        ),
        {"id": delivery_id, "at": at, "sentence": sentence, "detail": "{}"},
    )


def ask_with(conn: Connection, delivery_id: int, at: datetime) -> list[Delivery]:
    """No arrow: the parts behind this one on its account, that still wait for it, are as late as it is itself. What a
    worker has read of them before no longer counts.
    """
    return _moved(
        conn,
        """
        WITH RECURSIVE behind AS (
            SELECT p.id, d.account_id FROM deliveries d JOIN posts p ON p.parent_id = d.post_id WHERE d.id = %(id)s
             UNION ALL
            SELECT p.id, b.account_id FROM posts p JOIN behind b ON p.parent_id = b.id),
        asked AS (
            UPDATE deliveries SET asked_at = %(at)s, status_at = clock_timestamp() FROM behind b
             WHERE deliveries.post_id = b.id AND deliveries.account_id = b.account_id
               AND status IN ('scheduled', 'preparing', 'ready')
            RETURNING deliveries.*)
        SELECT """
        + COLUMNS
        + " FROM asked ORDER BY id",
        {"id": delivery_id, "at": at},
    )


def set_aside(conn: Connection, delivery_id: int, sentence: str) -> list[Delivery]:
    """failed, missed, cancelled → cancelled for good: the person has made a post of its own of it."""
    return _moved(
        conn,
        told(
            """
            UPDATE deliveries SET status = 'cancelled', status_at = clock_timestamp(), wake_at = NULL,
                   error_code = %(code)s, error = NULL, next_step = NULL
             WHERE id = %(id)s AND status IN ('failed', 'missed', 'cancelled')
            """
        ),
        {"id": delivery_id, "sentence": sentence, "code": SET_ASIDE, "detail": "{}"},
    )


def acknowledge(conn: Connection, delivery_id: int, sentence: str) -> list[Delivery]:
    """published → published: the person has seen what is wrong with it. What it was stays among its notes."""
    return _moved(
        conn,
        told(
            """
            UPDATE deliveries SET notes = CASE WHEN error IS NULL THEN notes ELSE notes || error END,
                   error = NULL, error_code = NULL, next_step = NULL
             WHERE id = %(id)s AND status = 'published' AND error_code IS NOT NULL
            """
        ),
        {"id": delivery_id, "sentence": sentence, "detail": "{}"},
    )


def settle_published(
    conn: Connection, delivery_id: int, sentence: str, *, remote_id: str | None = None, permalink: str | None = None
) -> list[Delivery]:
    """attention → published: the person saw it on the network, and may have said where. Raises Conflict where another
    post stands there.
    """
    params: dict[str, object] = {"remote_id": remote_id, "permalink": permalink}
    try:
        moved = _moved(
            conn,
            told(
                """
                UPDATE deliveries SET status = 'published', status_at = clock_timestamp(),
                       published_at = coalesce(sent_at, now()), remote_id = %(remote_id)s, permalink = %(permalink)s,
                       error = NULL, error_code = NULL, next_step = NULL
                 WHERE id = %(id)s AND status = 'attention'
                """
            ),
            {"id": delivery_id, "sentence": sentence, "detail": "{}", **params},
        )
    except UniqueViolation:
        raise Conflict("Another of your posts stands at that address. Look again which one it is.") from None
    if moved and remote_id:  # without it nobody could tell a second one from it
        conn.execute(PLAN_RECHECK, {"id": delivery_id, "in_s": FIRST_RECHECK_S})
    return moved


def settle_absent(conn: Connection, delivery_id: int, at: datetime, sentence: str) -> list[Delivery]:
    """attention → scheduled: the person saw that it is not there; sent anew, with a new key and new uploads."""
    return _moved(
        conn,
        told(
            """
            UPDATE deliveries SET status = 'scheduled', status_at = clock_timestamp(), asked_at = %(at)s, wake_at = %(at)s,
                   not_before = NULL, faults = 0, deaths = 0, pauses = 0, staged = NULL, staged_at = NULL,
                   key_no = key_no + 1, first_sent_at = NULL, sent_at = NULL, looks = 0, absent_looks = 0,
                   first_absent_at = NULL, error = NULL, error_code = NULL, next_step = NULL
             WHERE id = %(id)s AND status = 'attention'
            """
        ),
        {"id": delivery_id, "at": at, "sentence": sentence, "detail": "{}"},
    )


def _moved(conn: Connection, query: LiteralString, params: dict[str, object]) -> list[Delivery]:
    with conn.cursor(row_factory=class_row(Delivery)) as cursor:
        return cursor.execute(query, params).fetchall()
