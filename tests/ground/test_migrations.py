"""Migrations: complete, repeatable, safe side by side and under a kill."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from alembic.script import ScriptDirectory
from procrastinate import schema

from postflow import db as database
from postflow import errors
from postflow.operations import migrate
from tests.patience import PATIENCE_S


def revisions():
    return list(ScriptDirectory.from_config(migrate.config("")).walk_revisions("base", "heads"))


def test_every_file_that_procrastinate_ships_is_named_by_exactly_one_revision():
    named = [name for revision in reversed(revisions()) for name in getattr(revision.module, "PROCRASTINATE_FILES", ())]
    shipped = sorted(path.name for path in Path(schema.migrations_path).glob("*.sql"))
    assert named == shipped


def test_the_newest_revision_is_the_one_the_start_check_expects():
    assert ScriptDirectory.from_config(migrate.config("")).get_current_head() == database.shipped_revision()


def test_a_migrated_database_passes_the_start_check(db: psycopg.Connection):
    database.check_schema(db)


def test_an_empty_database_is_refused_with_the_command_to_run(empty_database_url: str):
    with (
        psycopg.connect(empty_database_url) as conn,
        pytest.raises(errors.SchemaBehind, match="run: postflow migrate"),
    ):
        database.check_schema(conn)


def test_a_database_one_revision_behind_is_refused_and_named(empty_database_url: str):
    migrate.upgrade(empty_database_url, "0001")
    with (
        psycopg.connect(empty_database_url) as conn,
        pytest.raises(errors.SchemaBehind, match=r"at revision 0001 of \d+; run: postflow migrate"),
    ):
        database.check_schema(conn)


def test_a_database_of_a_newer_release_is_accepted(db: psycopg.Connection):
    db.execute("UPDATE alembic_version SET version_num = '9999'")
    database.check_schema(db)


def test_migrating_twice_changes_nothing(database_url: str, db: psycopg.Connection):
    before = tables(db)
    migrate.upgrade(database_url)
    assert tables(db) == before


def test_three_at_once_all_succeed(empty_database_url: str):
    runs = [start_migrating(empty_database_url) for _ in range(3)]
    assert [(run.wait(PATIENCE_S), run.stderr_text()) for run in runs] == [(0, "")] * 3
    with psycopg.connect(empty_database_url) as conn:
        database.check_schema(conn)


@pytest.mark.parametrize("table", ["procrastinate_periodic_defers", "procrastinate_workers", "deliveries"])
def test_a_run_killed_half_way_is_finished_by_the_next(empty_database_url: str, table: str):
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        conn.execute("BEGIN")
        # A table of the same name, not yet committed, stops the run after a dozen files of its own, or more.
        conn.execute(f"CREATE TABLE {table} ()".encode())
        killed = start_migrating(empty_database_url)
        wait_until_blocked(empty_database_url)
        killed.process.kill()
        assert (killed.wait(PATIENCE_S), killed.stderr_text()) == (-signal.SIGKILL, "")
        conn.execute("ROLLBACK")

        migrate.upgrade(empty_database_url)
        database.check_schema(conn)


class Migrating:
    def __init__(self, url: str) -> None:
        code = "import sys; from postflow.operations import migrate; migrate.upgrade(sys.argv[1])"
        self.process = subprocess.Popen([sys.executable, "-c", code, url], stderr=subprocess.PIPE, text=True)

    def wait(self, timeout_s: float) -> int:
        return self.process.wait(timeout_s)

    def stderr_text(self) -> str:
        assert self.process.stderr
        with self.process.stderr:
            return self.process.stderr.read()


def start_migrating(url: str) -> Migrating:
    return Migrating(url)


def wait_until_blocked(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if conn.execute(
                """
                SELECT 1 FROM pg_stat_activity
                WHERE wait_event_type = 'Lock' AND datname = current_database()
                """
            ).fetchone():
                return
            time.sleep(0.1)
    raise AssertionError("the migration never reached the lock")


def tables(conn: psycopg.Connection) -> list[tuple[str, ...]]:
    return conn.execute("SELECT relname, relkind FROM pg_class ORDER BY 1, 2").fetchall()
