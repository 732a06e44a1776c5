"""The database's disk is full for a while, under a real worker: nothing leaves unrecorded, and all goes out afterwards."""

import asyncio
import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.publishing import sweeping
from sandbox import Sandbox
from sandbox.core.ledger import RequestEntry
from tests.acceptance.test_operations import transactions
from tests.acceptance.test_workers import Start, start_worker, until
from tests.engine.conftest import a_picture, ada, an_account, engine, scheduled, settings

__all__ = ["ada", "engine", "settings", "start_worker"]

POSTS = {"instance": "mastodon", "method": "POST", "path": "/api/v1/statuses$"}
PUBLISHED = "SELECT count(*) FROM deliveries WHERE status = 'published'"
#: What stories write, and what the queue writes.
OURS = ("deliveries", "delivery_events")
QUEUES = ("procrastinate_jobs", "procrastinate_events", "procrastinate_workers", "procrastinate_periodic_defers")
FULL = """
    CREATE OR REPLACE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
"""


@contextlib.contextmanager
def full_disk(conn: psycopg.Connection, tables: tuple[str, ...]) -> Iterator[None]:
    """No row of these tables can be written."""
    conn.execute(FULL)
    for table in tables:
        made = f"CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION full_disk()"
        conn.execute(made.encode())
    yield
    for table in tables:
        conn.execute(f"DROP TRIGGER full_disk ON {table}".encode())


@pytest.mark.parametrize("tables", [OURS, QUEUES, OURS + QUEUES], ids=["ours", "the queue's", "all"])
async def test_a_worker_outlives_a_full_disk_without_sending_and_everything_goes_out_once_afterwards(
    tables: tuple[str, ...],
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSTFLOW_PACE_S", "0")
    name = f"no-room-{len(tables)}"
    accounts = [await an_account(db, engine, sandbox, ada, "mastodon", f"{name}-{number}") for number in range(3)]
    worker = start_worker()
    until(db, "SELECT count(*) FROM procrastinate_workers", 1)
    at = datetime.now(UTC) + timedelta(seconds=2)
    for account in accounts:  # one to be prepared, with a picture, and one that only has to be sent
        scheduled(db, settings, ada, (account,), f"{name}-{account}, a picture", media=(a_picture(db, ada),), at=at)
        scheduled(db, settings, ada, (account,), f"{name}-{account}, a text", at=at)
    with full_disk(db, tables):
        before = transactions(db)
        await asyncio.sleep(5)
        asked = transactions(db) - before
        sent = {one.text for one in sandbox.ledger.statuses(text=name, published=True)}
        known = db.execute(
            "SELECT p.content->>'text' FROM deliveries d JOIN posts p ON p.id = d.post_id WHERE d.attempt_no > 0"
        ).fetchall()
        assert sent <= {text for (text,) in known}, "what is out was written down before it left"
        assert len(sent) < 6, "the disk was full before all was over"
        assert worker.poll() is None
    assert asked < 250, "transactions in five seconds"
    db.execute("UPDATE deliveries SET wake_at = wake_at - interval '80 seconds'")  # until the sweep, and leases end
    await sweeping.sweep(engine)
    until(db, PUBLISHED, 6)
    assert worker.poll() is None
    out = sandbox.ledger.statuses(text=name, published=True)
    assert len(out) == len({one.text for one in out}) == 6
    assert db.execute("SELECT sum(faults) FROM deliveries").fetchone() == (0,), "no fault of the network's"


async def test_an_answer_that_comes_while_the_disk_is_full_is_looked_up_and_not_sent_again(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    start_worker: Start,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "answered-in-vain")
    slow = sandbox.faults.add("slow", **POSTS, times=1, when="after", seconds=1)
    scheduled(db, settings, ada, (account,), "answered in vain")
    worker = start_worker()
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'sending'", 1)
    with full_disk(db, OURS + QUEUES):
        while not all(one.answered_at for one in posts_of(sandbox, "answered-in-vain")):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)
        assert slow.hits == 1
        assert db.execute("SELECT status FROM deliveries").fetchone() == ("sending",)
    assert worker.poll() is None
    db.execute("UPDATE deliveries SET wake_at = now() - interval '1 second'")  # its lease is over
    await sweeping.sweep(engine)
    until(db, PUBLISHED, 1)
    assert sandbox.ledger.times_published("answered in vain") == 1
    assert len(posts_of(sandbox, "answered-in-vain")) == 1


def posts_of(sandbox: Sandbox, handle: str) -> list[RequestEntry]:
    return sandbox.ledger.requests(account=handle, method="POST", path="/statuses")
