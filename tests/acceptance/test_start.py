"""What a worker says and refuses when it starts, under the stock command."""

import os
import subprocess
import sys
from datetime import UTC, datetime

from postflow import config
from tests.engine.conftest import sandbox, settings
from worker import periodic

__all__ = ["sandbox", "settings"]

COMMAND = [sys.executable, "-m", "procrastinate", "--app=worker.app.app", "worker", "--one-shot"]


def test_it_lists_every_periodic_job_with_its_next_run(settings: config.Settings) -> None:
    done = subprocess.run(COMMAND, env=dict(os.environ), capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "posts_waiting=0" in said
    assert "queues=all" in said
    assert "concurrency=20" in said
    for job in periodic.JOBS:
        assert f"name={job.name}" in said


def test_it_does_not_start_on_a_database_that_was_never_migrated(
    settings: config.Settings, empty_database_url: str
) -> None:
    environment = {**os.environ, "DATABASE_URL": empty_database_url}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "postflow migrate" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_refuses_nonsense_with_a_sentence(settings: config.Settings) -> None:
    environment = {**os.environ, "POSTFLOW_STOP_S": "soon", "POSTFLOW_CONCURRENCY": "0"}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "POSTFLOW_STOP_S: " in done.stderr and "POSTFLOW_CONCURRENCY: " in done.stderr
    assert "Traceback" not in done.stderr


def test_it_warns_of_a_clock_that_is_off(settings: config.Settings) -> None:
    behind = """
import datetime, sys, time_machine
from procrastinate import cli
time_machine.travel(datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=10), tick=True).start()
sys.argv = ["procrastinate", "--app=worker.app.app", "worker", "--one-shot"]
cli.main()
"""
    words = [sys.executable, "-c", behind]
    done = subprocess.run(words, env=dict(os.environ), capture_output=True, text=True, timeout=60)
    assert "the clocks differ" in done.stdout + done.stderr
    assert "synchronise both with NTP" in done.stdout + done.stderr


def test_a_schedule_follows_its_zone_through_daylight_saving(settings: config.Settings) -> None:
    berlin = settings.model_copy(update={"time_zone": "Europe/Berlin", "purge_cron": "15 4 * * *"})
    purge = next(job for job in periodic.JOBS if job.name == "purge")
    before = periodic.next_run(
        purge, berlin, datetime(2026, 3, 28, 12, tzinfo=UTC) - (datetime(1, 1, 2) - datetime(1, 1, 1))
    )
    after = periodic.next_run(purge, berlin, datetime(2026, 3, 29, 12, tzinfo=UTC))
    assert (before.hour, after.hour) == (3, 2)  # 04:15 on the wall both times
