"""What a worker does before its first job: check the settings and the schema, and say what it is going to do."""

from datetime import UTC, datetime

import structlog

from postflow import config, db, logs

log = structlog.stdlib.get_logger("postflow.worker")


def begin(concurrency: int, stop_s: float) -> None:
    """Raises Misconfigured, SchemaBehind: better not to start than to fail at the first post."""
    settings = config.load()
    logs.configure(settings)
    with db.connect(settings.database_url.get_secret_value()) as conn:
        db.check_schema(conn)
        row = conn.execute("SELECT count(*) FROM deliveries WHERE wake_at IS NOT NULL").fetchone()
    log.info("worker starts", concurrency=concurrency, stop_s=stop_s, posts_waiting=row[0] if row else 0)
    _list_periodic_jobs(settings)


def _list_periodic_jobs(settings: config.Settings) -> None:
    from worker import periodic  # imports the app, which imports us

    now = datetime.now(UTC)
    log.info("periodic jobs", count=len(periodic.JOBS), zone=settings.time_zone)
    for job in periodic.JOBS:
        at = periodic.next_run(job, settings, now).astimezone(settings.zone)
        log.info("periodic job", name=job.name, label=job.label, cron=job.cron(settings), next_run=at.isoformat())
