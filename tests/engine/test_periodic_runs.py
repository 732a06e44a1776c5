"""Each run of a periodic job is made once, also when nobody was there at its time, and noted: how it ended and what it
counted. What dead workers held is freed by one of them.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import procrastinate
import psycopg
import pytest
from procrastinate import PsycopgConnector

from postflow import config
from postflow import db as database
from postflow.engine import Engine
from postflow.operations import periodic_runs, totals
from postflow.publishing import sweeping
from tests.engine.conftest import an_account, scheduled
from worker import engine as workers_engine
from worker import periodic, run_records, schedule


@pytest.fixture
def settings(settings: config.Settings) -> config.Settings:
    """With no job of every minute but one, which `jobs` leaves out: a minute may begin in the middle of a test."""
    in_twelve_hours = datetime.now(UTC) + timedelta(hours=12)
    return settings.model_copy(update={"sweep_cron": f"0 {in_twelve_hours.hour} * * *"})


@pytest.fixture
def planned(
    engine: Engine, settings: config.Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> Engine:
    """A worker has started and this process is it."""
    monkeypatch.setattr(workers_engine, "_engine", engine)
    periodic_runs.plan(db, schedule.planned(settings, database.now(db)))
    return engine


@pytest.fixture
async def queue(planned: Engine, database_url: str) -> AsyncIterator[procrastinate.App]:
    """The worker's app, opened on this test's database."""
    with periodic.app.replace_connector(PsycopgConnector(conninfo=database_url)) as app:
        async with app.open_async():
            yield app


def run_of(db: psycopg.Connection, name: str) -> periodic_runs.Run:
    return next(run for run in periodic_runs.known(db) if run.name == name)


async def test_a_run_is_noted_with_what_it_counted(
    planned: Engine, db: psycopg.Connection, sandbox, settings: config.Settings, ada: int
) -> None:
    account = await an_account(db, planned, sandbox, ada, "mastodon", "noted")
    scheduled(db, settings, ada, (account,), "overslept")
    db.execute("UPDATE deliveries SET wake_at = now() - interval '1 minute'")
    db.execute("DELETE FROM procrastinate_jobs")
    before = run_of(db, "sweep")
    noted = run_records.noted("sweep")

    async def sweep() -> dict[str, int]:
        return await sweeping.sweep(planned)

    await noted(sweep)()
    run = run_of(db, "sweep")
    assert before.outcome is None
    assert (run.outcome, run.said) == ("done", "sending 0, preparing 0, asleep 1, held 0, forgotten 0, rechecks 0")
    assert run.began_at and run.ended_at and run.began_at <= run.ended_at


async def test_a_run_that_fails_is_noted_and_still_fails(planned: Engine, db: psycopg.Connection) -> None:
    noted = run_records.noted("purge")

    async def purge() -> None:
        raise ValueError("nothing to sweep with")

    with pytest.raises(ValueError, match="nothing to sweep with"):
        await noted(purge)()
    run = run_of(db, "purge")
    assert (run.outcome, run.said) == ("failed", "ValueError: nothing to sweep with")


def test_every_periodic_job_has_a_task_of_its_name() -> None:
    assert {job.name for job in schedule.JOBS} <= set(periodic.app.tasks)


# -- each run once -----------------------------------------------------------------------------------------


def jobs(db: psycopg.Connection, status: str = "todo") -> list[str]:
    rows = db.execute(
        "SELECT task_name FROM procrastinate_jobs WHERE status::text = %s AND task_name <> 'tell_people' ORDER BY 1",
        [status],
    ).fetchall()
    return [name for (name,) in rows]


def make_due(db: psycopg.Connection, *names: str, since: str = "1 minute") -> None:
    db.execute("UPDATE periodic_runs SET next_at = now() - %s::interval WHERE name = ANY(%s)", [since, list(names)])


async def test_a_tick_defers_what_is_due_and_plans_its_next_run(
    queue: procrastinate.App, db: psycopg.Connection, settings: config.Settings
) -> None:
    make_due(db, "sweep", "purge")
    await periodic.tick(timestamp=0)
    assert jobs(db) == ["purge", "sweep"]
    expected = {job.name: job.next_at for job in schedule.planned(settings, database.now(db))}
    for name in ("sweep", "purge"):
        assert run_of(db, name).next_at == expected[name]
        assert run_of(db, name).is_unfinished
    await periodic.tick(timestamp=0)
    assert jobs(db) == ["purge", "sweep"]


async def test_ticks_of_many_workers_at_once_make_each_run_once(
    queue: procrastinate.App, db: psycopg.Connection
) -> None:
    make_due(db, *(job.name for job in schedule.JOBS))
    await asyncio.gather(*(periodic.tick(timestamp=minute) for minute in range(6)))
    assert jobs(db) == sorted({job.name for job in schedule.JOBS} - {"tell_people"})


async def test_runs_missed_while_no_worker_ran_are_made_up_for_by_one(
    queue: procrastinate.App, db: psycopg.Connection, settings: config.Settings
) -> None:
    make_due(db, "refresh_tokens", since="9 days")
    periodic_runs.plan(db, schedule.planned(settings, database.now(db)))  # a worker starts
    await periodic.tick(timestamp=0)
    await periodic.tick(timestamp=60)
    assert jobs(db) == ["refresh_tokens"]
    assert run_of(db, "refresh_tokens").next_at > database.now(db)


@pytest.mark.parametrize("changed", [{"purge_cron": "0 5 * * *"}, {"time_zone": "Asia/Tokyo"}])
async def test_a_schedule_that_has_changed_is_planned_anew(
    changed: dict[str, Any], queue: procrastinate.App, db: psycopg.Connection, settings: config.Settings
) -> None:
    make_due(db, "purge")
    now = database.now(db)
    anew = settings.model_copy(update=changed)
    periodic_runs.plan(db, schedule.planned(anew, now))
    [purge] = [job for job in schedule.planned(anew, now) if job.name == "purge"]
    assert run_of(db, "purge").next_at == purge.next_at
    make_due(db, "purge")
    await periodic.tick(timestamp=0)  # this worker's settings still say otherwise: whoever gets the tick, it is made
    assert "purge" in jobs(db)
    assert run_of(db, "purge").next_at == purge.next_at


def test_a_job_of_a_newer_release_is_not_forgotten_when_an_older_worker_starts(
    planned: Engine, db: psycopg.Connection, settings: config.Settings
) -> None:
    db.execute(
        "INSERT INTO periodic_runs (name, label, cron, time_zone, next_at) VALUES"
        " ('newer', 'Runs', '* * * * *', 'UTC', now()), ('former', 'Gone', '* * * * *', 'UTC', now() - interval '9 days')"
    )
    periodic_runs.plan(db, schedule.planned(settings, database.now(db)))
    names = {run.name for run in periodic_runs.known(db)}
    assert "newer" in names
    assert "former" not in names


def test_a_run_planned_by_a_clock_that_has_been_set_back_is_brought_forward(
    planned: Engine, db: psycopg.Connection, settings: config.Settings
) -> None:
    db.execute("UPDATE periodic_runs SET next_at = now() + interval '400 days'")
    periodic_runs.plan(db, schedule.planned(settings, database.now(db)))
    assert all(run.next_at < database.now(db) + timedelta(days=2) for run in periodic_runs.known(db))


async def test_a_run_that_nobody_has_begun_is_joined_by_the_next(
    queue: procrastinate.App, db: psycopg.Connection
) -> None:
    for _ in range(3):
        make_due(db, "purge", "sweep")
        await periodic.tick(timestamp=0)
    assert jobs(db) == ["purge", "sweep"]
    assert run_of(db, "purge").next_at > database.now(db)


async def test_a_run_that_takes_long_is_not_joined_by_another_in_the_same_process(db: psycopg.Connection) -> None:
    going, over, begun = asyncio.Event(), asyncio.Event(), []

    async def slow() -> None:
        begun.append("one more")
        going.set()
        await over.wait()

    alone = periodic._alone("tell_people", slow)
    first = asyncio.create_task(alone())
    await going.wait()
    await alone()
    assert len(begun) == 1
    over.set()
    await first
    await alone()
    assert len(begun) == 2


async def test_recovery_goes_before_posts_however_many_are_due(
    queue: procrastinate.App, db: psycopg.Connection
) -> None:
    make_due(db, "sweep", "purge")
    await periodic.tick(timestamp=0)
    await periodic.tick.configure(task_kwargs={}).defer_async(timestamp=0)
    db.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, scheduled_at)"
        " SELECT 'posts', 'publish', 10, now() - interval '1 hour' FROM generate_series(1, 50)"
    )
    first = [db.execute("SELECT task_name FROM procrastinate_fetch_job_v2(NULL, NULL)").fetchone() for _ in range(3)]
    assert first == [("sweep",), ("tick",), ("publish",)]


@pytest.mark.parametrize(
    "eve", [datetime(2026, 3, 28, 21, tzinfo=UTC), datetime(2026, 10, 24, 21, tzinfo=UTC)], ids=str
)
@pytest.mark.parametrize("line", ["* * * * *", "*/15 * * * *", "0 0,6,12,18 * * *", "30 2 * * *", "15 4 * * *"])
def test_no_run_is_left_out_when_clocks_are_changed(line: str, eve: datetime, settings: config.Settings) -> None:
    """Every matching minute on the wall, one after the other, through the night in Berlin."""
    berlin = settings.model_copy(update={"time_zone": "Europe/Berlin", "purge_cron": line})
    [purge] = [job for job in schedule.JOBS if job.name == "purge"]
    minutes = [eve + timedelta(minutes=minute) for minute in range(9 * 60)]
    due = {at for at in minutes if schedule.croniter.match(line, at.astimezone(berlin.zone))}
    at, made = eve - timedelta(seconds=1), set()
    while (at := schedule.next_run(purge, berlin, at)) <= minutes[-1]:
        made.add(at)
    assert made >= due
    assert len(made - due) <= 1  # a time that the wall's clock leaps over: at the leap


# -- what dead workers held --------------------------------------------------------------------------------


def dead_workers_job(db: psycopg.Connection, task: str, *, lock: str | None = None) -> int:
    row = db.execute(
        "WITH dead AS (INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '5 minutes') RETURNING id)"
        " INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock, status, worker_id, args)"
        """ SELECT 'posts', %s, %s, 'doing', id, '{"delivery_id": 4711}' FROM dead RETURNING id""",
        [task, lock],
    ).fetchone()
    assert row
    return row[0]


async def test_the_sweep_frees_what_dead_workers_held_and_somebody_runs_it(
    queue: procrastinate.App, db: psycopg.Connection
) -> None:
    stalled = dead_workers_job(db, "publish")
    await periodic.sweep.configure().defer_async()
    for _ in range(2):  # one sweeps, one takes what was freed
        await procrastinate.App.run_worker_async(queue, wait=False, listen_notify=False, install_signal_handlers=False)
    assert db.execute("SELECT status::text FROM procrastinate_jobs WHERE id = %s", [stalled]).fetchone() == (
        "succeeded",
    )
    assert run_of(db, "sweep").outcome == "done"


async def test_the_sweep_adds_up_what_was_counted_since_so_that_no_scrape_reads_more(
    queue: procrastinate.App, db: psycopg.Connection
) -> None:
    db.execute("INSERT INTO tallies SELECT 'refresh', 'pixelfed', 'refreshed' FROM generate_series(1, 3)")
    await periodic.sweep()
    assert db.execute("SELECT count(*) FROM tallies").fetchone() == (0,)
    assert [(one.label, one.times) for one in totals.read(db)] == [("refreshed", 3)]


async def test_a_job_that_cannot_be_freed_holds_up_no_other(queue: procrastinate.App, db: psycopg.Connection) -> None:
    twin = dead_workers_job(db, "refresh_token", lock="refresh_token:7")
    db.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, queueing_lock) VALUES ('p', 'refresh_token', 'refresh_token:7')"
    )
    stalled = dead_workers_job(db, "publish")
    await periodic.sweep()
    status = dict(db.execute("SELECT id, status::text FROM procrastinate_jobs").fetchall())
    assert (status[twin], status[stalled]) == ("doing", "todo")
    db.execute("UPDATE procrastinate_jobs SET status = 'succeeded' WHERE id NOT IN (%s, %s)", [twin, stalled])
    await periodic.sweep()
    assert db.execute("SELECT status::text FROM procrastinate_jobs WHERE id = %s", [twin]).fetchone() == ("todo",)


# -- upkeep of accounts ------------------------------------------------------------------------------------


async def test_upkeep_of_accounts_leaves_room_for_posts_and_comes_back_soon(
    queue: procrastinate.App, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "_at_work", {f"verify_account:{number}" for number in range(periodic.UPKEEP_AT_ONCE)})
    for _ in range(2):  # and one waiting job is enough
        await periodic.verify_account(account_id=4711)
    rows = db.execute(
        "SELECT task_name, args, scheduled_at BETWEEN now() + interval '20 seconds' AND now() + interval '61 seconds'"
        " FROM procrastinate_jobs"
    ).fetchall()
    assert rows == [("verify_account", {"account_id": 4711}, True)]


@pytest.mark.parametrize(("connections", "most"), [(2, 1), (3, 1), (4, 1), (8, 2), (10, 2), (16, 4), (200, 4)])
def test_upkeep_takes_a_quarter_of_the_connections_at_most(
    connections: int, most: int, settings: config.Settings
) -> None:
    assert periodic._most_at_once(settings.model_copy(update={"database_connections": connections})) == most
