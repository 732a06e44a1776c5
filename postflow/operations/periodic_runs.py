"""The periodic_runs table: when each periodic job last ran, how it ended, and when it runs next. For the operator."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row

from postflow.models import Value

_COLUMNS: LiteralString = "name, label, cron, time_zone, began_at, ended_at, outcome, said, next_at, deferred_at"

#: So long after its time a run that no worker knows belongs to a release that is gone.
FORGOTTEN_DAYS = 3


class Planned(Value):
    name: str
    label: str
    cron: str
    time_zone: str  # in which the cron line is read
    next_at: datetime


class Run(Planned):
    deferred_at: datetime | None = None  # when it was last given to the queue
    began_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str | None = None  # "done" or "failed"
    said: str = ""

    @property
    def is_unfinished(self) -> bool:
        return self.deferred_at is not None and (self.ended_at is None or self.ended_at < self.deferred_at)


def plan(conn: Connection, jobs: Sequence[Planned]) -> None:
    """What a starting worker knows of. Several workers at once are fine.

    A run whose time passed while no worker ran is still to be made, unless its schedule has changed. Jobs of former
    releases are forgotten when nobody has run them for days: those of a newer one, whose workers run beside this one, stay.
    """
    conn.execute(
        "DELETE FROM periodic_runs WHERE name <> ALL(%(names)s) AND next_at < now() - make_interval(days => %(days)s)",
        {"names": [job.name for job in jobs], "days": FORGOTTEN_DAYS},
    )
    for job in jobs:
        conn.execute(
            """
            INSERT INTO periodic_runs AS r (name, label, cron, time_zone, next_at)
            VALUES (%(name)s, %(label)s, %(cron)s, %(time_zone)s, %(next_at)s)
            ON CONFLICT (name) DO UPDATE
               SET label = excluded.label, cron = excluded.cron, time_zone = excluded.time_zone,
                   next_at = CASE WHEN r.cron = excluded.cron AND r.time_zone = excluded.time_zone
                                  THEN least(r.next_at, excluded.next_at) ELSE excluded.next_at END
            """,
            job.model_dump(),
        )


async def schedules(conn: AsyncConnection, names: Sequence[str]) -> list[Planned]:
    """Of these jobs, as they were planned last, by whichever worker."""
    async with conn.cursor(row_factory=class_row(Planned)) as cursor:
        await cursor.execute(
            "SELECT name, label, cron, time_zone, next_at FROM periodic_runs WHERE name = ANY(%(names)s) ORDER BY name",
            {"names": list(names)},
        )
        return await cursor.fetchall()


async def take(conn: AsyncConnection, job: Planned) -> bool:
    """True for one of all workers when the job is due, however many of its runs were missed; `job.next_at` is the next.

    Nobody's when it has another schedule by now. What was last taken in the future, and is planned for later than the
    schedule's next, was so by a clock that has been set back since: it is made once more than by the wall, rather than not
    at all until that time has come again.
    """
    taken = await conn.execute(
        """
        UPDATE periodic_runs SET next_at = %(next_at)s, deferred_at = clock_timestamp()
         WHERE name = %(name)s AND cron = %(cron)s AND time_zone = %(time_zone)s
           AND (next_at <= clock_timestamp()
                OR (next_at > %(next_at)s AND coalesce(deferred_at, 'infinity') > clock_timestamp()))
        """,
        job.model_dump(),
    )
    return taken.rowcount == 1


async def are_quiet(conn: AsyncConnection, since_s: float) -> bool:
    """Has nobody taken a run for so long, by the database's clock? What was taken in the future tells nothing."""
    row = await (
        await conn.execute(
            """
            SELECT NOT EXISTS (SELECT FROM periodic_runs
                    WHERE deferred_at BETWEEN clock_timestamp() - make_interval(secs => %(since_s)s) AND clock_timestamp())
            """,
            {"since_s": since_s},
        )
    ).fetchone()
    return bool(row and row[0])


async def note(conn: AsyncConnection, name: str, *, began_at: datetime, outcome: str, said: str) -> None:
    await conn.execute(
        """
        UPDATE periodic_runs SET began_at = %(began_at)s, ended_at = clock_timestamp(), outcome = %(outcome)s,
               said = %(said)s
         WHERE name = %(name)s
        """,
        {"name": name, "began_at": began_at, "outcome": outcome, "said": said[:500]},
    )


def known(conn: Connection) -> list[Run]:
    """By name; empty until a worker has started."""
    with conn.cursor(row_factory=class_row(Run)) as cursor:
        return cursor.execute("SELECT " + _COLUMNS + " FROM periodic_runs ORDER BY name").fetchall()
