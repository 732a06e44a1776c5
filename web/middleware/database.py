"""The request's way to the database: one pool per process, opened when the first request needs it.

with database.connection() as conn: …     statements on their own
with database.transaction() as conn: …    together or not at all
"""

import contextlib
import threading
from collections.abc import Iterator
from datetime import datetime

import psycopg
from flask import Flask, current_app
from psycopg_pool import ConnectionPool

from postflow import config, db

_opening = threading.Lock()


def connection() -> contextlib.AbstractContextManager[psycopg.Connection]:
    return pool().connection()


@contextlib.contextmanager
def transaction() -> Iterator[psycopg.Connection]:
    """Commits at the end, rolls back when an exception leaves. No HTTP to a network inside."""
    with db.transaction(pool()) as conn:
        yield conn


def pool() -> ConnectionPool:
    """Lazily: gunicorn forks, and a pool must not be shared across the fork."""
    app: Flask = current_app
    with _opening:
        if "pool" not in app.extensions:
            url, most = settings().database_url.get_secret_value(), settings().database_connections
            opened = db.pool(url, max_size=most)
            opened.open()
            app.extensions["pool"] = opened
        return app.extensions["pool"]


def now() -> datetime:
    """By the database's clock, which is the one that publishes: this machine's may be minutes off."""
    with connection() as conn:
        return db.now(conn)


def close(app: Flask) -> None:
    with _opening:
        if opened := app.extensions.pop("pool", None):
            opened.close()


def settings() -> config.Settings:
    return current_app.extensions["settings"]
