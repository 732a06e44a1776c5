"""What we replace in Procrastinate's queue is exactly what we know: an upgrade that changes it fails here first."""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from alembic import command
from procrastinate import manager, psycopg_connector, schema, sql, worker

from postflow.operations import migrate

WHAT_TO_DO = (
    "Procrastinate's {} has changed. Read what changed in the release; carry it over into migrations/sql/0004_queue.sql"
    " and worker/notifier.py by a new revision (a Procrastinate migration that recreates the function removes ours); run"
    " tests/engine/test_queue_claim.py; then pin {!r}. docs/queue.md has the steps."
)

#: Of the functions as Procrastinate's schema.sql installs them: what we replace, and what leads to it.
FUNCTIONS = {
    "procrastinate_fetch_job_v2": "750ee1bd787876ed",
    "procrastinate_notify_queue_job_inserted_v1": "9eb1229d7d2dbcdb",
    "procrastinate_notify_queue_abort_job_v1": "d485eab34c39842c",
    "procrastinate_defer_jobs_v1": "1f44d6de731b7d9c",
    "procrastinate_defer_periodic_job_v2": "0712a6494f146af7",
    "procrastinate_retry_job_v2": "d021281d9e8b0e60",
    "procrastinate_finish_job_v1": "11762fc9d3ad8653",
    "procrastinate_cancel_job_v1": "ff6479b9d8707d64",
}
TRIGGERS, TABLE = "67e5b4a611237cb8", "2362351dea80706c"
QUERIES = {
    "fetch_job": "f835132a0a323e07",
    "defer_jobs": "c6e63dc79a28f435",
    "defer_periodic_job": "ea6b04988ac3313a",
    "retry_job": "8e4ad4efcf834ca4",
    "listen_queue": "726d96acb4477b65",
}
#: Python that calls the claim, or is called by the bell in place of the stock listener.
CALLERS: dict[Callable[..., Any], str] = {
    manager.JobManager.fetch_job: "bb65608952b5ac41",
    manager.JobManager.listen_for_jobs: "8c9ddc96dfcbfd79",
    manager.get_channel_for_queues: "b009b996e1f335a1",
    worker.Worker._fetch_and_process_jobs: "4de336a3f291be50",
    worker.Worker._handle_notification: "cfe6457278bdb7b3",
    worker.Worker._run_loop: "b684c1acade2b9d1",
    worker.Worker._start_side_tasks: "f596974576171bc3",
    psycopg_connector.PsycopgConnector.listen_notify: "22413acca1cd70c6",
    psycopg_connector.PsycopgConnector._loop_notify: "8457d95ebd00ce9f",
    psycopg_connector.PsycopgConnector._create_pool: "416cb9cd939a4515",
    psycopg_connector.PsycopgConnector.open_async: "62a38216cc15f8b6",
    psycopg_connector.PsycopgConnector.execute_query_one_async: "ed7700b2783fa07f",
}


@pytest.fixture
def stock(empty_database_url: str):
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        conn.execute(schema.SchemaManager.get_schema().encode())
        yield conn


def test_the_functions_we_replace_or_lean_on_are_the_ones_we_know(stock: psycopg.Connection):
    for name, known in FUNCTIONS.items():
        assert pinned(_function(stock, name)) == known, WHAT_TO_DO.format(name, pinned(_function(stock, name)))


def test_no_other_function_of_the_queue_calls_the_claim(stock: psycopg.Connection):
    found = stock.execute("SELECT proname FROM pg_proc WHERE prosrc LIKE '%fetch\\_job%'").fetchall()
    assert found == [], WHAT_TO_DO.format("claim has new callers, that", found)


def test_the_triggers_and_the_table_are_the_ones_we_know(stock: psycopg.Connection):
    found = pinned(_triggers(stock))
    assert found == TRIGGERS, WHAT_TO_DO.format("set of triggers", found)
    found = pinned(_table(stock))
    assert found == TABLE, WHAT_TO_DO.format("table of jobs", found)


@pytest.mark.parametrize("name", QUERIES)
def test_the_queries_that_call_them_are_the_ones_we_know(name: str):
    found = pinned(sql.queries[name])
    assert found == QUERIES[name], WHAT_TO_DO.format(f"query {name}", found)


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.__qualname__)
def test_the_worker_claims_and_listens_as_we_know_it(caller: Callable[..., Any]):
    found = pinned(inspect.getsource(caller))
    assert found == CALLERS[caller], WHAT_TO_DO.format(caller.__qualname__, found)


def test_what_the_migration_keeps_under_another_name_is_the_stock_function(
    stock: psycopg.Connection, db: psycopg.Connection
):
    kept = _function(db, "postflow_stock_fetch_job_v2")
    assert kept == _function(stock, "procrastinate_fetch_job_v2")
    assert _function(db, "procrastinate_fetch_job_v2")[1:] != kept[1:]


def test_going_back_leaves_the_queue_as_it_ships(empty_database_url: str):
    migrate.upgrade(empty_database_url, "0003")
    before = _catalogue(empty_database_url)
    migrate.upgrade(empty_database_url)
    newest = _catalogue(empty_database_url)
    assert newest != before
    command.downgrade(migrate.config(empty_database_url), "0003")
    assert _catalogue(empty_database_url) == before
    migrate.upgrade(empty_database_url)
    assert _catalogue(empty_database_url) == newest


def test_the_queue_s_tables_are_vacuumed_in_time(db: psycopg.Connection):
    options = dict(db.execute("SELECT relname, reloptions FROM pg_class WHERE reloptions IS NOT NULL").fetchall())
    assert set(options["procrastinate_jobs"]) == {
        "autovacuum_vacuum_scale_factor=0.01",
        "autovacuum_vacuum_threshold=500",
        "autovacuum_vacuum_insert_scale_factor=0.05",
        "autovacuum_analyze_scale_factor=0.02",
    }
    assert set(options["procrastinate_events"]) == {
        "autovacuum_vacuum_scale_factor=0.05",
        "autovacuum_vacuum_insert_scale_factor=0.05",
    }
    assert set(options["deliveries"]) == {
        "autovacuum_vacuum_scale_factor=0.02",
        "autovacuum_vacuum_threshold=500",
        "autovacuum_analyze_scale_factor=0.05",
    }


def pinned(what: Any) -> str:
    """A short fingerprint that does not care about white space."""
    return hashlib.sha256(" ".join(str(what).split()).encode()).hexdigest()[:16]


def _function(conn: psycopg.Connection, name: str) -> tuple[Any, ...]:
    """Arguments, result and body: `pg_get_functiondef` would differ between versions of PostgreSQL."""
    row = conn.execute(
        "SELECT pg_get_function_arguments(oid), pg_get_function_result(oid), provolatile::text, prosrc"
        " FROM pg_proc WHERE proname = %s",
        [name],
    ).fetchone()
    assert row, f"there is no function {name} any more"
    return (*row[:-1], " ".join(row[-1].split()))


def _triggers(conn: psycopg.Connection) -> list[Any]:
    return conn.execute(
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'procrastinate_jobs'::regclass AND NOT tgisinternal"
        " ORDER BY tgname"
    ).fetchall()


def _table(conn: psycopg.Connection) -> list[Any]:
    columns = conn.execute(
        "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
        " WHERE attrelid = 'procrastinate_jobs'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attname"
    ).fetchall()
    indexes = conn.execute(
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'procrastinate_jobs' ORDER BY indexname"
    ).fetchall()
    return [*columns, *indexes]


def _catalogue(url: str) -> list[Any]:
    with psycopg.connect(url) as conn:
        functions = conn.execute(
            "SELECT proname, prosrc, proconfig FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY 1, 2"
        ).fetchall()
        options = conn.execute(
            "SELECT relname, reloptions FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        ).fetchall()
        return [functions, _triggers(conn), _table(conn), options]
