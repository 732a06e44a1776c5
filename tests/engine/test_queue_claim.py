"""The claim: ours takes what Procrastinate's own function would take, and does not read the future.

One difference is wanted: inside one priority the order is scheduled_at, id, and then what has no date, by id.
"""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import class_row

OURS: LiteralString = "SELECT * FROM procrastinate_fetch_job_v2(%s, %s)"
STOCK: LiteralString = "SELECT * FROM postflow_stock_fetch_job_v2(%s, %s)"
both = pytest.mark.parametrize("claim", [OURS, STOCK], ids=["ours", "stock"])


class Job(NamedTuple):
    """A row of procrastinate_jobs; `due_s` in seconds from now."""

    due_s: int | None = None
    priority: int = 0
    lock: str | None = None
    queue: str = "posts"
    status: str = "todo"


class Claimed(NamedTuple):
    id: int | None
    queue_name: str | None
    task_name: str | None
    priority: int | None
    lock: str | None
    queueing_lock: str | None
    args: dict[str, Any] | None
    status: str | None
    scheduled_at: datetime | None
    attempts: int | None
    abort_requested: bool | None
    worker_id: int | None


@pytest.fixture
def worker_id(db: psycopg.Connection) -> int:
    row = db.execute("SELECT worker_id FROM procrastinate_register_worker_v1()").fetchone()
    assert row
    return row[0]


@pytest.fixture
def other(database_url: str) -> Iterator[psycopg.Connection]:
    """A second session that would rather fail than wait."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("SET lock_timeout = '2s'")
        yield conn


def insert(conn: psycopg.Connection, *jobs: Job) -> list[int]:
    """Their ids, in order."""
    ids = []
    for job in jobs:
        row = conn.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, lock, status, scheduled_at)"
            " VALUES (%s, 'task', %s, %s, %s, now() + make_interval(secs => %s)) RETURNING id",
            [job.queue, job.priority, job.lock, job.status, job.due_s],
        ).fetchone()
        assert row
        ids.append(row[0])
    return ids


def take(
    conn: psycopg.Connection, claim: LiteralString, worker_id: int | None = None, queues: list[str] | None = None
) -> Claimed:
    with conn.cursor(row_factory=class_row(Claimed)) as cursor:
        row = cursor.execute(claim, [queues, worker_id]).fetchone()
    assert row
    return row


def take_all(
    conn: psycopg.Connection, claim: LiteralString, queues: list[str] | None, *, finishing: bool
) -> list[Claimed]:
    taken = []
    while (job := take(conn, claim, None, queues)).id is not None:
        taken.append(job)
        if finishing:
            conn.execute("SELECT procrastinate_finish_job_v1(%s, 'succeeded', false)", [job.id])
    return taken


# -- whatever is in the queue ------------------------------------------------------------------------------

some_jobs = st.lists(
    st.builds(
        Job,
        due_s=st.sampled_from([None, None, -60, -60, -1, 0, 60, 3600]),
        priority=st.sampled_from([0, 0, 10, -5]),
        lock=st.sampled_from([None, None, "a", "b"]),
        queue=st.sampled_from(["posts", "periodic"]),
        status=st.sampled_from(["todo"] * 6 + ["succeeded", "failed", "cancelled", "aborted"]),
    ),
    max_size=12,
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    jobs=some_jobs,
    running=st.sampled_from([None, "a", "b"]),
    queues=st.sampled_from([None, ["posts"], ["posts", "periodic"], ["none"]]),
    finishing=st.booleans(),
)
def test_ours_and_stock_take_the_same_jobs_and_the_same_priorities_in_the_same_order(
    db: psycopg.Connection, jobs: list[Job], running: str | None, queues: list[str] | None, finishing: bool
):
    taken: dict[str, list[Claimed]] = {}
    with db.transaction(force_rollback=True):
        if running:
            insert(db, Job(lock=running, status="doing"))
        insert(db, *jobs)
        for claim in (OURS, STOCK):
            with db.transaction(force_rollback=True):
                taken[claim] = take_all(db, claim, queues, finishing=finishing)
    ours, stock = taken[OURS], taken[STOCK]
    assert sorted(ours, key=lambda job: job.id or 0) == sorted(stock, key=lambda job: job.id or 0)
    assert [job.priority for job in ours] == [job.priority for job in stock]
    if not finishing:
        assert ours == sorted(ours, key=our_order)


def our_order(job: Claimed) -> tuple[Any, ...]:
    never = datetime.max.replace(tzinfo=UTC)
    return (-(job.priority or 0), job.scheduled_at or never, job.id)


# -- one by one --------------------------------------------------------------------------------------------


@both
def test_a_claimed_job_is_running_counted_and_belongs_to_its_worker(
    claim: LiteralString, db: psycopg.Connection, worker_id: int
):
    [job_id] = insert(db, Job(due_s=-1))
    taken = take(db, claim, worker_id)
    assert (taken.id, taken.status, taken.worker_id, taken.attempts) == (job_id, "doing", worker_id, 0)
    stored = db.execute("SELECT status, worker_id, attempts FROM procrastinate_jobs").fetchone()
    assert stored == ("doing", worker_id, 0)
    events = db.execute("SELECT type FROM procrastinate_events WHERE type <> 'scheduled' ORDER BY id").fetchall()
    assert events == [("deferred",), ("started",)]


@both
def test_when_nothing_can_be_taken_every_field_is_empty(claim: LiteralString, db: psycopg.Connection):
    insert(db, Job(due_s=60), Job(status="doing"), Job(queue="elsewhere"))
    assert take(db, claim, None, ["posts"]) == Claimed(*[None] * 12)


@both
def test_a_higher_priority_goes_first_however_late_the_others_are(claim: LiteralString, db: psycopg.Connection):
    low, high, lowest = insert(db, Job(due_s=-3600), Job(due_s=-1, priority=10), Job(priority=-1))
    assert [job.id for job in take_all(db, claim, None, finishing=False)] == [high, low, lowest]


def test_inside_one_priority_the_oldest_date_goes_first_and_what_has_no_date_last(db: psycopg.Connection):
    undated, young, old, twin = insert(db, Job(), Job(due_s=-1), Job(due_s=-9), Job(due_s=-9))
    db.execute("UPDATE procrastinate_jobs SET scheduled_at = (SELECT scheduled_at FROM procrastinate_jobs WHERE id = %s)"
               " WHERE id = %s", [old, twin])  # fmt: skip
    assert [job.id for job in take_all(db, OURS, None, finishing=False)] == [old, twin, young, undated]


@both
def test_a_job_for_tomorrow_holds_its_lock_against_one_due_now(claim: LiteralString, db: psycopg.Connection):
    insert(db, Job(due_s=3600, lock="a"), Job(due_s=-1, lock="a"))
    assert take(db, claim).id is None


@both
def test_a_lock_goes_to_the_higher_priority_even_when_that_is_not_due(claim: LiteralString, db: psycopg.Connection):
    insert(db, Job(due_s=-1, lock="a"), Job(due_s=3600, lock="a", priority=10))
    assert take(db, claim).id is None


@both
def test_a_running_job_that_is_to_be_aborted_still_holds_its_lock(claim: LiteralString, db: psycopg.Connection):
    [running, _] = insert(db, Job(lock="a"), Job(lock="a"))
    assert take(db, claim).id == running
    db.execute("SELECT procrastinate_cancel_job_v1(%s, true, false)", [running])
    assert take(db, claim).id is None
    db.execute("SELECT procrastinate_finish_job_v1(%s, 'aborted', false)", [running])
    assert take(db, claim).id is not None


@both
def test_a_cancelled_job_is_never_taken_and_frees_its_lock(claim: LiteralString, db: psycopg.Connection):
    [cancelled, next_one] = insert(db, Job(lock="a"), Job(lock="a"))
    db.execute("SELECT procrastinate_cancel_job_v1(%s, true, false)", [cancelled])
    assert [job.id for job in take_all(db, claim, None, finishing=True)] == [next_one]


@both
def test_a_job_given_back_is_taken_again_when_its_new_date_has_come(claim: LiteralString, db: psycopg.Connection):
    [job_id] = insert(db, Job(due_s=-1))
    take(db, claim)
    later, now = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) - timedelta(seconds=1)
    retry: LiteralString = "SELECT procrastinate_retry_job_v2(%s, %s, 5, 'periodic', NULL)"
    db.execute(retry, [job_id, later])
    assert take(db, claim).id is None
    db.execute("UPDATE procrastinate_jobs SET scheduled_at = %s", [now])
    again = take(db, claim, None, ["periodic"])
    assert (again.id, again.attempts, again.priority) == (job_id, 1, 5)


# -- side by side ------------------------------------------------------------------------------------------


@both
def test_what_another_session_is_taking_is_passed_over_without_waiting(
    claim: LiteralString, db: psycopg.Connection, other: psycopg.Connection
):
    first, second = insert(db, Job(due_s=-2), Job(due_s=-1))
    with db.transaction():
        assert take(db, claim).id == first
        assert take(other, claim).id == second
        assert take(other, claim).id is None


@both
def test_a_lock_that_another_session_is_just_taking_is_not_taken_twice(
    claim: LiteralString, db: psycopg.Connection, other: psycopg.Connection
):
    first, _ = insert(db, Job(lock="a"), Job(lock="a"))
    with db.transaction():
        assert take(db, claim).id == first
        assert take(other, claim).id is None
    assert take(other, claim).id is None


@both
def test_a_claim_that_is_rolled_back_leaves_the_job_to_the_next(
    claim: LiteralString, db: psycopg.Connection, other: psycopg.Connection
):
    [job_id] = insert(db, Job(due_s=-1))
    with db.transaction(force_rollback=True):
        take(db, claim)
    assert take(other, claim).id == job_id


def test_eight_sessions_at_once_take_each_job_once(db: psycopg.Connection, database_url: str):
    ids = insert(db, *[Job(due_s=-(n % 7), priority=n % 3) for n in range(200)])
    taken: list[list[Claimed]] = []

    def work() -> None:
        with psycopg.connect(database_url, autocommit=True) as conn:
            taken.append(take_all(conn, OURS, None, finishing=True))

    in_threads(work, 8)
    assert sorted(job.id or 0 for each in taken for job in each) == ids


def in_threads(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


# -- what it costs -----------------------------------------------------------------------------------------


def test_a_claim_reads_no_more_rows_with_thousands_ahead_on_a_table_never_analysed(db: psycopg.Connection):
    db.execute("ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false)")
    read: dict[str, list[int]] = {OURS: [], STOCK: []}
    for ahead in (0, 4000):
        future(db, ahead)
        insert(db, Job(due_s=-1))
        read[OURS].append(rows_read(db, OURS))
        with db.transaction(force_rollback=True):
            db.execute("DROP INDEX postflow_jobs_due")  # stock has none, and would profit from it now and then
            read[STOCK].append(rows_read(db, STOCK))
    assert read[OURS][1] <= read[OURS][0] + 3
    assert read[STOCK][1] > 4000, "the measure sees what the stock function reads"


def test_a_look_ahead_reads_no_more_rows_with_thousands_ahead(db: psycopg.Connection):
    db.execute("ALTER TABLE procrastinate_jobs SET (autovacuum_enabled = false)")
    future(db, 4000)
    assert rows_read(db, "SELECT * FROM postflow_look_ahead(%s, coalesce(%s, 100))") < 20


@both
def test_a_claim_writes_one_version_of_its_row(claim: LiteralString, db: psycopg.Connection):
    insert(db, Job(due_s=-1))
    with db.transaction():
        take(db, claim)
        written = db.execute(
            "SELECT n_tup_upd FROM pg_stat_xact_user_tables WHERE relname = 'procrastinate_jobs'"
        ).fetchone()
    assert written == (1,)


def future(conn: psycopg.Connection, ahead: int) -> None:
    conn.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, scheduled_at)"
        " SELECT 'posts', 'task', n %% 2 * 10, now() + n * interval '1 minute' FROM generate_series(1, %s) AS n",
        [ahead],
    )


def rows_read(conn: psycopg.Connection, query: LiteralString) -> int:
    """Rows and index entries that one statement fetched from the table of jobs; undone afterwards."""
    with conn.transaction(force_rollback=True):
        before = rows_read_so_far(conn)
        conn.execute(query, [None, None])
        return rows_read_so_far(conn) - before


def rows_read_so_far(conn: psycopg.Connection) -> int:
    row = conn.execute(
        "SELECT t.seq_tup_read + coalesce(sum(pg_stat_get_xact_tuples_returned(i.indexrelid)), 0)"
        " FROM pg_stat_xact_user_tables t JOIN pg_index i ON i.indrelid = t.relid"
        " WHERE t.relname = 'procrastinate_jobs' GROUP BY t.seq_tup_read"
    ).fetchone()
    assert row
    return int(row[0])
