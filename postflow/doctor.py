"""What `postflow doctor` looks at: settings, database, tables, clocks, workers; and what to do about each."""

import asyncio
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import psycopg

from postflow import config, db, errors, net
from postflow.platforms.instagram import reachable

_CLOCK_TOLERANCE_S = 1.0
_OLDEST_SERVER = 130000


class Finding(NamedTuple):
    subject: str
    well: bool
    sentence: str


def examine() -> Iterator[Finding]:
    """Stops at the first fault that leaves nothing more to look at."""
    yield Finding("Python", True, sys.version.split()[0])
    try:
        settings = config.load()
    except errors.Misconfigured as wrong:
        yield Finding("Settings", False, str(wrong))
        return
    yield Finding("Settings", True, "complete")
    yield _address(settings)
    yield from instagram(settings)
    try:
        conn = db.connect(settings.database_url.get_secret_value())
    except errors.Misconfigured as refused:
        yield Finding("Database", False, str(refused))
        return
    with conn:
        yield _server(conn)
        try:
            db.check_schema(conn)
        except errors.SchemaBehind as behind:
            yield Finding("Tables", False, str(behind))
            return
        yield Finding("Tables", True, f"revision {db.applied_revision(conn)}")
        yield _clocks(conn)
        yield workers(conn)


def _address(settings: config.Settings) -> Finding:
    if settings.is_https or "localhost" in settings.public_url or "127.0.0.1" in settings.public_url:
        return Finding("Address", True, settings.public_url)
    sentence = f"{settings.public_url} is not https; sign-in cookies and Instagram need it. Set POSTFLOW_PUBLIC_URL."
    return Finding("Address", False, sentence)


def instagram(settings: config.Settings) -> Iterator[Finding]:
    """Where Instagram is set up: could Meta fetch a picture from here? Tried through the public address."""
    ready = settings.instagram_app_id or settings.facebook_app_id
    if not ready or settings.instagram_url:
        return
    fault = asyncio.run(_probed(settings))
    yield Finding("Instagram", fault is None, fault or f"a picture was fetched from {settings.public_url}")


async def _probed(settings: config.Settings) -> str | None:
    async with net.client(settings) as http:
        return await reachable.probe(http, settings)


def _server(conn: psycopg.Connection) -> Finding:
    number = conn.info.server_version
    name = f"PostgreSQL {number // 10000}.{number % 10000}"
    if number < _OLDEST_SERVER:
        return Finding("Database", False, f"{name} is too old; PostFlow needs 13 or newer.")
    return Finding("Database", True, name)


def _clocks(conn: psycopg.Connection) -> Finding:
    """Jobs become due by the database's clock: a worker whose clock is off is late or waits in vain."""
    row = conn.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
    apart_s = abs(time.time() - (row[0] if row else 0))
    if apart_s > _CLOCK_TOLERANCE_S:
        sentence = f"this machine and the database are {apart_s:.1f} s apart; synchronise both with NTP."
        return Finding("Clocks", False, sentence)
    return Finding("Clocks", True, f"{apart_s * 1000:.0f} ms apart")


def workers(conn: psycopg.Connection) -> Finding:
    """Alive is who wrote a heartbeat within half a minute; they are due every few seconds."""
    row = conn.execute(
        "SELECT count(*) FROM procrastinate_workers WHERE last_heartbeat > now() - interval '30 seconds'"
    ).fetchone()
    if not row or not row[0]:
        start = "procrastinate --app=worker.app.app worker"
        return Finding("Workers", False, f"none is running, so nothing is published; start one: {start}")
    return Finding("Workers", True, f"{row[0]} running")
