"""Clocks that are set in one step, back or forth: nothing stops for as long as the step, nothing goes out twice.

That the database's clock was set back by an hour is told by rows whose instants lie an hour further on, and nothing else.
"""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta

import procrastinate
import psycopg
import pytest
from procrastinate import PsycopgConnector

from postflow import config
from postflow import db as database
from postflow.engine import Engine
from postflow.http import deadline
from postflow.operations import periodic_runs
from postflow.publishing import outgoing, sending, sweeping
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import an_account, scheduled, status_of
from worker import engine as workers_engine
from worker import periodic, schedule, tick_watch

HOUR = timedelta(hours=1)


def set_back(db: psycopg.Connection, by: timedelta = HOUR) -> None:
    """The database's clock: whatever was remembered lies so much further on."""
    db.execute(
        """
        UPDATE deliveries SET status_at = status_at + %(by)s, sent_at = sent_at + %(by)s, staged_at = staged_at + %(by)s,
               first_sent_at = first_sent_at + %(by)s, first_absent_at = first_absent_at + %(by)s,
               not_before = not_before + %(by)s, published_at = published_at + %(by)s,
               wake_at = CASE WHEN status IN ('scheduled', 'ready') AND not_before IS NULL
                              THEN wake_at ELSE wake_at + %(by)s END
        """,
        {"by": by},
    )
    db.execute(
        "UPDATE periodic_runs SET next_at = next_at + %(by)s, deferred_at = deferred_at + %(by)s,"
        " began_at = began_at + %(by)s, ended_at = ended_at + %(by)s",
        {"by": by},
    )
    db.execute(
        "UPDATE procrastinate_jobs SET scheduled_at = scheduled_at + %(by)s WHERE args ? 'delivery_id'", {"by": by}
    )


# -- periodic jobs -------------------------------------------------------------------------------------------


@pytest.fixture
async def queue(
    engine: Engine,
    settings: config.Settings,
    db: psycopg.Connection,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[procrastinate.App]:
    """A worker has started, this process is it, and each job has been run a moment ago."""
    monkeypatch.setattr(workers_engine, "_engine", engine)
    periodic_runs.plan(db, schedule.planned(settings, database.now(db)))
    db.execute("UPDATE periodic_runs SET deferred_at = now()")
    with periodic.app.replace_connector(PsycopgConnector(conninfo=database_url)) as app:
        async with app.open_async():
            yield app


def jobs(db: psycopg.Connection) -> set[str]:
    return {name for (name,) in db.execute("SELECT task_name FROM procrastinate_jobs WHERE queue_name = 'periodic'")}


async def test_periodic_jobs_go_on_after_the_databases_clock_was_set_back(
    queue: procrastinate.App, db: psycopg.Connection, settings: config.Settings
) -> None:
    set_back(db)
    await periodic.tick(timestamp=0)
    assert {"sweep", "tell_people"} <= jobs(db)
    by_the_wall = {job.name: job.next_at for job in schedule.planned(settings, database.now(db))}
    [sweep] = [run for run in periodic_runs.known(db) if run.name == "sweep"]
    assert sweep.next_at <= by_the_wall["sweep"]
    db.execute("DELETE FROM procrastinate_jobs")
    await periodic.tick(timestamp=0)
    assert "purge" not in jobs(db), "once is enough"


async def test_a_worker_that_read_the_clock_before_another_took_the_run_does_not_make_it_again(
    queue: procrastinate.App, engine: Engine, db: psycopg.Connection, settings: config.Settings
) -> None:
    """Two ticks around a full minute: the later one has planned the minute after next."""
    now = database.now(db)
    [early] = [job for job in schedule.planned(settings, now - timedelta(minutes=1)) if job.name == "sweep"]
    db.execute("UPDATE periodic_runs SET next_at = %s WHERE name = 'sweep'", [early.next_at + timedelta(minutes=1)])
    async with engine.pool.connection() as conn:
        assert not await periodic_runs.take(conn, early)


async def test_a_worker_whose_own_deferrer_is_silent_ticks_by_a_clock_that_is_never_set(
    queue: procrastinate.App, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tick_watch, "LOOK_EVERY_S", 0.05)
    ticked = asyncio.Event()

    async def tick() -> None:
        ticked.set()

    async with tick_watch.watched(tick):
        await asyncio.sleep(0.5)
        assert not ticked.is_set(), "runs were taken a moment ago"
        db.execute("UPDATE periodic_runs SET deferred_at = now() - interval '3 minutes'")
        async with asyncio.timeout(30):
            await ticked.wait()


# -- leases and looks ----------------------------------------------------------------------------------------


class Gone(Exception):
    """The worker ends here."""


def ending(engine: Engine, at: str) -> Engine:
    def reached(step: str) -> None:
        if step == at:
            raise Gone

    return dataclasses.replace(engine, reached=reached)


async def being_sent(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, user_id: int, text: str
) -> tuple[int, int]:
    """(delivery, account) of a request whose worker is gone before it left."""
    account = await an_account(db, engine, sandbox, user_id, "mastodon", text.replace(" ", "-"))
    [delivery] = scheduled(db, engine.settings, user_id, (account,), text)
    with pytest.raises(Gone):
        await sending.publish(ending(engine, "sending"), delivery.id)
    return delivery.id, account


def row(db: psycopg.Connection, delivery_id: int) -> tuple[str, float]:
    """(status, seconds until it wants to be woken)"""
    found = db.execute(
        "SELECT status, extract(epoch FROM wake_at - clock_timestamp())::float8 FROM deliveries WHERE id = %s",
        [delivery_id],
    ).fetchone()
    assert found
    return found


async def test_a_sweep_that_gives_its_own_requests_less_time_leaves_others_theirs(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    patient = dataclasses.replace(engine, settings=engine.settings.model_copy(update={"request_timeout_s": 100.0}))
    delivery_id, _ = await being_sent(db, patient, sandbox, ada, "under way for long")
    assert (await sweeping.sweep(engine))["sending"] == 0
    assert row(db, delivery_id)[0] == "sending"


async def test_a_request_under_way_keeps_its_lease_when_the_clock_is_set_back_and_is_looked_up_after_it(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    delivery_id, _ = await being_sent(db, engine, sandbox, ada, "sent before the clock was set back")
    set_back(db)
    await sweeping.sweep(engine)
    lease_s = deadline.lease_s(engine.settings.request_timeout_s)
    status, left_s = row(db, delivery_id)
    assert status == "sending" and 0 < left_s <= lease_s + 1
    await lifetime.to_rest(engine, db, [delivery_id])
    assert row_status(db, delivery_id) == "published"
    assert sandbox.ledger.times_published("sent before the clock was set back") == 1


def row_status(db: psycopg.Connection, delivery_id: int) -> str:
    found = db.execute("SELECT status FROM deliveries WHERE id = %s", [delivery_id]).fetchone()
    assert found
    return found[0]


async def test_a_look_comes_as_soon_as_was_meant_when_the_clock_is_set_back(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    delivery_id, _ = await being_sent(db, engine, sandbox, ada, "unknown before the clock was set back")
    lifetime.pass_time(db, 60)
    await sweeping.sweep(engine)
    assert row_status(db, delivery_id) == "unknown"
    set_back(db)
    await sweeping.sweep(engine)
    assert row(db, delivery_id)[1] < 120
    await lifetime.to_rest(engine, db, [delivery_id])
    assert row_status(db, delivery_id) == "published"
    assert sandbox.ledger.times_published("unknown before the clock was set back") == 1


async def test_a_pause_lasts_no_longer_than_was_meant_when_the_clock_is_set_back(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "paused-then-set-back")
    [delivery] = scheduled(db, settings, ada, (account,), "paused, then the clock was set back")
    db.execute(
        "UPDATE deliveries SET status_at = clock_timestamp(), not_before = clock_timestamp() + interval '1 minute',"
        " wake_at = clock_timestamp() + interval '1 minute' WHERE id = %s",
        [delivery.id],
    )
    set_back(db)
    await sweeping.sweep(engine)
    assert 0 < row(db, delivery.id)[1] <= 61


async def test_late_posts_keep_no_pace_to_what_went_out_in_the_future(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "paced-then-set-back")
    [before] = scheduled(db, settings, ada, (account,), "out before the clock was set back")
    assert await sending.publish(engine, before.id)
    set_back(db)
    [late] = scheduled(db, settings, ada, (account,), "late after the clock was set back")
    db.execute("UPDATE posts SET post_date = now() - interval '5 minutes' WHERE id = %s", [late.post_id])
    assert await sending.publish(engine, late.id)
    assert status_of(db, late) == "published"


# -- one clock for what is handed over -----------------------------------------------------------------------


async def test_what_is_gathered_tells_the_databases_time(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "gathered-at")
    [delivery] = scheduled(db, settings, ada, (account,), "gathered by the database's clock")
    before = database.now(db)
    parcel = await outgoing.gather(engine.pool, delivery, settings, with_data=False)
    assert before <= parcel.gathered_at <= parcel.now() <= database.now(db) + timedelta(seconds=1)
    elsewhere = parcel.model_copy(update={"gathered_at": parcel.gathered_at + HOUR})
    assert elsewhere.now() - parcel.now() > HOUR - timedelta(seconds=1)
