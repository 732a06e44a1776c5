"""What a worker does before its first job: check the settings and the schema, and say what it is going to do."""

import contextlib
from collections.abc import Iterable

import psycopg
import structlog

from postflow import config, db, doctor, logs, runs

log = structlog.stdlib.get_logger("postflow.worker")


def begin(queues: Iterable[str] | None, concurrency: int, stop_s: float) -> None:
    """Raises Misconfigured, SchemaBehind: better not to start than to fail at the first post."""
    settings = config.load()
    logs.configure(settings)
    with db.connect(settings.database_url.get_secret_value()) as conn:
        db.check_schema(conn)
        row = conn.execute("SELECT count(*) FROM deliveries WHERE wake_at IS NOT NULL").fetchone()
        finding = doctor.clocks(conn)
        if not finding.well:
            log.warning("the clocks differ", sentence=finding.sentence)
        log.info(
            "worker starts",
            queues=",".join(queues) if queues else "all",
            concurrency=concurrency,
            stop_s=stop_s,
            posts_waiting=row[0] if row else 0,
        )
        _list_periodic_jobs(conn, settings)


def _list_periodic_jobs(conn: psycopg.Connection, settings: config.Settings) -> None:
    from worker import periodic  # imports the app, which imports us

    jobs = periodic.planned(settings, db.now(conn))
    with contextlib.suppress(
        psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.DiskFull
    ):  # this worker waits until it can write again
        runs.plan(conn, jobs)
    last = {run.name: run for run in runs.known(conn)}
    log.info("periodic jobs", count=len(jobs), zone=settings.time_zone)
    for job in jobs:
        before = last.get(job.name)
        log.info(
            "periodic job",
            name=job.name,
            label=job.label,
            cron=job.cron,
            next_run=job.next_at.astimezone(settings.zone).isoformat(),
            last_run=before.ended_at.astimezone(settings.zone).isoformat() if before and before.ended_at else None,
            outcome=before.outcome if before else None,
        )
