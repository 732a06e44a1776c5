"""The same words sent to the same account once more: by the browser's Back button, a restored tab, two windows.

Each page of the composer has a form key of its own, so the key tells only a form that is sent twice.
This looks at what was said.
"""

from psycopg import Connection
from psycopg.types.json import Jsonb

from postflow.errors import SentBefore
from postflow.models import NewPost

#: A post of longer ago is no slip of the hand any more.
RECENT_DAYS = 7


def refuse(
    conn: Connection, user_id: int, new: NewPost, *, form_key: str | None, but: int | None, knowingly: int | None
) -> None:
    """Raises SentBefore when another post of the same content is out, waits or may be out on one of these accounts. One that
    waits for another time is no slip: whoever chose two dates meant both.

    `but` is the post that is being edited, `knowingly` the one that its person was told of and wants to send once more.
    What the same person sends at the same instant from another window waits until this transaction ends.
    """
    conn.execute("SELECT FROM users WHERE id = %(user_id)s FOR NO KEY UPDATE", {"user_id": user_id})
    twin = conn.execute(
        """
        SELECT p.id FROM posts p
         WHERE p.user_id = %(user_id)s AND p.content = %(content)s AND p.post_date > now() - make_interval(days => %(days)s)
           AND (p.post_date <= now() OR p.post_date = %(at)s OR %(at)s <= now())
           AND p.id IS DISTINCT FROM %(but)s AND p.form_key IS DISTINCT FROM %(form_key)s
           AND EXISTS (SELECT FROM deliveries d WHERE d.post_id = p.id AND d.account_id = ANY(%(account_ids)s)
                          AND d.status NOT IN ('failed', 'missed', 'cancelled'))
         ORDER BY p.id DESC LIMIT 1
        """,
        {
            "user_id": user_id, "content": Jsonb(new.content.model_dump(mode="json")), "days": RECENT_DAYS, "but": but,
            "form_key": form_key or "no form", "at": new.post_date, "account_ids": list(new.account_ids),
        },
    ).fetchone()  # fmt: skip
    if twin and twin[0] != knowingly:
        raise SentBefore(
            "The same post is out already or on its way, on one of these accounts. Nothing was sent.", twin[0]
        )
