"""How Alembic runs our revisions: one at a time even when several deploys start together.

Called by `postflow migrate` (postflow/operations/migrate.py), which hands over the database's URL.
"""

import time

import psycopg
import sqlalchemy
from alembic import context

from postflow import db, session_limits

#: Any number no other program uses for an advisory lock in the same database.
LOCK_KEY = 7_305_081_122


def run() -> None:
    url = context.config.attributes["database_url"]
    with db.connect(url, session_limits.MIGRATION) as lock_holder:
        wait_for_turn(lock_holder)
        # The lock lives in its own session, so a killed run lets go of it as soon as the server notices.
        engine = sqlalchemy.create_engine(
            "postgresql+psycopg://", creator=lambda: _in_transactions(url), poolclass=sqlalchemy.NullPool
        )
        with engine.connect() as connection:
            context.configure(connection=connection, transaction_per_migration=True)
            with context.begin_transaction():
                context.run_migrations()


def _in_transactions(url: str) -> psycopg.Connection:
    conn = db.connect(url, session_limits.MIGRATION)
    conn.autocommit = False
    return conn


def wait_for_turn(conn: psycopg.Connection) -> None:
    """By asking again and again: a session blocked inside pg_advisory_lock() holds a snapshot, for which the
    winner's CREATE INDEX CONCURRENTLY would wait for ever."""
    while conn.execute("SELECT pg_try_advisory_lock(%s)", (LOCK_KEY,)).fetchone() != (True,):
        time.sleep(0.2)


run()
