"""/metrics: each figure, tried by making it move."""

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.web.conftest import Browser

Figures = Callable[[], dict[str, float]]


@pytest.fixture
def figures(start, db: psycopg.Connection) -> Figures:
    """`figures()["postflow_deliveries{status="ready"}"]`, asked anew each time."""
    client: Browser = start(metrics_token="let-me-see").test_client()

    def ask() -> dict[str, float]:
        answer = client.get("/metrics", headers={"Authorization": "Bearer let-me-see"})
        assert answer.status_code == 200
        return {name: float(value) for name, value in re.findall(r"^(postflow_\S+) (\S+)$", answer.text, re.MULTILINE)}

    return ask


@pytest.fixture
def delivery(db: psycopg.Connection) -> int:
    """One of Ada's, due a minute ago, on an active account."""
    db.execute("INSERT INTO users (email, password_hash) VALUES ('ada@example.org', 'x')")
    db.execute(
        "INSERT INTO accounts (user_id, platform, base_url, remote_id, handle, sealed)"
        " SELECT id, 'mastodon', 'https://birds.example', '1', '@ada', 'x' FROM users"
    )
    db.execute(
        "INSERT INTO posts (user_id, content, post_date, time_zone)"
        " SELECT id, '{}', now() - interval '1 minute', 'UTC' FROM users"
    )
    row = db.execute(
        "INSERT INTO deliveries (post_id, account_id, revision, wake_at)"
        " SELECT posts.id, accounts.id, 1, post_date FROM posts, accounts RETURNING id"
    ).fetchone()
    assert row
    return row[0]


def test_deliveries_are_counted_by_state_zeros_included(figures: Figures, delivery: int, db: psycopg.Connection):
    before = figures()
    assert before['postflow_deliveries{status="scheduled"}'] == 1
    assert before['postflow_deliveries{status="attention"}'] == 0
    db.execute("UPDATE deliveries SET status = 'cancelled', wake_at = NULL")
    assert figures()['postflow_deliveries{status="cancelled"}'] == 1


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ("UPDATE accounts SET handle = handle", "no"),
        ("UPDATE accounts SET state = 'needs_reconnect'", "account"),
        ("UPDATE accounts SET throttled_until = now() + interval '1 hour'", "throttled"),
        ("UPDATE deliveries SET wake_at = now() + interval '1 hour'", "later"),
    ],
)
def test_what_is_due_and_taken_by_nobody_is_counted_by_what_holds_it(
    figures: Figures, delivery: int, db: psycopg.Connection, change: str, held: str
):
    db.execute(change.encode())
    found = figures()
    counted = {
        reason: found[f'postflow_due_deliveries{{held="{reason}"}}']
        for reason in ("no", "account", "throttled", "later")
    }
    assert counted == {**dict.fromkeys(counted, 0), held: 1}


def test_what_waits_for_its_account_is_not_overdue(figures: Figures, delivery: int, db: psycopg.Connection):
    assert figures()["postflow_oldest_overdue_seconds"] >= 60
    db.execute("UPDATE accounts SET state = 'needs_reconnect'")
    assert figures()["postflow_oldest_overdue_seconds"] == 0


def test_a_post_for_tomorrow_is_neither_due_nor_overdue(figures: Figures, delivery: int, db: psycopg.Connection):
    assert 60 <= figures()["postflow_oldest_overdue_seconds"] < 600
    db.execute("UPDATE posts SET post_date = now() + interval '1 day'")
    db.execute("UPDATE deliveries SET wake_at = now() + interval '1 day'")
    found = figures()
    assert found["postflow_oldest_overdue_seconds"] == 0
    assert found['postflow_due_deliveries{held="no"}'] == 0


def test_jobs_that_nobody_takes_are_counted_and_those_of_tomorrow_not(figures: Figures, db: psycopg.Connection):
    db.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, scheduled_at)"
        " VALUES ('posts', 'publish', NULL), ('posts', 'publish', now() + interval '1 day')"
    )
    assert figures()["postflow_queue_due_jobs"] == 1


def test_the_oldest_due_job_is_found_in_whichever_priority_it_waits_with_a_date_or_without(
    figures: Figures, db: psycopg.Connection
):
    assert figures()["postflow_queue_oldest_due_seconds"] == 0
    db.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, scheduled_at) VALUES"
        " ('posts', 'publish', 10, now() - interval '3 seconds'), ('posts', 'prepare', 0, now() + interval '1 hour'),"
        " ('posts', 'prepare', -5, now() - interval '100 seconds'), ('posts', 'prepare', -9, now() + interval '1 day')"
    )
    assert 100 <= figures()["postflow_queue_oldest_due_seconds"] < 400
    db.execute("INSERT INTO procrastinate_jobs (queue_name, task_name, priority) VALUES ('posts', 'publish', 7)")
    db.execute("UPDATE procrastinate_events SET at = now() - interval '500 seconds'")
    assert 500 <= figures()["postflow_queue_oldest_due_seconds"] < 800


def test_the_days_until_access_ends_are_said_by_number_and_by_no_name(
    figures: Figures, delivery: int, db: psycopg.Connection
):
    db.execute("UPDATE accounts SET token_expires_at = now() + interval '36 hours'")
    found = {name: value for name, value in figures().items() if name.startswith("postflow_token_days_left")}
    [account] = db.execute("SELECT id FROM accounts").fetchone() or [0]
    [(name, days)] = found.items()
    assert name == f'postflow_token_days_left{{account="{account}",network="mastodon"}}'
    assert 1.4 < days <= 1.5
    db.execute("UPDATE accounts SET state = 'disconnected', sealed = NULL")
    assert not [name for name in figures() if name.startswith("postflow_token_days_left")]


def test_workers_count_while_their_heart_beats(figures: Figures, db: psycopg.Connection):
    assert figures()["postflow_worker_heartbeat_age_seconds"] == float("inf")
    db.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now()), (now() - interval '1 hour')")
    found = figures()
    assert found["postflow_workers"] == 1
    assert found["postflow_worker_heartbeat_age_seconds"] < 30


def test_access_that_ends_soon_is_counted_by_how_soon(figures: Figures, delivery: int, db: psycopg.Connection):
    db.execute("UPDATE accounts SET token_expires_at = now() + interval '3 days'")
    found = figures()
    ending = [found[f'postflow_tokens_ending{{within="{within}"}}'] for within in ("1d", "7d", "14d")]
    assert ending == [0, 1, 1]


def test_accounts_are_counted_by_state_and_the_throttled_apart(figures: Figures, delivery: int, db: psycopg.Connection):
    assert figures()['postflow_accounts{state="active"}'] == 1
    assert figures()["postflow_accounts_throttled"] == 0
    db.execute("UPDATE accounts SET throttled_until = now() + interval '1 hour'")
    assert figures()["postflow_accounts_throttled"] == 1
    db.execute("UPDATE accounts SET state = 'needs_reconnect'")
    assert figures()['postflow_accounts{state="needs_reconnect"}'] == 1


def test_periodic_jobs_tell_when_they_last_ended_and_whether_well(figures: Figures, db: psycopg.Connection):
    db.execute(
        "INSERT INTO periodic_runs (name, label, cron, next_at, began_at, ended_at, outcome)"
        " VALUES ('sweep', '', '* * * * *', now(), now(), now(), 'done'),"
        " ('purge', '', '* * * * *', now(), now(), now() - interval '1 day', 'failed'),"
        " ('tell_people', '', '* * * * *', now(), NULL, NULL, NULL)"
    )
    found = figures()
    ended = 'postflow_periodic_last_end_timestamp_seconds{job="%s"}'
    assert 86_000 < found[ended % "sweep"] - found[ended % "purge"] < 87_000
    assert found['postflow_periodic_failed{job="sweep"}'] == 0
    assert found['postflow_periodic_failed{job="purge"}'] == 1
    assert ended % "tell_people" not in found


def test_the_release_is_named(figures: Figures):
    assert any(name.startswith("postflow_build_info{version=") for name in figures())


def test_the_operators_page_explains_every_figure_and_no_other(figures: Figures, delivery: int, db: psycopg.Connection):
    db.execute(
        "INSERT INTO periodic_runs (name, label, cron, next_at, began_at, ended_at, outcome)"
        " VALUES ('sweep', '', '* * * * *', now(), now(), now(), 'done')"
    )
    db.execute("UPDATE accounts SET token_expires_at = now() + interval '3 days'")
    db.execute(
        "INSERT INTO delivery_events (delivery_id, status, sentence, detail)"
        " SELECT id, 'failed', 'No.', '{\"code\": \"http_500\"}' FROM deliveries"
    )
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    explained = set(re.findall(r"^\| `(postflow_\w+)", page, re.MULTILINE))
    assert explained == {re.sub(r"_(bucket|count|sum)$", "", name.partition("{")[0]) for name in figures()}


def test_an_empty_metrics_token_shows_the_figures_to_nobody(start):
    client: Browser = start(metrics_token="").test_client()
    assert client.get("/metrics").status_code == 404
    assert client.get("/metrics", headers={"Authorization": "Bearer "}).status_code == 404
