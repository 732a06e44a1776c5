"""What `postflow doctor` finds wrong, one fault at a time."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import time_machine
from click.testing import CliRunner
from cryptography.fernet import Fernet
from psycopg import conninfo, sql

from postflow import cli
from postflow import db as database
from postflow.operations import periodic_runs
from tests.pooler import transaction_pooler


@pytest.fixture(autouse=True)
def environment(database_url: str, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("POSTFLOW_SECRET_KEY", "k" * 32)
    monkeypatch.setenv("POSTFLOW_ENCRYPTION_KEYS", Fernet.generate_key().decode())
    db.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")


def faults() -> list[str]:
    """Beside that the tests' own server keeps nothing through a power cut."""
    result = CliRunner().invoke(cli.main, ["doctor"])
    found = [line.removeprefix("FAULT ") for line in result.output.splitlines() if line.startswith("FAULT")]
    assert result.exit_code == bool(found), result.output
    return [fault for fault in found if not fault.startswith("Keeping: ")]


def said() -> str:
    return CliRunner().invoke(cli.main, ["doctor"]).output


def an_account(db: psycopg.Connection) -> None:
    db.execute("INSERT INTO users (email, password_hash) VALUES ('ada@example.org', 'x')")
    db.execute(
        "INSERT INTO accounts (user_id, platform, base_url, remote_id, handle, sealed)"
        " SELECT id, 'mastodon', 'https://birds.example', '1', '@ada@birds.example', 'x' FROM users"
    )


def test_it_is_content_with_a_sound_house():
    assert faults() == []


@pytest.mark.parametrize("away", [timedelta(seconds=-600), timedelta(seconds=3)], ids=str)
def test_a_clock_that_is_off_is_a_fault(away: timedelta):
    with time_machine.travel(datetime.now(UTC) + away, tick=True):
        [fault] = faults()
    assert fault.startswith("Clocks: this machine and the database are ")


def test_a_read_only_database_is_a_fault(admin: psycopg.Connection, database_url: str):
    name = sql.Identifier(str(conninfo.conninfo_to_dict(database_url)["dbname"]))
    admin.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    assert any(fault.startswith("Writing: read-only") for fault in faults())


def test_posts_that_should_be_out_are_a_fault_and_those_that_wait_for_their_account_name_it(db: psycopg.Connection):
    an_account(db)
    db.execute(
        "INSERT INTO posts (user_id, content, post_date, time_zone)"
        " SELECT id, '{}', now() - interval '5 minutes', 'UTC' FROM users"
    )
    db.execute(
        "INSERT INTO deliveries (post_id, account_id, revision, wake_at)"
        " SELECT posts.id, accounts.id, 1, post_date FROM posts, accounts"
    )
    [fault] = faults()
    assert fault.startswith("Posts: 1 of 1 waiting are more than two minutes over")
    db.execute("UPDATE accounts SET state = 'needs_reconnect'")
    assert faults() == ["Accounts: to be connected again on the Accounts page: @ada@birds.example (mastodon)"]


def _purge(next_at: datetime) -> periodic_runs.Planned:
    return periodic_runs.Planned(name="purge", label="Tidy up", cron="15 4 * * *", time_zone="UTC", next_at=next_at)


def a_run(db: psycopg.Connection, *, next_in: timedelta, outcome: str | None, words: str = "") -> None:
    now = datetime.now(UTC)
    periodic_runs.plan(db, [_purge(now + next_in)])
    if outcome:
        db.execute(
            "UPDATE periodic_runs SET began_at = now(), ended_at = now(), outcome = %s, said = %s", [outcome, words]
        )


def test_each_periodic_job_is_listed_with_its_last_and_its_next_run(db: psycopg.Connection):
    a_run(db, next_in=timedelta(hours=3), outcome="done", words="stories 3, uploads 0")
    assert "ok    Periodic job purge: last 20" in said()
    assert "done (stories 3, uploads 0); next 20" in said()


def test_a_periodic_job_that_failed_or_is_overdue_is_a_fault(db: psycopg.Connection):
    a_run(db, next_in=timedelta(hours=3), outcome="failed", words="OperationalError: no room")
    [fault] = faults()
    assert "failed (OperationalError: no room)" in fault
    a_run(db, next_in=timedelta(hours=-1), outcome="done")
    [fault] = faults()
    assert "has passed: restart the workers" in fault


def test_a_periodic_job_that_was_due_and_does_not_end_is_a_fault(db: psycopg.Connection):
    a_run(db, next_in=timedelta(hours=3), outcome="done")
    db.execute(
        "UPDATE periodic_runs SET deferred_at = now() - interval '1 minute', ended_at = now() - interval '1 day'"
    )
    assert faults() == []
    db.execute("UPDATE periodic_runs SET deferred_at = now() - interval '1 hour'")
    [fault] = faults()
    assert "and not over yet: look at the log, restart the workers" in fault
    db.execute("UPDATE periodic_runs SET ended_at = now()")
    assert faults() == []


def test_a_pooler_that_lends_sessions_to_others_is_a_fault(database_url: str, monkeypatch: pytest.MonkeyPatch):
    with transaction_pooler(database_url) as pooled:
        monkeypatch.setenv("DATABASE_URL", pooled)
        [fault] = faults()
    assert fault.startswith("Sessions: DATABASE_URL leads to a pooler")
    assert "direct address" in fault


def test_the_operators_page_names_the_databases_that_are_tried():
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    assert f"Postgres ({database.OLDEST_SERVER} to {database.NEWEST_SERVER} are tried; UTF8)" in page


def test_a_job_that_a_release_no_longer_has_is_forgotten(db: psycopg.Connection):
    a_run(db, next_in=timedelta(hours=-100), outcome="failed")
    periodic_runs.plan(db, [])
    assert faults() == []
