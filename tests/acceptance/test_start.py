"""What a worker says and refuses when it starts, under the stock command."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import psycopg

from postflow import config
from postflow import db as database
from postflow.operations import migrate, periodic_runs
from tests.engine.conftest import ada, settings
from tests.patience import PATIENCE_S
from tests.pooler import transaction_pooler
from worker import schedule

__all__ = ["ada", "settings"]

STOCK = [sys.executable, "-m", "procrastinate", "--app=worker.app.app"]
WORKER = [*STOCK, "worker"]
COMMAND = [*WORKER, "--one-shot"]


def run(
    command: list[str], environment: Mapping[str, str] | None = None, *, without: str = ""
) -> "subprocess.CompletedProcess[str]":
    given = {name: value for name, value in os.environ.items() if name != without} | dict(environment or {})
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=PATIENCE_S)


def test_it_lists_every_periodic_job_with_its_next_run(settings: config.Settings, db: psycopg.Connection) -> None:
    before = database.now(db)
    done = run(COMMAND)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "deliveries_waiting=0" in said
    assert "queues=all" in said
    assert "concurrency=20" in said
    for job in schedule.JOBS:
        [found] = re.findall(rf" name={job.name} next_run=(\S+)", said)
        possible = {schedule.next_run(job, settings, at) for at in (before, database.now(db))}
        assert datetime.fromisoformat(found) in possible, job.name


def test_it_counts_the_deliveries_that_wait_and_lists_a_missed_run_as_coming_now(
    settings: config.Settings, db: psycopg.Connection, ada: int
) -> None:
    db.execute(
        """
        WITH account AS (
            INSERT INTO accounts (user_id, platform, base_url, remote_id, handle, sealed)
            SELECT %(ada)s, 'mastodon', 'https://birds.example', number, number, 'x' FROM generate_series(1, 3) AS number
            RETURNING id),
        post AS (
            INSERT INTO posts (user_id, content, post_date, time_zone)
            VALUES (%(ada)s, '{}', now() + interval '1 day', 'UTC') RETURNING id, post_date)
        INSERT INTO deliveries (post_id, account_id, revision, wake_at)
        SELECT post.id, account.id, 1, post_date FROM post, account
        """,
        {"ada": ada},
    )
    db.execute("UPDATE deliveries SET status = 'cancelled', wake_at = NULL WHERE id = (SELECT min(id) FROM deliveries)")
    before = database.now(db)
    periodic_runs.plan(db, schedule.planned(settings, before))
    db.execute("UPDATE periodic_runs SET next_at = now() - interval '3 hours' WHERE name = 'purge'")
    said = run(COMMAND).stderr
    assert "deliveries_waiting=2" in said
    [found] = re.findall(r" name=purge next_run=(\S+)", said)
    assert before <= datetime.fromisoformat(found) <= database.now(db)


def test_settings_may_come_from_files(settings: config.Settings, database_url: str, tmp_path: Path) -> None:
    given = {"DATABASE_URL": database_url, "POSTFLOW_CONCURRENCY": "7", "POSTFLOW_STOP_S": "3"}
    for name, value in given.items():
        (tmp_path / name).write_text(f"{value}\n")
    files = {f"{name}_FILE": str(tmp_path / name) for name in given}
    done = run([*COMMAND, "--queues=posts"], files, without="DATABASE_URL")
    assert done.returncode == 0, done.stderr
    assert "concurrency=7" in done.stderr and "stop_s=3.0" in done.stderr and "queues=posts" in done.stderr
    done = run([*COMMAND, "--concurrency=3"], files, without="DATABASE_URL")
    assert "concurrency=3" in done.stderr, "what the command says goes before the settings"


def test_importing_it_looks_at_no_setting(settings: config.Settings) -> None:
    nonsense = {"POSTFLOW_CONCURRENCY": "inf", "POSTFLOW_STOP_S": "nan", "POSTFLOW_SECRET_KEY_FILE": "/nothing"}
    assert run([sys.executable, "-c", "import worker.app"], nonsense).stderr == ""


def test_the_other_commands_of_procrastinate_work_too(settings: config.Settings, db: psycopg.Connection) -> None:
    healthy = run([*STOCK, "healthchecks"])
    assert "Found procrastinate_jobs table: OK" in healthy.stdout, healthy.stderr
    assert run([*STOCK, "defer", "sweep"]).returncode == 0
    assert db.execute("SELECT priority, queueing_lock FROM procrastinate_jobs").fetchall() == [
        (schedule.FIRST, "sweep")
    ]
    refused = run([*STOCK, "healthchecks"], {"POSTFLOW_SECRET_KEY": "short"})
    assert refused.returncode == 1
    assert "POSTFLOW_SECRET_KEY: " in refused.stderr


def test_it_waits_for_tables_that_are_still_being_made_and_says_so(
    settings: config.Settings, empty_database_url: str
) -> None:
    environment = {**os.environ, "DATABASE_URL": empty_database_url}
    with subprocess.Popen(WORKER, env=environment, stderr=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stderr
            read_until(worker.stderr, "waiting for the tables")
            migrate.upgrade(empty_database_url)
            read_until(worker.stderr, "worker starts")
            worker.send_signal(signal.SIGTERM)
            rest = worker.communicate(timeout=30)[1]
        finally:
            worker.kill()
    assert worker.returncode == 0, rest


def test_it_can_be_told_to_stop_while_it_waits_for_tables(settings: config.Settings, db: psycopg.Connection) -> None:
    db.execute("UPDATE alembic_version SET version_num = '0001'")
    with subprocess.Popen(WORKER, env=dict(os.environ), stderr=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stderr
            line = read_until(worker.stderr, "waiting for the tables")
            assert "is at revision 0001" in line and "gives_up_in_s=600" in line
            worker.send_signal(signal.SIGTERM)
            rest = worker.communicate(timeout=30)[1]
        finally:
            worker.kill()
    assert worker.returncode == 0, rest
    assert "Traceback" not in rest


def test_tables_that_nobody_makes_end_it_with_the_sentence(settings: config.Settings, empty_database_url: str) -> None:
    done = run(WORKER, {"DATABASE_URL": empty_database_url, "POSTFLOW_SCHEMA_PATIENCE_S": "1"})
    assert done.returncode == 1
    assert done.stderr.count("waiting for the tables") == 1
    assert "has no PostFlow tables yet; run: postflow migrate (waited 1 s for it)" in done.stderr
    assert "Traceback" not in done.stderr
    at_once = run(COMMAND, {"DATABASE_URL": empty_database_url})
    assert at_once.returncode == 1 and "waiting" not in at_once.stderr, "--one-shot is for scripts"


def read_until(lines: IO[str], words: str) -> str:
    said = []
    for line in lines:
        said.append(line)
        if words in line:
            return line
    raise AssertionError(f"it never said {words!r}:\n{''.join(said)}")


def test_it_refuses_nonsense_with_a_sentence(settings: config.Settings) -> None:
    done = run(WORKER, {"POSTFLOW_STOP_S": "soon", "POSTFLOW_CONCURRENCY": "0"})
    assert done.returncode == 1
    assert "POSTFLOW_STOP_S: " in done.stderr and "POSTFLOW_CONCURRENCY: " in done.stderr
    assert "Traceback" not in done.stderr


def test_it_refuses_a_pooler_that_lends_its_sessions_to_others(settings: config.Settings, database_url: str) -> None:
    with transaction_pooler(database_url) as pooled:
        done = run(WORKER, {"DATABASE_URL": pooled})
    assert done.returncode == 1
    assert "DATABASE_URL leads to a pooler" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_no_waiting_mends_ends_it_with_a_sentence(settings: config.Settings, db: psycopg.Connection) -> None:
    db.execute("ALTER FUNCTION procrastinate_register_worker_v1 RENAME TO gone")
    done = run(WORKER)
    assert done.returncode == 1
    assert "The database refuses what a worker asks of it: function procrastinate_register_worker_v1" in done.stderr
    assert "Run `postflow migrate`" in done.stderr


def test_it_waits_for_a_database_that_is_away_and_can_be_told_to_stop_meanwhile(
    settings: config.Settings, tmp_path: Path
) -> None:
    environment = {**os.environ, "DATABASE_URL": f"postgresql://ada:hunter2@/x?host={tmp_path}"}
    with subprocess.Popen(WORKER, env=environment, stderr=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stderr
            for line in worker.stderr:
                if "the worker begins anew" in line:
                    break
            worker.send_signal(signal.SIGTERM)
            rest = worker.communicate(timeout=PATIENCE_S)[1]
        finally:
            worker.kill()
    assert worker.returncode == 0, rest
    assert "Traceback" not in rest and "hunter2" not in rest


def test_it_warns_of_a_clock_that_is_off(settings: config.Settings) -> None:
    behind = """
import datetime, sys, time_machine
from procrastinate import cli
time_machine.travel(datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=10), tick=True).start()
sys.argv = ["procrastinate", "--app=worker.app.app", "worker", "--one-shot"]
cli.main()
"""
    done = run([sys.executable, "-c", behind])
    assert "the clocks differ" in done.stdout + done.stderr
    assert "synchronise both with NTP" in done.stdout + done.stderr


def test_a_schedule_follows_its_zone_through_daylight_saving(settings: config.Settings) -> None:
    berlin = settings.model_copy(update={"time_zone": "Europe/Berlin", "purge_cron": "15 4 * * *"})
    purge = next(job for job in schedule.JOBS if job.name == "purge")
    before = schedule.next_run(purge, berlin, datetime(2026, 3, 28, 12, tzinfo=UTC) - timedelta(days=1))
    after = schedule.next_run(purge, berlin, datetime(2026, 3, 29, 12, tzinfo=UTC))
    assert (before.hour, after.hour) == (3, 2)  # 04:15 on the wall both times
