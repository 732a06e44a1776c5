"""Postgres stops under web and worker and starts again: the same processes go on, and what fell due meanwhile is out once."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest

from postflow import config
from postflow import db as database
from postflow.dev import embedded_postgres
from postflow.engine import Engine
from postflow.operations import migrate
from sandbox import Sandbox
from tests.acceptance.test_workers import Start, start_worker, until
from tests.engine.conftest import ada, an_account, engine, scheduled, settings

__all__ = ["ada", "engine", "settings", "start_worker"]


@pytest.fixture
def server() -> Iterator[embedded_postgres.EmbeddedPostgres]:
    """One of our own: the others' must not be stopped."""
    with embedded_postgres.ephemeral(careless=False) as running:  # what was committed must outlive a crash
        migrate.upgrade(running.url())
        yield running


@pytest.fixture
def database_url(server: embedded_postgres.EmbeddedPostgres) -> str:
    return server.url()


@pytest.fixture
def pages(settings: config.Settings, tmp_path: Path) -> Iterator[str]:
    """The address of a gunicorn over the same database; it is one process from beginning to end."""
    command = [sys.executable, "-m", "gunicorn", "--config", "python:web.gunicorn", "web.app:create_app()"]
    environment, log = {**os.environ, "PORT": "0", "WEB_CONCURRENCY": "1"}, tmp_path / "web.log"
    with log.open("wb") as told, subprocess.Popen(command, env=environment, stdout=told, stderr=told) as web:
        try:
            while not (found := re.search(r"Listening at: http://0.0.0.0:(\d+)", log.read_text())):
                assert web.poll() is None, log.read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{found[1]}"
            assert log.read_text().count("Booting worker") == 1
        finally:
            web.terminate()


#: How long it is away: for less than anybody's patience, and for longer than everybody's.
@pytest.mark.parametrize(("mode", "away_s"), [("immediate", 4), ("fast", database.JOBS_PATIENCE_S + 2)])
async def test_a_worker_outlives_a_stopped_database_and_sends_what_fell_due_once(
    mode: embedded_postgres.StopMode,
    away_s: float,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    server: embedded_postgres.EmbeddedPostgres,
    start_worker: Start,
    pages: str,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", f"outage-{mode}")
    text = f"due during a {mode} outage"
    worker = start_worker()
    until(db, "SELECT count(*) FROM procrastinate_workers", 1)
    assert (await page(f"{pages}/sign-in")).status_code == 200
    due = datetime.now(UTC) + timedelta(seconds=3)
    scheduled(db, settings, ada, (account,), text, at=due)
    server._end_process(mode)  # `stop` would let go of its directory, and a test run beside this one tidies up
    assert datetime.now(UTC) < due
    back_at = datetime.now(UTC) + timedelta(seconds=away_s)
    refused = await page(f"{pages}/sign-in")
    assert refused.status_code == 503
    assert "The database does not answer" in refused.text and "Nothing is lost" in refused.text
    await asyncio.sleep((back_at - datetime.now(UTC)).total_seconds())
    assert worker.poll() is None
    server._launch()
    with psycopg.connect(server.url(), autocommit=True) as conn:
        until(conn, "SELECT count(*) FROM deliveries WHERE status = 'published'", 1)
        [sent_late] = conn.execute(
            "SELECT sent_at > post_date FROM deliveries JOIN posts ON posts.id = post_id"
        ).fetchall()
    assert sent_late == (True,), "it fell due while the database was away"
    assert (await page(f"{pages}/sign-in")).status_code == 200
    assert worker.poll() is None
    assert sandbox.ledger.times_published(text) == 1


async def page(url: str) -> httpx.Response:
    async with httpx.AsyncClient(timeout=60) as browser:
        return await browser.get(url)


async def test_a_worker_that_is_started_while_the_database_is_away_begins_when_it_comes(
    settings: config.Settings, server: embedded_postgres.EmbeddedPostgres, start_worker: Start
) -> None:
    server._end_process("fast")
    worker = start_worker()
    await asyncio.sleep(3)
    assert worker.poll() is None
    server._launch()
    with psycopg.connect(server.url(), autocommit=True) as conn:
        until(conn, "SELECT count(*) FROM procrastinate_workers", 1)
    assert worker.poll() is None
