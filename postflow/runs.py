"""The periodic_runs table: when each periodic job last ran, how it ended, and when it runs next. For the operator."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row

from postflow.models import Value

_COLUMNS: LiteralString = "name, label, cron, began_at, ended_at, outcome, said, next_at"


class Planned(Value):
    name: str
    label: str
    cron: str
    next_at: datetime


class Run(Planned):
    began_at: datetime | None = None
    ended_at: datetime | None = None
    outcome: str | None = None  # "done" or "failed"
    said: str = ""


def plan(conn: Connection, jobs: Sequence[Planned]) -> None:
    """What a starting worker knows of; jobs of former releases are forgotten. Several workers at once are fine."""
    conn.execute("DELETE FROM periodic_runs WHERE name <> ALL(%(names)s)", {"names": [job.name for job in jobs]})
    for job in jobs:
        conn.execute(
            """
            INSERT INTO periodic_runs (name, label, cron, next_at)
            VALUES (%(name)s, %(label)s, %(cron)s, %(next_at)s)
            ON CONFLICT (name) DO UPDATE SET label = excluded.label, cron = excluded.cron, next_at = excluded.next_at
            """,
            job.model_dump(),
        )


async def note(
    conn: AsyncConnection, name: str, *, began_at: datetime, outcome: str, said: str, next_at: datetime
) -> None:
    await conn.execute(
        """
        UPDATE periodic_runs SET began_at = %(began_at)s, ended_at = clock_timestamp(), outcome = %(outcome)s,
               said = %(said)s, next_at = %(next_at)s
         WHERE name = %(name)s
        """,
        {"name": name, "began_at": began_at, "outcome": outcome, "said": said[:500], "next_at": next_at},
    )


def known(conn: Connection) -> list[Run]:
    """By name; empty until a worker has started."""
    with conn.cursor(row_factory=class_row(Run)) as cursor:
        return cursor.execute("SELECT " + _COLUMNS + " FROM periodic_runs ORDER BY name").fetchall()
