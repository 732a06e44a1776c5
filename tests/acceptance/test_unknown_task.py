"""Jobs that name a task nobody knows, from a newer release or written by hand: they fail by name, the others go on."""

import os
import subprocess
from pathlib import Path

import psycopg

from postflow import config, jobs
from postflow.engine import Engine
from sandbox import Sandbox
from tests.acceptance.test_workers import COMMAND, until
from tests.engine.conftest import ada, an_account, engine, scheduled, settings
from tests.patience import PATIENCE_S

__all__ = ["ada", "engine", "settings"]

MANY = 60  # more than a worker does at once
FAILED = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'from_the_future' AND status = 'failed'"


async def test_jobs_of_an_unknown_task_fail_by_name_and_hold_nobody_up(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    tmp_path: Path,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "among-strangers")
    db.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args, scheduled_at)"
        " SELECT %s, 'from_the_future', 100, '{\"delivery_id\": 1}', now() FROM generate_series(1, %s)",
        [jobs.QUEUE, MANY],
    )
    [delivery] = scheduled(db, settings, ada, (account,), "goes on among strangers")
    log = tmp_path / "worker.log"
    with (
        log.open("wb") as told,
        subprocess.Popen(COMMAND, env=dict(os.environ), stdout=told, stderr=told) as worker,  # noqa: ASYNC220
    ):
        try:
            until(db, FAILED, MANY)
            until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 1)
            worker.terminate()
            assert worker.wait(PATIENCE_S) == 0
        finally:
            worker.kill()
    assert sandbox.ledger.times_published("goes on among strangers") == 1
    assert "from_the_future" in log.read_text()
    assert db.execute("SELECT attempt_no FROM deliveries WHERE id = %s", [delivery.id]).fetchone() == (1,)
