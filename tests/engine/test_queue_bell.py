"""The due bell: one worker is woken for one due job, nobody for tomorrow's, and somebody always keeps it.

The workers are Procrastinate's own, on real connections, and their poll is an hour away: what they do in time they do
because the bell rang.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, LiteralString, NamedTuple

import procrastinate
import psycopg
import pytest
from procrastinate import sql

from worker import bell, listening

AN_HOUR_S = 3600.0
PATIENCE_S = 30.0


class Start(NamedTuple):
    """`job_id` started at `at`, in the worker with this number."""

    job_id: int
    at: datetime
    worker: int


class Counted(listening.PunctualConnector):
    """Counts how often its worker asks for a job."""

    claims = 0

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:
        self.claims += query == sql.queries["fetch_job"]
        return await super().execute_query_one_async(query, **arguments)


class Crowd:
    """Workers in this process, each with a pool, a listening connection and a bell of its own."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._tasks: list[asyncio.Task[None]] = []
        self._apps: list[procrastinate.App] = []
        self._connectors: list[Counted] = []
        self.started: list[Start] = []
        self.hold = asyncio.Event()  # "held" jobs end when it is set

    async def add(self, count: int, *, concurrency: int = 5, queues: list[str] | None = None) -> None:
        for _ in range(count):
            await self._add(concurrency, queues)

    async def _add(self, concurrency: int, queues: list[str] | None) -> None:
        number, room = len(self._apps), listening.Room()
        connector = Counted(conninfo=self._url, room=room, min_size=1, max_size=2)
        self._connectors.append(connector)
        app = procrastinate.App(connector=connector)
        self._declare(app, number)
        await app.open_async()
        self._apps.append(app)
        running = app.run_worker_async(
            queues=queues,
            concurrency=concurrency,
            fetch_job_polling_interval=AN_HOUR_S,
            abort_job_polling_interval=AN_HOUR_S,
            update_heartbeat_interval=AN_HOUR_S,
            install_signal_handlers=False,
            worker_middleware=[room.counted],
        )
        self._tasks.append(asyncio.create_task(running))

    def _declare(self, app: procrastinate.App, number: int) -> None:
        @app.task(name="note", pass_context=True)
        async def note(context: procrastinate.JobContext) -> None:
            self.started.append(Start(context.job.id or 0, datetime.now(UTC), number))

        @app.task(name="held", pass_context=True)
        async def held(context: procrastinate.JobContext) -> None:
            self.started.append(Start(context.job.id or 0, datetime.now(UTC), number))
            await self.hold.wait()

    def claims(self) -> int:
        return sum(connector.claims for connector in self._connectors)

    async def stop(self, number: int) -> None:
        self._tasks[number].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._tasks[number]

    async def leave(self) -> None:
        self.hold.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for app in self._apps:
            await app.close_async()


@pytest.fixture
async def crowd(database_url: str) -> AsyncIterator[Crowd]:
    one = Crowd(database_url)
    yield one
    await one.leave()


async def eventually(what: Callable[[], Any]) -> None:
    for _ in range(round(PATIENCE_S / 0.01)):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


async def everybody_listens(db: psycopg.Connection, count: int) -> None:
    """And has looked at the queue, and one keeps the bell."""
    await eventually(
        lambda: (
            one(db, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'postflow bell %%'") == count
            and keepers(db)
        )
    )
    await asyncio.sleep(0.3)


def keepers(db: psycopg.Connection) -> list[int]:
    """The pids of the sessions that hold the lock of a bell in this database."""
    rows = db.execute(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
        [bell._LOCK_SPACE],
    ).fetchall()
    return [pid for (pid,) in rows]


def one(db: psycopg.Connection, query: str, *values: Any) -> Any:
    row = db.execute(query.encode(), values).fetchone()
    assert row
    return row[0]


def defer(
    db: psycopg.Connection, in_s: float | None, *, task: str = "note", queue: str = "posts", count: int = 1
) -> None:
    db.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at)"
        " SELECT %s, %s, clock_timestamp() + make_interval(secs => %s) FROM generate_series(1, %s)",
        [queue, task, in_s, count],
    )


def done(db: psycopg.Connection) -> int:
    return one(db, "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'")


# -- who is woken ------------------------------------------------------------------------------------------


async def test_of_twenty_workers_one_is_woken_for_one_due_post_and_claims_it(crowd: Crowd, db: psycopg.Connection):
    await crowd.add(20)
    await everybody_listens(db, 20)
    before = crowd.claims()
    defer(db, 1.0)
    await eventually(lambda: done(db) == 1)
    await asyncio.sleep(0.3)  # whoever else was woken would look by now
    assert crowd.claims() - before == 2  # the one that took it, and then looked whether there is another
    assert len(crowd.started) == 1


async def test_jobs_for_tomorrow_make_none_of_twenty_workers_look(crowd: Crowd, db: psycopg.Connection):
    await crowd.add(20)
    await everybody_listens(db, 20)
    before = crowd.claims()
    for _ in range(30):
        defer(db, 86_400)
    defer(db, 86_400, count=500)
    await asyncio.sleep(0.5)
    assert crowd.claims() == before


async def test_a_job_due_at_once_wakes_workers_as_ever(crowd: Crowd, db: psycopg.Connection):
    await crowd.add(3)
    await everybody_listens(db, 3)
    defer(db, None)
    defer(db, -1)
    await eventually(lambda: done(db) == 2)


async def test_posts_due_together_are_shared_out_among_workers(crowd: Crowd, db: psycopg.Connection):
    await crowd.add(4, concurrency=1)
    await everybody_listens(db, 4)
    defer(db, 1.0, task="held", count=4)
    await eventually(lambda: len(crowd.started) == 4)
    assert {start.worker for start in crowd.started} == {0, 1, 2, 3}


async def test_a_keeper_without_a_free_slot_wakes_another(crowd: Crowd, db: psycopg.Connection):
    await crowd.add(1, concurrency=1)
    await everybody_listens(db, 1)
    defer(db, None, task="held")
    await eventually(lambda: crowd.started)
    await crowd.add(1)
    await everybody_listens(db, 2)
    defer(db, 0.5)
    await eventually(lambda: done(db) == 1)
    assert [start.worker for start in crowd.started] == [0, 1]


async def test_a_job_never_starts_before_its_time_and_none_waits_for_the_poll(crowd: Crowd, db: psycopg.Connection):
    await crowd.add(2)
    await everybody_listens(db, 2)
    for tenth in range(20):
        defer(db, 0.05 + tenth * 0.11)
    await eventually(lambda: done(db) == 20)
    dates = dict(db.execute("SELECT id, scheduled_at FROM procrastinate_jobs").fetchall())
    assert all(start.at >= dates[start.job_id] for start in crowd.started)


async def test_a_job_moved_to_now_and_one_given_back_are_heard_of(crowd: Crowd, db: psycopg.Connection):
    await crowd.add(2)
    await everybody_listens(db, 2)
    defer(db, 3600, count=2)
    db.execute("UPDATE procrastinate_jobs SET scheduled_at = now() WHERE id % 2 = 0")
    await eventually(lambda: done(db) == 1)
    db.execute("UPDATE procrastinate_jobs SET status = 'doing' WHERE status = 'todo'")
    db.execute(
        "SELECT procrastinate_retry_job_v2(id, now(), NULL, NULL, NULL) FROM procrastinate_jobs WHERE status = 'doing'"
    )
    await eventually(lambda: done(db) == 2)


async def test_workers_for_other_queues_keep_a_bell_of_their_own(crowd: Crowd, db: psycopg.Connection):
    await crowd.add(2, queues=["posts"])
    await crowd.add(2, queues=["periodic"])
    await everybody_listens(db, 4)
    assert len(keepers(db)) == 2
    defer(db, 0.5, queue="periodic")
    defer(db, 0.7, queue="posts")
    await eventually(lambda: done(db) == 2)
    assert [start.worker // 2 for start in crowd.started] == [1, 0]


async def test_a_job_in_a_queue_that_nobody_serves_does_not_keep_the_others_from_theirs(
    crowd: Crowd, db: psycopg.Connection
):
    await crowd.add(2, queues=["posts"])
    await everybody_listens(db, 2)
    defer(db, -5, queue="nobody's")
    defer(db, 0.4)
    await eventually(lambda: done(db) == 1)


# -- who keeps it ------------------------------------------------------------------------------------------


async def test_when_the_keeper_stops_another_takes_over_at_once(
    crowd: Crowd, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(bell, "STAND_AGAIN_S", AN_HOUR_S)  # by the word alone
    await crowd.add(1)
    await everybody_listens(db, 1)
    await crowd.add(2)
    await everybody_listens(db, 3)
    before = keepers(db)
    await crowd.stop(0)
    await eventually(lambda: keepers(db) and keepers(db) != before)
    defer(db, 0.3)
    await eventually(lambda: done(db) == 1)


async def test_when_the_keeper_vanishes_without_a_word_another_takes_over(crowd: Crowd, db: psycopg.Connection):
    await crowd.add(3)
    await everybody_listens(db, 3)
    [before] = keepers(db)
    db.execute("SELECT pg_terminate_backend(%s)", [before])
    await eventually(lambda: len(keepers(db)) == 1 and keepers(db) != [before])
    defer(db, 0.3)
    await eventually(lambda: done(db) == 1)


async def test_a_job_inserted_while_nobody_could_listen_starts_when_the_connection_is_back(
    crowd: Crowd, db: psycopg.Connection
):
    await crowd.add(1)
    await everybody_listens(db, 1)
    db.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'postflow bell %'"
        " AND datname = current_database()"
    )
    defer(db, None)
    defer(db, 0.1)
    await eventually(lambda: done(db) == 2)


def test_a_worker_is_full_when_all_its_slots_are_taken_and_free_again_after_a_failure():
    class Two:
        concurrency = 2

    async def seen() -> list[bool]:
        room, free = listening.Room(), []

        async def inner() -> None:
            free.append(room.is_free())
            raise ValueError

        async def outer() -> None:
            free.append(room.is_free())
            with contextlib.suppress(ValueError):
                await room.counted(inner, None, Two())

        await room.counted(outer, None, Two())
        return [*free, room.is_free()]

    assert asyncio.run(seen()) == [True, False, True]
