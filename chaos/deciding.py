"""What only a person can tell: they look at the account, as it is, and say what they see."""

from datetime import timedelta

from psycopg import Connection

from chaos.people import People
from chaos.rows import Row, rows_of
from chaos.stage import Stage
from postflow import db, scheduling, waking
from postflow.errors import Conflict
from postflow.models import Receipt
from sandbox.ledger import StatusEntry


def decide(stage: Stage, people: People) -> None:
    """Whatever is left to a person, unless its like is being looked for: then nobody could tell whose it is."""
    with stage.connect() as conn:
        rows = rows_of(conn, people.numbers)
        for row in rows:
            alike = [one for one in rows if (one.handle, one.text) == (row.handle, row.text)]
            if row.status == "attention" and not any(one.status in ("sending", "unknown") for one in alike):
                people.asked.append((row, timedelta(seconds=stage.aged_s)))
                _say(conn, people, row, _seen(conn, stage, row))


def _seen(conn: Connection, stage: Stage, row: Row) -> StatusEntry | None:
    """A status in its words that no other post of the run is known by."""
    known = {one for (one,) in conn.execute("SELECT remote_id FROM deliveries WHERE remote_id IS NOT NULL")}
    there = stage.sandbox.ledger.statuses(text=row.text, published=True)
    return next(
        (one for one in there if one.handle == row.handle and one.text == row.text and one.id not in known), None
    )


def _say(conn: Connection, people: People, row: Row, seen: StatusEntry | None) -> None:
    assert row.place
    receipt = Receipt(remote_id=seen.id, permalink=seen.url) if seen else None
    try:
        with conn.transaction():
            now, user_id = db.now(conn), people.user_of(row.place[0])
            moved = scheduling.settle(conn, user_id, row.id, published=seen is not None, now=now, seen=receipt)
            waking.publish_later(conn, moved)
    except Conflict:  # answered late, just now
        people.asked.pop()
