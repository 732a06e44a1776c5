"""Postgres stops under a worker and starts again: the same process goes on, and what fell due meanwhile is out once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config, embedded, migrate, publishing
from sandbox import Sandbox
from tests.acceptance.test_workers import Start, start_worker, until
from tests.engine.conftest import ada, an_account, engine, sandbox, scheduled, settings

__all__ = ["ada", "engine", "sandbox", "settings", "start_worker"]


@pytest.fixture
def server() -> Iterator[embedded.EmbeddedPostgres]:
    """One of our own: the others' must not be stopped."""
    with embedded.ephemeral(careless=False) as running:  # what was committed must outlive a crash
        migrate.upgrade(running.url())
        yield running


@pytest.fixture
def database_url(server: embedded.EmbeddedPostgres) -> str:
    return server.url()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_worker_outlives_a_stopped_database_and_sends_what_fell_due_once(
    mode: embedded.StopMode,
    db: psycopg.Connection,
    engine: publishing.Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    server: embedded.EmbeddedPostgres,
    start_worker: Start,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", f"outage-{mode}")
    text = f"due during a {mode} outage"
    worker = start_worker()
    until(db, "SELECT count(*) FROM procrastinate_workers", 1)
    scheduled(db, settings, ada, (account,), text, at=datetime.now(UTC) + timedelta(seconds=2))
    server.stop(mode)
    assert worker.poll() is None
    server.start()
    with psycopg.connect(server.url(), autocommit=True) as conn:
        until(conn, "SELECT count(*) FROM deliveries WHERE status = 'published'", 1, patience_s=100)
    assert worker.poll() is None
    assert sandbox.ledger.times_published(text) == 1
