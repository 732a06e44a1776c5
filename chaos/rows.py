"""Deliveries as the run reads them."""

import re
from datetime import datetime
from typing import NamedTuple

from psycopg import Connection
from psycopg.rows import dict_row

MARKER = re.compile(r"Chaos post (\d+)\.(\d+), version \d+")


class Row(NamedTuple):
    """One delivery at the end."""

    id: int
    place: tuple[int, int] | None  # in the plan: post and part
    handle: str
    platform: str
    status: str
    text: str
    post_date: datetime
    remote_id: str | None
    error_code: str | None
    error: str | None
    faults: int
    container: str | None  # Instagram: what was published, or should have been
    sent_at: datetime | None  # when its last attempt began, by its story
    struck: bool  # since then its story tells that whoever sent it was gone before the answer was written down
    deaths: int  # of workers that prepared it
    pictures: int = 0
    forgotten: bool = False  # since then, or ever, its story tells that the database may have forgotten a request
    told_twice: bool = False  # its person was told that it is out twice
    last_end: str | None = None  # of its last attempt: why its outcome was open, and after how many seconds


def rows_of(conn: Connection, numbers: dict[int, int]) -> list[Row]:
    """`numbers`: of the plan, by the id of a post's first part. An edit may make the others anew."""
    with conn.cursor(row_factory=dict_row) as cursor:
        return [
            Row(place=_place(numbers.get(one.pop("post_id")), one["text"]), **one)
            for one in cursor.execute(_ROWS).fetchall()
        ]


def _place(number: int | None, text: str) -> tuple[int, int] | None:
    told = MARKER.fullmatch(text)
    return (number, int(told[2])) if told and number is not None else None


_ROWS = """
    SELECT d.id, coalesce(p2.id, p1.id, p.id) AS post_id,
           ltrim(a.handle, '@') AS handle, a.platform, d.status, p.content->>'text' AS text, p.post_date,
           d.remote_id, d.error_code, d.error, d.faults, d.staged->'parent'->>'remote_id' AS container, sent.at AS sent_at,
           EXISTS(SELECT FROM delivery_events e WHERE e.delivery_id = d.id AND e.id > sent.id AND e.status = 'unknown'
                     AND e.detail->>'code' IN ('worker_gone', 'worker_stopped')) AS struck,
           EXISTS(SELECT FROM delivery_events e WHERE e.delivery_id = d.id AND e.id > coalesce(sent.id, 0)
                     AND e.detail->>'code' IN ('forgotten', 'restored')) AS forgotten,
           (SELECT count(*) FROM delivery_events e WHERE e.delivery_id = d.id AND e.status = 'scheduled'
               AND e.detail->>'code' = 'worker_gone') AS deaths,
           coalesce(jsonb_array_length(p.content->'attachments'), 0) AS pictures,
           array_to_string(d.notes, ' ') LIKE '%%on the account twice%%'
               AND EXISTS(SELECT FROM notices n WHERE n.user_id = a.user_id AND n.key = 'twice:' || d.id) AS told_twice,
           (SELECT concat_ws(', ', e.detail->>'code', e.detail->>'detail',
                             'after ' || round(extract(epoch FROM e.at - sent.at), 1) || ' s')
              FROM delivery_events e WHERE e.delivery_id = d.id AND e.id > sent.id AND e.status = 'unknown'
             ORDER BY e.id LIMIT 1) AS last_end
      FROM deliveries d JOIN posts p ON p.id = d.post_id JOIN accounts a ON a.id = d.account_id
      LEFT JOIN posts p1 ON p1.id = p.parent_id LEFT JOIN posts p2 ON p2.id = p1.parent_id
      LEFT JOIN LATERAL (SELECT e.id, e.at FROM delivery_events e
                          WHERE e.delivery_id = d.id AND e.status = 'sending' ORDER BY e.id DESC LIMIT 1) sent ON true
     ORDER BY d.id
"""
