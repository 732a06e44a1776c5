"""One line in the terminal for each delivery that came to rest while `postflow dev` runs.

published  mastodon   @ada@127.0.0.1:8901    12 ms late  http://127.0.0.1:8901/@ada/1
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

import psycopg

from postflow.dev import supervisor

_EVERY_S = 0.25

Key = tuple[int, str]


class Line(NamedTuple):
    status: str
    platform: str
    handle: str
    late_ms: int | None
    outcome: str

    def __str__(self) -> str:
        late = f"{self.late_ms:>6} ms late" if self.late_ms is not None else " " * 14
        return f"{self.platform:<10} {self.handle:<28} {late}  {self.outcome}"


@contextlib.contextmanager
def announced(database_url: str) -> Iterator[None]:
    """A thread looks for them as long as the block lasts."""
    over = threading.Event()
    thread = threading.Thread(target=_watch, args=(database_url, over), name="published", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(5)


def _watch(database_url: str, over: threading.Event) -> None:
    seen: set[Key] | None = None
    while not over.wait(_EVERY_S):
        # The database may restart: look again when it is back.
        with (
            contextlib.suppress(psycopg.OperationalError),
            psycopg.connect(database_url, autocommit=True) as conn,
        ):
            while not over.wait(_EVERY_S):
                lines = recent(conn)
                for key, line in lines:
                    if seen is not None and key not in seen:
                        supervisor.say(line.status, str(line))
                seen = {key for key, _ in lines}


def recent(conn: psycopg.Connection) -> list[tuple[Key, Line]]:
    """What came to rest within a minute, by delivery and instant.

    A look back instead of "newer than the last one": transactions commit in another order than they begin.
    """
    rows = conn.execute(
        """
        SELECT deliveries.id, deliveries.status_at::text, deliveries.status, platform, handle,
               round(extract(epoch FROM published_at - posts.post_date) * 1000)::int,
               coalesce(permalink, error, '')
        FROM deliveries
        JOIN accounts ON accounts.id = account_id
        JOIN posts ON posts.id = post_id
        WHERE deliveries.status IN ('published', 'failed', 'attention', 'missed')
          AND deliveries.status_at > now() - interval '1 minute'
        ORDER BY deliveries.status_at
        """
    ).fetchall()
    return [((delivery_id, at), Line(*line)) for delivery_id, at, *line in rows]
