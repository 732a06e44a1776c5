"""Each run of a periodic job is noted: how it ended, what it counted, and when the next one is."""

import psycopg
import pytest
from procrastinate import PsycopgConnector

from postflow import config, publishing, runs
from postflow import db as database
from tests.engine.conftest import an_account, scheduled
from worker import engine as workers_engine
from worker import noting, periodic


@pytest.fixture
def planned(
    engine: publishing.Engine, settings: config.Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> publishing.Engine:
    """A worker has started and this process is it."""
    monkeypatch.setattr(workers_engine, "_engine", engine)
    runs.plan(db, periodic.planned(settings, database.now(db)))
    return engine


def run_of(db: psycopg.Connection, name: str) -> runs.Run:
    return next(run for run in runs.known(db) if run.name == name)


async def test_a_run_is_noted_with_what_it_counted(
    planned: publishing.Engine, db: psycopg.Connection, sandbox, settings: config.Settings, ada: int
) -> None:
    account = await an_account(db, planned, sandbox, ada, "mastodon", "noted")
    scheduled(db, settings, ada, (account,), "overslept")
    db.execute("UPDATE deliveries SET wake_at = now() - interval '1 minute'")
    before = run_of(db, "sweep")
    noted = noting.noted("sweep", lambda settings, now: periodic.next_run(periodic.JOBS[0], settings, now))

    async def sweep() -> dict[str, int]:
        return await publishing.sweep(planned)

    await noted(sweep)()
    run = run_of(db, "sweep")
    assert before.outcome is None
    assert (run.outcome, run.said) == ("done", "preparing 0, sending 0, asleep 1")
    assert run.began_at and run.ended_at and run.began_at <= run.ended_at < run.next_at


async def test_a_run_that_fails_is_noted_and_still_fails(planned: publishing.Engine, db: psycopg.Connection) -> None:
    noted = noting.noted("purge", lambda settings, now: now)

    async def purge() -> None:
        raise ValueError("nothing to sweep with")

    with pytest.raises(ValueError, match="nothing to sweep with"):
        await noted(purge)()
    run = run_of(db, "purge")
    assert (run.outcome, run.said) == ("failed", "ValueError: nothing to sweep with")


def test_every_periodic_job_has_a_task_of_its_name() -> None:
    assert {job.name for job in periodic.JOBS} <= set(periodic.app.tasks)


async def test_upkeep_of_accounts_leaves_room_for_posts_and_comes_back_soon(
    planned: publishing.Engine, db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(periodic, "_at_work", {f"verify_account:{number}" for number in range(periodic.UPKEEP_AT_ONCE)})
    with periodic.app.replace_connector(PsycopgConnector(conninfo=database_url)) as app:
        async with app.open_async():
            for _ in range(2):  # and one waiting job is enough
                await periodic.verify_account(account_id=4711)
    rows = db.execute(
        "SELECT task_name, args, scheduled_at BETWEEN now() + interval '20 seconds' AND now() + interval '61 seconds'"
        " FROM procrastinate_jobs"
    ).fetchall()
    assert rows == [("verify_account", {"account_id": 4711}, True)]
