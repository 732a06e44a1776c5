"""Brings a database up to date: `postflow migrate`, and a deploy's release command.

The revisions lie in `migrations/versions`, plain SQL wrapped in Alembic. Alembic and SQLAlchemy are loaded
here only; web and worker never need them.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config

MIGRATIONS = Path(__file__).parent.parent / "migrations"


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply what is missing. Safe beside other runs: one works, the others wait, then find nothing."""
    command.upgrade(config(database_url), revision)


def config(database_url: str) -> Config:
    """Alembic's configuration. The URL goes by attribute: a `%` in a password would trip the ini format."""
    alembic = Config()
    alembic.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    alembic.attributes["database_url"] = database_url
    return alembic
