"""What a worker does before its first job: look at the database and the schema, and say what it is going to do."""

import contextlib
from collections.abc import Mapping
from typing import Any

import psycopg
import structlog

from postflow import db, errors, logs
from postflow.config import Settings
from postflow.operations import doctor, periodic_runs
from worker import schedule

log = structlog.stdlib.get_logger("postflow.worker")


def begin(settings: Settings, options: Mapping[str, Any]) -> None:
    """Raises Misconfigured, SchemaBehind: better not to start than to fail at the first post; Unreachable: not yet."""
    logs.configure(settings)
    url = settings.database_url.get_secret_value()
    _refuse_a_pooler(url)
    with db.connect(url) as conn:
        db.check_schema(conn)
        finding = doctor.clocks(conn)
        if not finding.well:
            log.warning("the clocks differ", sentence=finding.sentence)
        row = conn.execute("SELECT count(*) FROM deliveries WHERE wake_at IS NOT NULL").fetchone()
        queues = options.get("queues")
        log.info(
            "worker starts",
            queues=",".join(queues) if queues else "all",
            concurrency=options["concurrency"],
            stop_s=options["shutdown_graceful_timeout"],
            deliveries_waiting=row[0] if row else 0,
        )
        _list_periodic_jobs(conn, settings)


def _refuse_a_pooler(database_url: str) -> None:
    finding = doctor.sessions(database_url)
    if not finding.well:
        raise errors.Misconfigured(finding.sentence)


def _list_periodic_jobs(conn: psycopg.Connection, settings: Settings) -> None:
    now = db.now(conn)
    jobs = schedule.planned(settings, now)
    with contextlib.suppress(
        psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.DiskFull
    ):  # this worker waits until it can write again
        periodic_runs.plan(conn, jobs)
    noted = {run.name: run for run in periodic_runs.known(conn)}
    log.info("periodic jobs", count=len(jobs), zone=settings.time_zone)
    for job in jobs:
        run = noted.get(job.name)
        log.info(
            "periodic job",
            name=job.name,
            label=job.label,
            cron=job.cron,
            next_run=max(now, run.next_at if run else job.next_at).astimezone(settings.zone).isoformat(),
            last_run=run.ended_at.astimezone(settings.zone).isoformat() if run and run.ended_at else None,
            outcome=run.outcome if run else None,
        )
