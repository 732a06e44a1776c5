"""A process that stands still, or is cut off, inside a transaction holds a row for seconds and not for ever."""

import asyncio

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from postflow import config, session_limits
from postflow import db as database
from postflow.engine import Engine
from postflow.publishing import sweeping, transitions
from sandbox import Sandbox
from tests.engine.conftest import an_account, scheduled, status_of

ASKED = """
    SELECT name, setting::int FROM pg_settings WHERE name IN ('lock_timeout', 'statement_timeout',
        'idle_in_transaction_session_timeout')
"""


def bounds(kind: session_limits.Kind) -> dict[str, int]:
    """Milliseconds, as the server has them."""
    return {
        "lock_timeout": kind.lock_s * 1000,
        "statement_timeout": kind.statement_s * 1000,
        "idle_in_transaction_session_timeout": kind.idle_s * 1000,
    }


async def test_each_kind_of_session_has_its_bounds(database_url: str) -> None:
    with database.pool(database_url) as pool, pool.connection() as conn:
        assert dict(conn.execute(ASKED).fetchall()) == bounds(session_limits.PAGE)
    for kind in (session_limits.COMMAND, session_limits.MIGRATION):
        with database.connect(database_url, kind) as conn:
            assert dict(conn.execute(ASKED).fetchall()) == bounds(kind)
    async with (
        database.async_pool(database_url) as jobs,
        database.queue_pool(conninfo=database_url) as queue,
        jobs.connection() as job,
        queue.connection() as queued,
        database.listening(database_url, "a bell of its own") as bell,
    ):
        for conn, kind in ((job, session_limits.JOB), (queued, session_limits.QUEUE), (bell, session_limits.BELL)):
            assert dict(await (await conn.execute(ASKED)).fetchall()) == bounds(kind)


@pytest.mark.parametrize(
    ("servers", "ours"), [("off", "on"), ("local", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
)
def test_what_is_committed_is_on_disk_whatever_the_servers_default_is(
    servers: str, ours: str, database_url: str, db: psycopg.Connection
) -> None:
    name = conninfo_to_dict(database_url)["dbname"]
    db.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = {servers}'.encode())
    with database.pool(database_url) as pool, pool.connection() as conn:
        assert conn.execute("SHOW synchronous_commit").fetchone() == (ours,)


async def test_a_row_held_by_a_frozen_worker_is_told_and_taken_up_as_soon_as_its_session_ends(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "held-by-the-frozen")
    [delivery] = scheduled(db, settings, ada, (account,), "its worker stands still in a transaction")
    monkeypatch.setattr(session_limits, "JOB", session_limits.JOB._replace(idle_s=3))
    async with database.async_pool(database_url) as frozen, frozen.connection() as conn:
        assert await transitions.claim_to_prepare(conn, delivery.id, "frozen", 0)
        await conn.execute("BEGIN")
        await transitions.renew(conn, delivery.id, "frozen", 60)
        found = await sweeping.sweep(engine)
        assert (found["preparing"], found["held"]) == (0, 1)
        async with asyncio.timeout(60):  # nothing is said on the session
            while not (await sweeping.sweep(engine))["preparing"]:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        with pytest.raises(psycopg.Error):
            await conn.execute("COMMIT")
    assert status_of(db, delivery) == "scheduled"
    assert (await sweeping.sweep(engine))["held"] == 0
