"""The due bell: one worker is woken for one due job, nobody for tomorrow's, and somebody always keeps it.

The workers are Procrastinate's own, on real connections, and their poll is an hour away: what they do in time they do
because the bell rang.
"""

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any, LiteralString, NamedTuple

import procrastinate
import psycopg
import pytest
from procrastinate import sql
from psycopg.conninfo import make_conninfo

from postflow import db as database
from tests.patience import PATIENCE_S
from worker import connector, notifier

AN_HOUR_S = 3600.0


class Start(NamedTuple):
    """`job_id` started at `at`, in the worker with this number."""

    job_id: int
    at: datetime
    worker: int


class Counted(connector.PunctualConnector):
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
        self.poll_s = AN_HOUR_S
        self.started: list[Start] = []
        self.hold = asyncio.Event()  # "held" jobs end when it is set

    async def add(
        self,
        count: int,
        *,
        concurrency: int = 5,
        queues: list[str] | None = None,
        options: str | None = None,
        stock: bool = False,
    ) -> None:
        url = make_conninfo(self._url, options=options) if options else self._url
        for _ in range(count):
            await self._add(url, concurrency, queues, stock)

    async def _add(self, url: str, concurrency: int, queues: list[str] | None, stock: bool) -> None:
        number, room = len(self._apps), connector.Room()
        size = {"min_size": 1, "max_size": 2}
        own: procrastinate.BaseConnector = procrastinate.PsycopgConnector(conninfo=url, **size)
        if not stock:
            own = Counted(conninfo=url, room=room, **size)
            self._connectors.append(own)
        app = procrastinate.App(connector=own)
        self._declare(app, number)
        await app.open_async()
        self._apps.append(app)
        running = app.run_worker_async(
            queues=queues,
            concurrency=concurrency,
            fetch_job_polling_interval=self.poll_s,
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

    async def claims_at_rest(self) -> int:
        """Once nobody looks any more: on a busy machine the last to come takes a while."""
        before = -1
        while before != self.claims():
            before = self.claims()
            await asyncio.sleep(0.7)
        return before

    def has_ended(self, number: int) -> bool:
        return self._tasks[number].done()

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
    async with asyncio.timeout(PATIENCE_S):
        await one.leave()


@pytest.fixture
def by_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper's own look, every few seconds, is an hour away too: what happens was announced, or was due as foreseen."""
    monkeypatch.setattr(notifier, "LOOK_AGAIN_S", AN_HOUR_S)


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
        [notifier._LOCK_SPACE],
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


async def test_of_twenty_workers_one_is_woken_for_one_due_post_and_claims_it(
    crowd: Crowd, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
):
    """Rung for once: on a busy machine the one that was woken may take longer to come than until the next ring."""
    monkeypatch.setattr(notifier, "FIRST_PAUSE_S", AN_HOUR_S)
    monkeypatch.setattr(notifier, "LONGEST_PAUSE_S", AN_HOUR_S)
    await crowd.add(20)
    await everybody_listens(db, 20)
    before = await crowd.claims_at_rest()
    defer(db, 1.0)
    await eventually(lambda: done(db) == 1)
    await asyncio.sleep(0.3)  # whoever else was woken would look by now
    assert crowd.claims() - before == 2  # the one that took it, and then looked whether there is another
    assert len(crowd.started) == 1


async def test_jobs_for_tomorrow_make_none_of_twenty_workers_look(crowd: Crowd, db: psycopg.Connection):
    await crowd.add(20)
    await everybody_listens(db, 20)
    before = await crowd.claims_at_rest()
    for _ in range(30):
        defer(db, 86_400)
    defer(db, 86_400, count=500)
    await asyncio.sleep(0.5)
    assert crowd.claims() == before


async def test_a_job_due_at_once_wakes_workers_as_ever(crowd: Crowd, db: psycopg.Connection, by_call_alone: None):
    await crowd.add(3)
    await everybody_listens(db, 3)
    defer(db, None)
    defer(db, -1)
    await eventually(lambda: done(db) == 2)


async def test_a_job_that_is_due_when_it_is_inserted_is_rung_for_until_it_is_taken(
    crowd: Crowd, db: psycopg.Connection, by_call_alone: None
):
    """A stock worker that looks at the very moment forgets that it was told: here nobody but the bell is."""
    await crowd.add(1)
    await everybody_listens(db, 1)
    db.execute("ALTER TABLE procrastinate_jobs DISABLE TRIGGER procrastinate_jobs_notify_queue_job_inserted_v1")
    defer(db, -1)
    await eventually(lambda: done(db) == 1)


async def test_posts_due_together_are_shared_out_among_workers(
    crowd: Crowd, db: psycopg.Connection, by_call_alone: None
):
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


async def test_a_job_never_starts_before_its_time_and_none_waits_for_a_look(
    crowd: Crowd, db: psycopg.Connection, by_call_alone: None
):
    await crowd.add(2)
    await everybody_listens(db, 2)
    for tenth in range(20):
        defer(db, 0.05 + tenth * 0.11)
    await eventually(lambda: done(db) == 20)
    dates = dict(db.execute("SELECT id, scheduled_at FROM procrastinate_jobs").fetchall())
    assert all(start.at >= dates[start.job_id] for start in crowd.started)


async def test_jobs_start_sooner_than_a_stock_worker_would_start_them(crowd: Crowd, db: psycopg.Connection):
    """Both at once, so that a busy machine delays both: half of its five seconds a stock worker waits for its poll."""
    crowd.poll_s = 5.0
    await crowd.add(1, queues=["ours"])
    await everybody_listens(db, 1)
    await crowd.add(1, queues=["stock"], stock=True)
    await eventually(lambda: one(db, "SELECT count(*) FROM procrastinate_workers") == 2)
    for place in range(12):
        for queue in ("ours", "stock"):
            defer(db, 1 + place * 0.6, queue=queue)
    await eventually(lambda: done(db) == 24)
    dates = {job: (queue, at) for job, queue, at in db.execute(_DATES).fetchall()}
    late: dict[str, list[float]] = {"ours": [], "stock": []}
    for start in crowd.started:
        queue, at = dates[start.job_id]
        late[queue].append((start.at - at).total_seconds())
    assert statistics.median(late["ours"]) < statistics.median(late["stock"]), late


_DATES = "SELECT id, queue_name, scheduled_at FROM procrastinate_jobs"


async def test_a_job_moved_to_now_and_one_given_back_are_heard_of(
    crowd: Crowd, db: psycopg.Connection, by_call_alone: None
):
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
    monkeypatch.setattr(notifier, "STAND_AGAIN_S", AN_HOUR_S)  # by the word alone
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


async def test_a_keeper_that_stands_still_is_relieved_of_it(
    crowd: Crowd, db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(notifier, "LOOK_AGAIN_S", 0.2)
    monkeypatch.setattr(notifier, "STAND_AGAIN_S", 0.1)
    channels = ("procrastinate_any_queue_v1",)
    async with database.listening(database_url, notifier.name(channels)) as frozen:
        await frozen.execute("SELECT pg_advisory_lock(%s, %s)", [notifier._LOCK_SPACE, notifier._group(channels)])
        await crowd.add(2)
        await eventually(lambda: keepers(db) and keepers(db) != [frozen.info.backend_pid])
        with pytest.raises(psycopg.OperationalError):
            await frozen.execute("SELECT 1")
    defer(db, 0.3)
    await eventually(lambda: done(db) == 1)


async def test_a_keeper_that_looks_in_time_keeps_it(
    crowd: Crowd, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(notifier, "LOOK_AGAIN_S", 0.5)
    monkeypatch.setattr(notifier, "STAND_AGAIN_S", 0.1)
    await crowd.add(2)
    await everybody_listens(db, 2)
    before = keepers(db)
    await asyncio.sleep(notifier.LOOKS_MISSED * 0.5 + 1)
    assert keepers(db) == before


async def test_a_keeper_of_another_role_is_left_alone(
    crowd: Crowd, db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(notifier, "LOOK_AGAIN_S", 0.01)
    monkeypatch.setattr(notifier, "STAND_AGAIN_S", 0.05)
    channels = ("procrastinate_any_queue_v1",)
    async with database.listening(database_url, notifier.name(channels)) as others:
        await others.execute("SELECT pg_advisory_lock(%s, %s)", [notifier._LOCK_SPACE, notifier._group(channels)])
        db.execute("DROP ROLE IF EXISTS postflow_lesser")
        db.execute("CREATE ROLE postflow_lesser IN ROLE pg_read_all_stats")
        db.execute("GRANT SELECT, UPDATE, INSERT, DELETE ON ALL TABLES IN SCHEMA public TO postflow_lesser")
        db.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO postflow_lesser")
        await crowd.add(1, options="-c role=postflow_lesser")
        await asyncio.sleep(0.5)
        assert keepers(db) == [others.info.backend_pid]
        defer(db, None)
        await eventually(lambda: done(db) == 1)
    await crowd.leave()
    db.execute("DROP OWNED BY postflow_lesser; DROP ROLE postflow_lesser")


async def test_the_pause_between_rings_stops_growing_and_never_breaks(database_url: str):
    """After an hour of a job that nobody takes, doubling would have left the range of numbers."""
    async with database.listening(database_url, "a bell of its own") as conn:
        heard = []

        async def tell(**what: Any) -> None:
            heard.append(what)

        keeper = notifier.Bell(conn, ("procrastinate_any_queue_v1",), tell, connector.Room())
        for keeper._rings in (0, 3, 1100, 5_000_000):
            before = keeper._clock()
            await keeper._ring(1)
            assert 0 < keeper._ring_again_at - before < notifier.LONGEST_PAUSE_S + 1


async def test_the_server_watches_over_a_listening_connection(database_url: str):
    async with database.listening(database_url, "watched") as conn:
        row = await (
            await conn.execute("SELECT setting FROM pg_settings WHERE name = 'tcp_keepalives_idle'")
        ).fetchone()
        assert row == ("0" if conn.info.host.startswith("/") else "10",)


# -- when a claim breaks -----------------------------------------------------------------------------------


_CUT_A_CLAIM = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
     WHERE query LIKE '%procrastinate_fetch_job%' AND state = 'active' AND pid <> pg_backend_pid()
       AND datname = current_database()
"""


async def test_a_claim_whose_connection_is_cut_is_made_again_in_the_same_life(
    crowd: Crowd, db: psycopg.Connection, database_url: str
):
    """Ending the life would wait for the held job first, and claim nothing meanwhile."""
    await crowd.add(1)
    await everybody_listens(db, 1)
    defer(db, None, task="held")
    await eventually(lambda: crowd.started)
    async with await psycopg.AsyncConnection.connect(database_url) as holder:
        # Not from this thread: what has the table now belongs to workers that need its event loop to let it go.
        await holder.execute("LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE")
        db.execute("SELECT pg_notify('procrastinate_any_queue_v1', %s)", [notifier._INSERTED])
        await eventually(lambda: db.execute(_CUT_A_CLAIM).fetchone())
    defer(db, None)
    await eventually(lambda: done(db) == 1)
    assert not crowd.has_ended(0)


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
        room, free = connector.Room(), []

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
