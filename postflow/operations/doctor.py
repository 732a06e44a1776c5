"""What `postflow doctor` looks at: settings, database, tables, clocks, workers; and what to do about each."""

import asyncio
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

import psycopg

from postflow import config, db, errors
from postflow.http import clients
from postflow.operations import durability, periodic_runs
from postflow.platforms.instagram import reachable

_CLOCK_TOLERANCE_S = 2.0
_OVERDUE = timedelta(minutes=10)
#: The longest that a run may reasonably take: the first purge of a large table.
_STUCK = timedelta(minutes=30)


class Finding(NamedTuple):
    """`doubtful` is well for now, and worth a look."""

    subject: str
    well: bool
    sentence: str
    doubtful: bool = False

    @property
    def word(self) -> str:
        return "FAULT" if not self.well else "WARN" if self.doubtful else "ok"


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
    url = settings.database_url.get_secret_value()
    try:
        found = sessions(url)
        conn = db.connect(url)
    except errors.Misconfigured as refused:
        yield Finding("Database", False, str(refused))
        return
    with conn:
        yield _server(conn)
        yield found
        try:
            db.check_schema(conn)
        except errors.Misconfigured as wrong:
            yield Finding("Tables", False, str(wrong))
            return
        yield Finding("Tables", True, f"revision {db.applied_revision(conn)}")
        yield _writable(conn)
        yield Finding("Keeping", *durability.of(conn))
        yield clocks(conn)
        alive = workers(conn)
        yield alive
        yield _posts(conn)
        yield _accounts(conn)
        yield from _periodic(conn, settings, are_run=alive.well)


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
    async with clients.client(settings) as http:
        return await reachable.probe(http, settings)


def _server(conn: psycopg.Connection) -> Finding:
    """One that is too old was refused at the door."""
    name, tried = db.server_name(conn), f"{db.OLDEST_SERVER} to {db.NEWEST_SERVER}"
    if conn.info.server_version >= (db.NEWEST_SERVER + 1) * 10_000:
        sentence = f"{name} is newer than what this release was tried on ({tried}). Look for a newer PostFlow."
        return Finding("Database", True, sentence, doubtful=True)
    return Finding("Database", True, f"{name}; tried on {tried}")


def sessions(database_url: str) -> Finding:
    """Workers hear of posts and keep out of each other's way by what belongs to a session. Raises Unreachable."""
    if db.keeps_sessions(database_url):
        return Finding("Sessions", True, "last as long as their connection")
    sentence = (
        "DATABASE_URL leads to a pooler that hands each statement to another session, such as PgBouncer in transaction "
        "mode; workers would hear of posts late and get into each other's way. Set the database's direct address, or a "
        "pooler in session mode."
    )
    return Finding("Sessions", False, sentence)


def _writable(conn: psycopg.Connection) -> Finding:
    if conn.execute("SHOW transaction_read_only").fetchone() == ("on",):
        sentence = "read-only, so nothing is saved or published; look for a full disk or a failover at its host."
        return Finding("Writing", False, sentence)
    return Finding("Writing", True, "possible")


def clocks(conn: psycopg.Connection) -> Finding:
    """The database's clock decides; with another, cookies, signed links and tokens end at the wrong time."""
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


def _posts(conn: psycopg.Connection) -> Finding:
    """What should have gone by now and is held by nothing: a minute's worth is more than any backlog takes."""
    row = conn.execute(
        """
        SELECT count(*) FILTER (WHERE d.wake_at < now() - interval '2 minutes' AND a.state = 'active'), count(*),
               count(*) FILTER (WHERE p.post_date < now() AND d.status IN ('scheduled', 'preparing', 'ready')
                   AND EXISTS (WITH RECURSIVE ahead AS (SELECT p.parent_id AS id UNION ALL
                       SELECT q.parent_id FROM posts q JOIN ahead ON q.id = ahead.id)
                       SELECT FROM deliveries b JOIN ahead ON b.post_id = ahead.id WHERE b.account_id = d.account_id
                          AND b.status IN ('failed', 'missed', 'cancelled', 'attention')))
          FROM deliveries d JOIN accounts a ON a.id = d.account_id JOIN posts p ON p.id = d.post_id
         WHERE d.wake_at IS NOT NULL
        """
    ).fetchone()
    stuck, waiting, held = row or (0, 0, 0)
    if stuck:
        sentence = (
            f"{stuck} of {waiting} waiting are more than two minutes over; docs/troubleshooting.md has a page on it."
        )
        return Finding("Posts", False, sentence)
    said = f"{waiting} waiting, none overdue"
    if held:
        said += f"; {held} of them due, held by a part of their thread that is not out and waits for its person"
    return Finding("Posts", True, said)


def _accounts(conn: psycopg.Connection) -> Finding:
    rows = conn.execute(
        "SELECT handle, platform FROM accounts WHERE state = 'needs_reconnect' ORDER BY handle LIMIT 20"
    ).fetchall()
    if rows:
        names = ", ".join(f"{handle} ({platform})" for handle, platform in rows)
        return Finding("Accounts", False, f"to be connected again on the Accounts page: {names}")
    return Finding("Accounts", True, "none has to be connected again")


def _periodic(conn: psycopg.Connection, settings: config.Settings, *, are_run: bool) -> Iterator[Finding]:
    """Each with its last and its next run; overdue ones are only worth a word while somebody could run them."""
    now = db.now(conn)
    for run in periodic_runs.known(conn):
        said = f"never run; next {_when(run.next_at, settings)}"
        if run.ended_at:
            outcome = f"{run.outcome}{f' ({run.said})' if run.said else ''}"
            said = f"last {_when(run.ended_at, settings)}, {outcome}; next {_when(run.next_at, settings)}"
        overdue = are_run and now - run.next_at > _OVERDUE
        stuck = are_run and run.is_unfinished and now - (run.deferred_at or now) > _STUCK
        if overdue:
            said += ", which has passed: restart the workers"
        elif stuck and run.deferred_at:
            said += f"; due {_when(run.deferred_at, settings)} and not over yet: look at the log, restart the workers"
        yield Finding(f"Periodic job {run.name}", not overdue and not stuck and run.outcome != "failed", said)


def _when(at: datetime, settings: config.Settings) -> str:
    return f"{at.astimezone(settings.zone):%Y-%m-%d %H:%M %Z}"
