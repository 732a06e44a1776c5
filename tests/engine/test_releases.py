"""Releases side by side, as while workers are replaced one by one: what one has prepared and another cannot read."""

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.publishing import preparing, reconciling, sending
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of

NEWER = """staged = staged || '{"what only a newer release knows": 1}'"""


@pytest.fixture
async def ready(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int, handle: str
) -> Delivery:
    account = await an_account(db, engine, sandbox, ada, "mastodon", handle)
    [delivery] = scheduled(db, settings, ada, (account,), handle, media=(a_picture(db, ada),))
    assert await preparing.prepare(engine, delivery.id)
    db.execute(f"UPDATE deliveries SET {NEWER}".encode())
    db.execute("DELETE FROM procrastinate_jobs")
    return delivery


@pytest.mark.parametrize("handle", ["newer-and-never-sent"])
async def test_what_cannot_be_read_and_was_never_sent_is_prepared_anew_and_goes_out(
    handle: str, ready: Delivery, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    assert await sending.publish(engine, ready.id) is None
    await lifetime.run_due(engine, db)
    assert (status_of(db, ready), sandbox.ledger.times_published(handle)) == ("published", 1)


@pytest.mark.parametrize("handle", ["newer-and-sent-ready", "newer-and-sent-scheduled"])
async def test_what_cannot_be_read_and_may_have_been_sent_waits_for_a_worker_that_can(
    handle: str, ready: Delivery, db: psycopg.Connection, engine: Engine, sandbox: Sandbox
) -> None:
    state = handle.rsplit("-", 1)[1]
    db.execute("UPDATE deliveries SET status = %s, attempt_no = 1, sent_at = now(), first_sent_at = now()", [state])
    [(before,)] = db.execute("SELECT staged FROM deliveries").fetchall()
    await sending.publish(engine, ready.id)
    assert (status_of(db, ready), sandbox.ledger.times_published(handle)) == (state, 0)
    assert db.execute("SELECT staged, faults, wake_at > now() + interval '1 minute' FROM deliveries").fetchone() == (
        before,
        0,
        True,
    )
    assert db.execute("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'publish'").fetchone() == (1,)


@pytest.mark.parametrize("handle", ["newer-and-unknown"])
async def test_what_cannot_be_read_and_is_unknown_is_left_to_a_worker_that_can_and_not_to_its_person(
    ready: Delivery, db: psycopg.Connection, engine: Engine
) -> None:
    db.execute(
        "UPDATE deliveries SET status = 'unknown', attempt_no = 1, sent_at = now(), first_sent_at = now(), wake_at = now()"
    )
    await reconciling.reconcile(engine, ready.id)
    assert status_of(db, ready) == "unknown"
