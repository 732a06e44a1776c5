"""What /metrics says of this moment, read from Postgres at each scrape, so that every web process says the same. What has
happened so far is in web/counters.py.

No query reads more the more posts there are. docs/operations.md explains each figure; tests/web/test_health.py tries each.
"""

from collections.abc import Iterator
from importlib.metadata import version
from typing import LiteralString

import psycopg
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from postflow.models import AccountState
from postflow.operations import totals
from web import counters
from web.middleware import database

_ACCOUNTS: LiteralString = "SELECT state, count(*) FROM accounts GROUP BY 1"
#: Due and taken by nobody yet; "no" should be near zero at all times. What waits for a passing fault wakes within hours:
#: the future beyond that is not read.
_DUE: LiteralString = """
    SELECT CASE WHEN a.state <> 'active' THEN 'account'
                WHEN a.throttled_until > now() THEN 'throttled'
                WHEN d.wake_at > now() THEN 'later'
                ELSE 'no' END, count(*)
      FROM deliveries d JOIN posts p ON p.id = d.post_id JOIN accounts a ON a.id = d.account_id
     WHERE d.status IN ('scheduled', 'ready') AND d.wake_at < now() + interval '2 days' AND p.post_date <= now()
     GROUP BY 1
"""
_OVERDUE: LiteralString = """
    SELECT coalesce(greatest(extract(epoch FROM now() - min(d.wake_at)), 0), 0)::float8
      FROM deliveries d JOIN accounts a ON a.id = d.account_id
     WHERE d.wake_at < now() AND a.state = 'active'
"""
_HEARTBEAT: LiteralString = """
    SELECT count(*) FILTER (WHERE last_heartbeat > now() - interval '30 seconds'),
           coalesce(extract(epoch FROM now() - max(last_heartbeat)), 'infinity')::float8
      FROM procrastinate_workers
"""
_ENDING: LiteralString = """
    SELECT count(*) FILTER (WHERE token_expires_at < now() + interval '1 day'),
           count(*) FILTER (WHERE token_expires_at < now() + interval '7 days'),
           count(*) FILTER (WHERE token_expires_at < now() + interval '14 days')
      FROM accounts WHERE state = 'active'
"""
_THROTTLED: LiteralString = "SELECT count(*) FROM accounts WHERE throttled_until > now() AND state = 'active'"
#: What is due by its date is counted by the bell's own look, which reads nothing of the future.
_JOBS: LiteralString = """
    SELECT (SELECT due FROM postflow_look_ahead(NULL, 1000000))
         + (SELECT count(*) FROM procrastinate_jobs WHERE status = 'todo' AND scheduled_at IS NULL)
"""
#: The date of the first due job of each priority, by the index that claims use; of one without a date, when it came.
_OLDEST_JOB: LiteralString = """
    WITH RECURSIVE levels AS (
        (SELECT priority FROM procrastinate_jobs WHERE status = 'todo' ORDER BY priority DESC LIMIT 1)
         UNION ALL
        SELECT (SELECT priority FROM procrastinate_jobs WHERE status = 'todo' AND priority < levels.priority
                 ORDER BY priority DESC LIMIT 1) FROM levels WHERE levels.priority IS NOT NULL)
    SELECT coalesce(greatest(extract(epoch FROM clock_timestamp() - min(since)), 0), 0)::float8 FROM (
        SELECT (SELECT scheduled_at FROM procrastinate_jobs WHERE status = 'todo' AND priority = levels.priority
                   AND scheduled_at <= now() ORDER BY scheduled_at LIMIT 1) AS since
          FROM levels WHERE levels.priority IS NOT NULL
         UNION ALL
        SELECT e.at FROM procrastinate_events e WHERE e.type = 'deferred' AND e.job_id = (
            SELECT min(id) FROM procrastinate_jobs WHERE status = 'todo' AND scheduled_at IS NULL)) AS due
"""
#: No names: an account's number is in the address of its pages.
_DAYS_LEFT: LiteralString = """
    SELECT id::text, platform, extract(epoch FROM token_expires_at - now())::float8 / 86400 FROM accounts
     WHERE state = 'active' AND token_expires_at IS NOT NULL ORDER BY id
"""
_PERIODIC: LiteralString = """
    SELECT name, extract(epoch FROM ended_at)::float8, (outcome = 'failed')::int FROM periodic_runs ORDER BY name
"""


class FromTheDatabase(Collector):
    def collect(self) -> Iterator[Metric]:
        with database.connection() as conn:
            yield from counters.families(totals.read(conn))
            yield from _queue(conn)
            yield from _accounts(conn)
            yield from _workers(conn)
            yield from _periodic(conn)
        release = GaugeMetricFamily("postflow_build_info", "Which release this is", labels=["version"])
        release.add_metric([version("postflow")], 1)
        yield release


def _queue(conn: psycopg.Connection) -> Iterator[Metric]:
    reasons = ["no", "account", "throttled", "later"]
    yield _by(conn, "postflow_due_deliveries", "Due, and taken by nobody yet; held by what", "held", _DUE, reasons)
    [late] = _row(conn, _OVERDUE)
    yield GaugeMetricFamily("postflow_oldest_overdue_seconds", "How late the latest delivery is", value=late)
    [jobs] = _row(conn, _JOBS)
    yield GaugeMetricFamily("postflow_queue_due_jobs", "Jobs that no worker has taken yet", value=jobs)
    [age_s] = _row(conn, _OLDEST_JOB)
    yield GaugeMetricFamily("postflow_queue_oldest_due_seconds", "How long the oldest of them waits", value=age_s)


def _accounts(conn: psycopg.Connection) -> Iterator[Metric]:
    yield _by(conn, "postflow_accounts", "Accounts by state", "state", _ACCOUNTS, [*AccountState])
    ending = GaugeMetricFamily("postflow_tokens_ending", "Access that ends within", labels=["within"])
    for within, count in zip(("1d", "7d", "14d"), _row(conn, _ENDING), strict=True):
        ending.add_metric([within], count)
    yield ending
    left = GaugeMetricFamily("postflow_token_days_left", "Until access ends", labels=["account", "network"])
    for account, network, days in conn.execute(_DAYS_LEFT).fetchall():
        left.add_metric([account, network], days)
    yield left
    [throttled] = _row(conn, _THROTTLED)
    yield GaugeMetricFamily("postflow_accounts_throttled", "Accounts asked to wait by their network", value=throttled)


def _workers(conn: psycopg.Connection) -> Iterator[Metric]:
    alive, age_s = _row(conn, _HEARTBEAT)
    yield GaugeMetricFamily("postflow_workers", "Workers heard of within half a minute", value=alive)
    yield GaugeMetricFamily("postflow_worker_heartbeat_age_seconds", "Since any worker was last heard of", value=age_s)


def _periodic(conn: psycopg.Connection) -> Iterator[Metric]:
    ended = GaugeMetricFamily("postflow_periodic_last_end_timestamp_seconds", "When it last ended", labels=["job"])
    failed = GaugeMetricFamily("postflow_periodic_failed", "1 when its last run failed", labels=["job"])
    for name, at, bad in conn.execute(_PERIODIC).fetchall():
        if at is not None:
            ended.add_metric([name], at)
            failed.add_metric([name], bad)
    yield from (ended, failed)


def _by(
    conn: psycopg.Connection, name: str, text: str, label: str, query: LiteralString, known: list[str]
) -> GaugeMetricFamily:
    """One line per value, zeros included: a line that is missing raises no alarm."""
    counts = {**dict.fromkeys(map(str, known), 0), **dict(conn.execute(query).fetchall())}
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family


def _row(conn: psycopg.Connection, query: LiteralString) -> tuple[float, ...]:
    row = conn.execute(query).fetchone()
    assert row
    return row
