"""Which periodic jobs there are, and when each runs: cron lines in `POSTFLOW_TIME_ZONE`. Their tasks are in periodic.py."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

from croniter import croniter

from postflow.config import Settings
from postflow.operations import periodic_runs

#: Before what is due and what is prepared: whatever recovers must not wait behind a backlog.
FIRST = 20


class Job(NamedTuple):
    name: str
    label: str
    cron: Callable[[Settings], str]
    priority: int = 0


JOBS = (
    Job("sweep", "Take up what lost its worker", lambda s: s.sweep_cron, FIRST),
    Job("refresh_tokens", "Refresh access tokens", lambda s: s.refresh_tokens_cron),
    Job("verify_accounts", "Check that every account still answers", lambda s: s.verify_accounts_cron),
    Job("survey_servers", "Ask servers what they accept", lambda s: s.verify_accounts_cron),
    Job("warn_of_risks", "Name posts whose account will not reach their date", lambda s: s.refresh_tokens_cron),
    Job("tell_people", "Send what people should hear by mail and webhook", lambda s: "* * * * *"),
    Job("purge", "Remove finished jobs, old stories and unused uploads", lambda s: s.purge_cron),
)


def next_run(job: Job, settings: Settings, after: datetime) -> datetime:
    """By the settings of this worker."""
    return following(job.cron(settings), settings.zone, after)


def following(cron: str, zone: ZoneInfo, after: datetime) -> datetime:
    """The next instant after `after` at which the cron line matches the clock on the wall."""
    return croniter(cron, after.astimezone(zone)).get_next(datetime).astimezone(UTC)


def planned(settings: Settings, now: datetime) -> list[periodic_runs.Planned]:
    return [
        periodic_runs.Planned(
            name=job.name,
            label=job.label,
            cron=job.cron(settings),
            time_zone=settings.time_zone,
            next_at=next_run(job, settings, now),
        )
        for job in JOBS
    ]
