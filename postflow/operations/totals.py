"""The totals and tallies tables: how often what happened, for /metrics. They only grow, whatever is purged or deleted.

Triggers write a line for each thing that happens (the migration that made the tables says which); `fold` adds them up.
Whoever reads adds the lines that are not folded yet, in one statement, so that each counts exactly once.
"""

from typing import Literal, LiteralString, NamedTuple

from psycopg import AsyncConnection, Connection
from psycopg.rows import class_row

#: Upper ends of the classes that durations are counted in, seconds. Others may follow or go: totals keep their own.
BOUNDS_S = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0)
_BITE = 10_000
_CLASS: LiteralString = (
    "coalesce((SELECT min(bound) FROM unnest(%(bounds)s::float8[]) AS bound WHERE bound >= seconds), 'infinity')"
)


class Total(NamedTuple):
    what: Literal["move", "late", "error", "refresh"]
    network: str
    label: str
    le: float
    times: int
    sum_s: float


async def fold(conn: AsyncConnection) -> int:
    """How many lines were added up. Safe side by side; each bite is a transaction of its own: `conn` is in autocommit."""
    folded = 0
    while True:
        row = await (
            await conn.execute(
                """
                WITH taken AS (
                    DELETE FROM tallies
                     WHERE ctid = ANY (ARRAY(SELECT ctid FROM tallies LIMIT %(bite)s FOR UPDATE SKIP LOCKED))
                    RETURNING what, network, label, seconds),
                added AS (
                    INSERT INTO totals AS t (what, network, label, le, count, sum_s)
                    SELECT what, network, label, """
                + _CLASS
                + """ AS le, count(*), coalesce(sum(seconds), 0)
                      FROM taken GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
                    ON CONFLICT (what, network, label, le) DO UPDATE
                       SET count = t.count + excluded.count, sum_s = t.sum_s + excluded.sum_s)
                SELECT count(*) FROM taken
                """,
                {"bite": _BITE, "bounds": list(BOUNDS_S)},
            )
        ).fetchone()
        folded += row[0] if row else 0
        if not row or row[0] < _BITE:
            return folded


async def refreshed(conn: AsyncConnection, account_id: int, outcome: str) -> None:
    """One more attempt to refresh an account's token."""
    await conn.execute(
        "INSERT INTO tallies SELECT 'refresh', platform, %(outcome)s FROM accounts WHERE id = %(id)s",
        {"id": account_id, "outcome": outcome},
    )


def read(conn: Connection) -> list[Total]:
    with conn.cursor(row_factory=class_row(Total)) as cursor:
        return cursor.execute(
            """
            SELECT what, network, label, le, sum(count)::bigint AS times, sum(sum_s)::float8 AS sum_s FROM (
                SELECT what, network, label, le, count, sum_s FROM totals
                 UNION ALL
                SELECT what, network, label, """
            + _CLASS
            + """, 1, coalesce(seconds, 0) FROM tallies) AS all_of_them
             GROUP BY 1, 2, 3, 4
            """,
            {"bounds": list(BOUNDS_S)},
        ).fetchall()
