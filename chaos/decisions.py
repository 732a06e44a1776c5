"""What only a person can tell: they look at the account, as it is, and say what they see."""

from datetime import timedelta

from psycopg import Connection

from chaos.people import People
from chaos.rows import Row, rows_of
from chaos.stage import Stage
from postflow import db, jobs
from postflow.errors import Conflict
from postflow.models import Receipt
from postflow.posts import scheduling
from sandbox import Sandbox
from sandbox.core.ledger import StatusEntry


def decide(stage: Stage, people: People) -> None:
    """Whatever is left to a person, unless its like is being looked for: then nobody could tell whose it is."""
    with stage.connect() as conn:
        rows = rows_of(conn, people.numbers)
        for row in rows:
            alike = [one for one in rows if (one.handle, one.text) == (row.handle, row.text)]
            if row.status == "attention" and not any(one.status in ("sending", "unknown") for one in alike):
                people.asked.append((row, timedelta(seconds=stage.aged_s)))
                _say(conn, people, row, seen(conn, stage.sandbox, row))


def seen(conn: Connection, sandbox: Sandbox, row: Row) -> StatusEntry | None:
    """A status in its words that stands for no other post of the run, also not for one that is out and nobody knows where."""
    known, nowhere = set[str](), 0
    for (remote_id,) in conn.execute(
        """
        SELECT d.remote_id FROM deliveries d JOIN posts p ON p.id = d.post_id JOIN accounts a ON a.id = d.account_id
         WHERE d.status = 'published' AND ltrim(a.handle, '@') = %s AND p.content->>'text' = %s
        """,
        [row.handle, row.text],
    ):
        known |= {remote_id} - {None}
        nowhere += remote_id is None
    there = sandbox.ledger.statuses(text=row.text, published=True)
    left = [one for one in there if one.handle == row.handle and one.text == row.text and one.id not in known]
    return left[0] if len(left) > nowhere else None


def _say(conn: Connection, people: People, row: Row, status: StatusEntry | None) -> None:
    assert row.place
    receipt = Receipt(remote_id=status.id, permalink=status.url) if status else None
    try:
        with conn.transaction():
            now, user_id = db.now(conn), people.user_of(row.place[0])
            moved = scheduling.settle(conn, user_id, row.id, published=status is not None, now=now, seen=receipt)
            jobs.publish_later(conn, moved)
    except Conflict:  # answered late, just now
        people.asked.pop()
