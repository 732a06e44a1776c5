"""Runs SQL files inside a revision."""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from alembic import op

SQL = Path(__file__).parent / "sql"


def run(path: Path) -> None:
    """The file as it is, through the driver's own cursor: `op.execute` would take `:name` for a parameter."""
    cursor = op.get_bind().connection.cursor()
    cursor.execute(path.read_bytes())  # pyright: ignore[reportArgumentType] psycopg takes bytes
    cursor.close()


def run_procrastinate(names: Iterable[str]) -> None:
    """Files that the installed Procrastinate ships (procrastinate/sql/migrations), in the order named."""
    with resources.as_file(resources.files("procrastinate") / "sql" / "migrations") as directory:
        for name in names:
            run(directory / name)
