"""Brings a database up to date: `postflow migrate`, and a deploy's release command.

The revisions lie in `migrations/versions`, plain SQL wrapped in Alembic. Alembic and SQLAlchemy are loaded
here only; web and worker never need them.
"""

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import DBAPIError

from postflow import errors

MIGRATIONS = Path(__file__).parent.parent.parent / "migrations"
_REFUSED = psycopg.errors
_ADVICE = (
    (
        (_REFUSED.InsufficientPrivilege, _REFUSED.InvalidSchemaName),
        "The user in DATABASE_URL should own the database and PostFlow's tables in its first schema; then run this again.",
    ),
    (
        (_REFUSED.ReadOnlySqlTransaction, _REFUSED.DiskFull),
        "Look for a full disk or a failover at its host; then run this again.",
    ),
)


def upgrade(database_url: str, revision: str = "head") -> None:
    """Apply what is missing. Safe beside other runs: one works, the others wait, then find nothing.

    Raises Misconfigured for what only the database's owner can mend.
    """
    try:
        command.upgrade(config(database_url), revision)
    except (psycopg.Error, DBAPIError) as error:
        refused = error.orig if isinstance(error, DBAPIError) else error
        advice = next((words for kinds, words in _ADVICE if isinstance(refused, kinds)), None)
        if advice is None:
            raise
        reason = str(refused).strip().splitlines()[0]
        raise errors.Misconfigured(f"The database cannot be migrated: {reason}. {advice}") from None


def config(database_url: str) -> Config:
    """Alembic's configuration. The URL goes by attribute: a `%` in a password would trip the ini format."""
    alembic = Config()
    alembic.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    alembic.attributes["database_url"] = database_url
    return alembic
