"""The end of a run: no more kills and faults, and the workers alone bring everything to its end.

Much of what is left waits for a network: an unknown outcome on Instagram is looked at for ten minutes. Where nothing is
due for a while, that while is skipped: whatever the database and the sandbox remember lies so much further back, and no
clock is touched. To a delivery that is no different from having waited. What is left to a person, its person answers
(deciding.py). Nothing else is done for it.
"""

import math
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import Connection, sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from chaos.decisions import decide
from chaos.execution import Say
from chaos.people import People
from chaos.stage import Stage

#: Real time in which nothing comes to its end: the sweep comes once a minute, and takes up what died last only when its lease
#: has run out. As long as something does, a busy machine has its time.
LONGEST_S = 330.0
TELLS_S = 10.0
#: So much is skipped at most, and at a time.
MOST_AGED_S = 4 * 3600
SKIPS_S = (30, 300)
#: A worker that lives renews its lease on what it prepares before so much is left of it (a minute, thrice renewed).
LEASE_OF_THE_LIVING_S = 35
#: What is due for longer has lost its job, and waits for the sweep.
OVERSLEPT_S = 25
#: Workers write down that they live every five seconds.
SILENT_S = 15

#: Every instant in these tables ages; the queue's own keep the time of the processes that work on it.
TABLES = ("accounts", "posts", "deliveries", "delivery_events", "rechecks", "media", "notices", "servers")
#: Rows that still have somewhere to go. `waits`: the part of the thread before it is not out yet; `is_held`: and never will
#: be, unless a person decides.
_MOVING: LiteralString = """
    WITH RECURSIVE held AS (
        SELECT post_id, account_id FROM deliveries WHERE status IN ('failed', 'missed', 'cancelled', 'attention')
         UNION
        SELECT p.id, held.account_id FROM posts p JOIN held ON held.post_id = p.parent_id),
    moving AS (
        SELECT d.status, d.claim, d.wake_at, coalesce(before.status <> 'published', false) AS waits,
               EXISTS(SELECT FROM held WHERE held.post_id = d.post_id AND held.account_id = d.account_id) AS is_held
          FROM deliveries d JOIN posts p ON p.id = d.post_id
          LEFT JOIN deliveries before ON before.post_id = p.parent_id AND before.account_id = d.account_id
         WHERE d.status IN ('scheduled', 'preparing', 'ready', 'sending', 'unknown'))
"""


class Left(NamedTuple):
    """What still is under way. Parts of a thread whose part before failed or was cancelled wait for a person."""

    deliveries: int
    jobs: int  # that nobody works on: their worker is gone, or they are due and untaken
    undecided: int = 0  # left to a person who has not said anything yet
    unseen: int = 0  # posts that are out twice and were not looked at again so far


class Next(NamedTuple):
    busy: bool  # somebody holds a lease that still runs, or something is due
    in_s: float | None  # when the next row that waits for nothing but time wants something


def let_it_end(stage: Stage, people: People, say: Say) -> Left:
    """What is left when everything is at rest, or when patience ends: that is stuck."""
    give_up, fewest = time.monotonic() + LONGEST_S, math.inf
    told_at = 0.0
    while (left := _left(stage)) != (0, 0, 0, 0) or stage.crew.is_any_frozen:
        if sum(left) < fewest:
            give_up, fewest = time.monotonic() + LONGEST_S, sum(left)
        if time.monotonic() > give_up:
            break
        if time.monotonic() - told_at > TELLS_S:
            say(f"      {left.deliveries} still under way, {left.jobs} jobs without a worker, {stage.aged_s} s skipped")
            told_at = time.monotonic()
        stage.keep_alive()
        if left.undecided:
            decide(stage, people)
        if (left.deliveries or left.unseen) and stage.aged_s < MOST_AGED_S:
            _skip(stage)
        time.sleep(0.5)
    return left


def _left(stage: Stage) -> Left:
    with stage.connect() as conn, conn.cursor(row_factory=class_row(Left)) as cursor:
        found = cursor.execute(
            _MOVING
            + """
            SELECT (SELECT count(*) FROM moving WHERE NOT is_held) AS deliveries,
                   (SELECT count(*) FROM procrastinate_jobs j LEFT JOIN procrastinate_workers w ON w.id = j.worker_id
                     WHERE (j.status = 'todo' AND coalesce(j.scheduled_at, now()) <= now()) OR (j.status = 'doing'
                       AND coalesce(w.last_heartbeat, '-infinity') < now() - make_interval(secs => %s))) AS jobs,
                   (SELECT count(*) FROM deliveries WHERE status = 'attention') AS undecided,
                   (SELECT count(*) FROM rechecks r JOIN deliveries d ON d.id = r.delivery_id
                     WHERE r.looks = 0 AND d.remote_id = ANY(%s)) AS unseen
            """,
            [SILENT_S, repeated(stage)],
        ).fetchone()
    assert found
    return found


def repeated(stage: Stage) -> list[str]:
    """The ids of statuses in words that are out more often on the account than there are posts with them."""
    seen = stage.sandbox.ledger.statuses(published=True)
    count = Counter((one.handle, one.text) for one in seen)
    alike = {key for key, times in count.items() if times > 1}
    if alike:
        with stage.connect() as conn:
            count.subtract(
                {
                    (handle, text): posts
                    for handle, text, posts in conn.execute(
                        "SELECT ltrim(a.handle, '@'), p.content->>'text', count(*) FROM deliveries d"
                        " JOIN posts p ON p.id = d.post_id JOIN accounts a ON a.id = d.account_id GROUP BY 1, 2"
                    )
                }
            )
    return [one.id for one in seen if (one.handle, one.text) in alike and count[one.handle, one.text] > 0]


def _skip(stage: Stage) -> None:
    """The time in which nothing would happen. Not while anything is sent, prepared, looked up, or due.

    What the dead hold, its lease run out and its request over, waits for the sweep like what overslept, and holds up nothing.
    """
    if stage.crew.is_any_frozen or stage.sandbox.holds:
        return
    seen_twice = repeated(stage)
    with stage.connect() as conn:
        try:
            with conn.transaction():
                conn.execute(
                    "LOCK TABLE accounts, posts, deliveries, delivery_events IN SHARE ROW EXCLUSIVE MODE NOWAIT"
                )
                coming = _next(conn, seen_twice)
                if coming.busy or coming.in_s is None:
                    return
                stage.sandbox.wait_until_idle()
                seconds = min(max(math.ceil(coming.in_s), SKIPS_S[0]), SKIPS_S[1])
                age(conn, seconds)
                stage.sandbox.age(seconds)
        except psycopg.errors.LockNotAvailable:
            return
    stage.aged_s += seconds


def _next(conn: Connection, repeated: list[str]) -> Next:
    with conn.cursor(row_factory=class_row(Next)) as cursor:
        found = cursor.execute(
            _MOVING
            + """
            SELECT coalesce(bool_or(CASE
                       WHEN status = 'preparing' THEN wake_at > clock_timestamp() + make_interval(secs => %(lease_s)s)
                       WHEN status = 'sending' OR claim IS NOT NULL THEN wake_at > clock_timestamp()
                       ELSE wake_at <= clock_timestamp() AND NOT waits
                            AND wake_at > clock_timestamp() - make_interval(secs => %(overslept_s)s)
                   END), false) AS busy,
                   extract(epoch FROM least(min(wake_at) FILTER (WHERE wake_at > clock_timestamp() AND NOT waits),
                       (SELECT min(look_at) FROM rechecks r JOIN deliveries d ON d.id = r.delivery_id
                         WHERE r.looks = 0 AND r.look_at > clock_timestamp() AND d.remote_id = ANY(%(repeated)s)))
                       - clock_timestamp())::float8 AS in_s
              FROM moving WHERE NOT is_held
            """,
            {"lease_s": LEASE_OF_THE_LIVING_S, "overslept_s": OVERSLEPT_S, "repeated": repeated},
        ).fetchone()
    assert found
    return found


# -- ageing ------------------------------------------------------------------------------------------------


def age(conn: Connection, seconds: int) -> None:
    """Every instant that is kept of posts and accounts lies so much further back, and so does what jobs wait for."""
    by = timedelta(seconds=seconds)
    for table in TABLES:
        columns = conn.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = current_schema()"
            " AND table_name = %s AND data_type = 'timestamp with time zone'",
            [table],
        ).fetchall()
        changes = [sql.SQL("{0} = {0} - {1}").format(sql.Identifier(name), by) for (name,) in columns]
        conn.execute(sql.SQL("UPDATE {} SET {}").format(sql.Identifier(table), sql.SQL(", ").join(changes)))
    _age_staged(conn, by)
    conn.execute(
        "UPDATE procrastinate_jobs SET scheduled_at = scheduled_at - %s"
        " WHERE status = 'todo' AND scheduled_at IS NOT NULL",
        [by],
    )


def _age_staged(conn: Connection, by: timedelta) -> None:
    """What networks hold for deliveries that are under way; nobody reads it of the others."""
    rows = conn.execute("SELECT id, staged FROM deliveries WHERE staged IS NOT NULL AND wake_at IS NOT NULL").fetchall()
    with conn.cursor() as cursor:
        cursor.executemany(
            "UPDATE deliveries SET staged = %s WHERE id = %s",
            [(Jsonb(aged(staged, by)), row_id) for row_id, staged in rows],
        )


def aged(staged: Any, by: timedelta) -> Any:
    """Each `…_at` in it, however deep."""
    if isinstance(staged, list):
        return [aged(one, by) for one in staged]
    if not isinstance(staged, dict):
        return staged
    return {
        name: (datetime.fromisoformat(value) - by).isoformat()
        if name.endswith("_at") and isinstance(value, str)
        else aged(value, by)
        for name, value in staged.items()
    }
