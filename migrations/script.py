"""Runs SQL files inside a revision."""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import psycopg
from alembic import op

SQL = Path(__file__).parent / "sql"
_SHIPPED = resources.files("procrastinate") / "sql" / "migrations"


def run(path: Path) -> None:
    """The file as it is, through the driver's own cursor: `op.execute` would take `:name` for a parameter."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute(path.read_bytes())  # pyright: ignore[reportArgumentType] psycopg takes bytes
    cursor.close()


def run_procrastinate(names: Iterable[str]) -> None:
    """Files that the installed Procrastinate ships (procrastinate/sql/migrations), in the order named, each in a
    transaction of its own: up to PostgreSQL 16 a value added to an enum cannot be used before it is committed.

    What is done is noted with it, so that the next run goes on where a killed one stopped.
    """
    with op.get_context().autocommit_block(), resources.as_file(_SHIPPED) as directory:
        conn = op.get_bind().connection.driver_connection
        assert isinstance(conn, psycopg.Connection)
        conn.execute("CREATE TABLE IF NOT EXISTS procrastinate_files_done (name text PRIMARY KEY)")
        done = {name for (name,) in conn.execute("SELECT name FROM procrastinate_files_done")}
        for name in (name for name in names if name not in done):
            with conn.transaction():
                run(directory / name)
                conn.execute("INSERT INTO procrastinate_files_done VALUES (%s)", (name,))
    op.execute("DROP TABLE procrastinate_files_done")  # together with noting the revision itself
