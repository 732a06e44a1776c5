"""Runs SQL files inside a revision."""

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from alembic import op

SQL = Path(__file__).parent / "sql"


def run(path: Path) -> None:
    """The file as it is, through the driver's cursor: `op.execute` would read `:name` and `%` as parameters."""
    connection = op.get_bind().connection
    with connection.cursor() as cursor:
        cursor.execute(path.read_bytes())


def run_procrastinate(names: Iterable[str]) -> None:
    """Files that the installed Procrastinate ships (procrastinate/sql/migrations), in the order named."""
    with resources.as_file(resources.files("procrastinate") / "sql" / "migrations") as directory:
        for name in names:
            run(directory / name)
