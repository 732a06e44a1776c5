"""A token dies, its person connects again, and what waited goes out once: real worker, real pages, sandbox networks."""

import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from flask import Flask
from werkzeug.serving import make_server

from postflow import config, platforms, users
from postflow.accounts import accounts
from postflow.models import Account
from postflow.platforms.instagram import Instagram
from sandbox import Sandbox
from tests.acceptance.test_workers import Start, start_worker, until
from tests.engine.conftest import a_picture, scheduled, settings
from tests.engine.connected import age
from tests.web.conftest import PASSWORD, Browser
from tests.web.test_accounts import connect
from web import app as web_app
from web.middleware import database

__all__ = ["settings", "start_worker"]


#: A refresh that is refused, as each network says it.
REFUSED: dict[str, dict[str, Any]] = {
    "pixelfed": {"kind": "status", "path": "/oauth/token", "status": 401, "body": "json"},
    "instagram": {"kind": "graph_error", "path": "refresh_access_token", "method": "GET", "code": 190},
}


@pytest.fixture
def app(settings: config.Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """Served for real as well: Instagram fetches pictures from us."""
    served: list[Flask] = []
    with make_server("127.0.0.1", 0, lambda environ, start: served[0](environ, start), threaded=True) as server:
        environment = {
            "POSTFLOW_PUBLIC_URL": f"http://127.0.0.1:{server.server_port}",
            "POSTFLOW_INSTAGRAM_APP_ID": "990000000000001",
            "POSTFLOW_INSTAGRAM_APP_SECRET": "sandbox-instagram-secret",
            "POSTFLOW_FACEBOOK_APP_ID": "880000000000001",
            "POSTFLOW_FACEBOOK_APP_SECRET": "sandbox-facebook-secret",
            "POSTFLOW_SWEEP_CRON": "0 0 1 1 *",  # nothing is woken by the sweep: reconnecting has to do it
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        chosen = config.load()
        monkeypatch.setitem(platforms.REGISTRY, "instagram", Instagram(chosen))
        made = web_app.create_app(chosen)
        made.test_client_class = Browser
        served.append(made)
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield made
        server.shutdown()
        serving.join()
        database.close(made)


@pytest.fixture
def ada(app: Flask, db: psycopg.Connection) -> Browser:
    users.create_owner(db, "ada@example.org", PASSWORD, display_name="Ada")
    browser = app.test_client()
    assert isinstance(browser, Browser)
    browser.send("/sign-in", email="ada@example.org", password=PASSWORD)
    return browser


def the_account(conn: psycopg.Connection) -> Account:
    [account] = accounts.of_user(conn, _one(conn, "SELECT id FROM users"))
    return account


def run_periodic(conn: psycopg.Connection, task: str) -> None:
    """As the minute's tick does when its time has come."""
    conn.execute(
        """
        SELECT procrastinate_defer_jobs_v1(ARRAY[ROW('periodic', %s, 0, NULL, NULL, '{}'::jsonb, NULL)
               ::procrastinate_job_to_defer_v1])
        """,
        [task],
    )


@pytest.mark.parametrize("network", ["mastodon", "pixelfed", "instagram"])
def test_a_post_held_by_a_dead_token_is_named_and_goes_out_once_after_connecting_again(
    network: str,
    ada: Browser,
    db: psycopg.Connection,
    settings: config.Settings,
    sandbox: Sandbox,
    start_worker: Start,
) -> None:
    connect(ada, sandbox, network)
    account = the_account(db)
    sandbox.revoke_tokens("wren")
    picture = (a_picture(db, account.user_id),)
    scheduled(db, settings, account.user_id, (account.id,), "held until it is back", media=picture)
    soon = datetime.now(UTC) + timedelta(days=3)
    scheduled(db, settings, account.user_id, (account.id,), "in three days", media=picture, at=soon)
    start_worker()
    until(db, "SELECT count(*) FROM accounts WHERE state = 'needs_reconnect'", 1)
    until(db, "SELECT count(*) FROM deliveries WHERE claim IS NOT NULL", 0)
    for page in ("/", "/accounts"):
        shown = ada.get(page).text
        assert re.search(r"@wren\S*</strong>\s*must be connected again", shown)
        assert "held until it is back" in shown and "in three days" in shown
    assert _one(db, "SELECT body FROM notices").count("- ") == 2
    connect(ada, sandbox, network)
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 1)
    assert sandbox.ledger.times_published("held until it is back") == 1
    assert _one(db, "SELECT max(faults) FROM deliveries") == 0
    assert "must be connected again" not in ada.get("/").text


@pytest.mark.parametrize("network", ["pixelfed", "instagram"])
def test_a_token_that_cannot_be_renewed_is_used_to_its_end_told_in_time_and_mended_by_connecting_again(
    network: str,
    ada: Browser,
    db: psycopg.Connection,
    settings: config.Settings,
    sandbox: Sandbox,
    start_worker: Start,
) -> None:
    connect(ada, sandbox, network)
    account = the_account(db)
    keys = settings.encryption_keys
    age(db, account, keys, left=timedelta(days=6))
    refusal = sandbox.faults.add(**REFUSED[network], instance=network, times=None)
    start_worker()
    run_periodic(db, "refresh_tokens")
    until(db, "SELECT count(*) FROM accounts WHERE state = 'active' AND state_reason IS NOT NULL", 1)
    picture = (a_picture(db, account.user_id),)
    scheduled(db, settings, account.user_id, (account.id,), "before its end", media=picture)
    later = datetime.now(UTC) + timedelta(days=9)
    scheduled(db, settings, account.user_id, (account.id,), "after its end", media=picture, at=later)
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 1)
    run_periodic(db, "warn_of_risks")
    until(db, "SELECT count(*) FROM notices WHERE key LIKE 'at-risk:%:7'", 1)
    assert "after its end" in _one(db, "SELECT body FROM notices")
    for page in ("/", "/accounts"):
        shown = ada.get(page).text
        assert re.search(r"@wren\S*</strong>\s*can be used until", shown) and "could not be renewed" in shown
        assert re.search(r"after its end</a>", shown)
    sandbox.expire_tokens("wren")
    age(db, account, keys, left=timedelta(seconds=-1))
    scheduled(db, settings, account.user_id, (account.id,), "when it had ended", media=picture)
    until(db, "SELECT count(*) FROM accounts WHERE state = 'needs_reconnect'", 1)
    sandbox.faults.clear(refusal)
    connect(ada, sandbox, network)
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 2)
    times = [sandbox.ledger.times_published(text) for text in ("before its end", "when it had ended", "after its end")]
    assert times == [1, 1, 0]
    assert "could not be renewed" not in ada.get("/").text


@pytest.mark.parametrize("network", ["pixelfed", "instagram"])
def test_the_worker_renews_a_token_in_time_and_goes_on_publishing_with_the_new_one(
    network: str,
    ada: Browser,
    db: psycopg.Connection,
    settings: config.Settings,
    sandbox: Sandbox,
    start_worker: Start,
) -> None:
    connect(ada, sandbox, network)
    account = the_account(db)
    old = accounts.login_of(db, account.user_id, account.id, settings.encryption_keys).credentials.access_token
    sandbox.advance(2 * 86400)
    age(db, account, settings.encryption_keys, left=timedelta(days=20))
    start_worker()
    run_periodic(db, "refresh_tokens")
    until(db, "SELECT count(*) FROM accounts WHERE token_expires_at > now() + interval '50 days'", 1)
    new = accounts.login_of(db, account.user_id, account.id, settings.encryption_keys).credentials.access_token
    assert new != old
    picture = (a_picture(db, account.user_id),)
    scheduled(db, settings, account.user_id, (account.id,), "with the new token", media=picture)
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 1)
    assert sandbox.ledger.times_published("with the new token") == 1


def test_a_token_at_work_is_renewed_a_minute_later_and_not_at_the_next_round(
    ada: Browser, db: psycopg.Connection, settings: config.Settings, sandbox: Sandbox, start_worker: Start
) -> None:
    connect(ada, sandbox, "pixelfed")
    account = the_account(db)
    age(db, account, settings.encryption_keys, left=timedelta(days=20))
    scheduled(db, settings, account.user_id, (account.id,), "at work", media=(a_picture(db, account.user_id),))
    db.execute("UPDATE deliveries SET status = 'preparing', claim = 'x', wake_at = now() + interval '1 hour'")
    start_worker()
    run_periodic(db, "refresh_tokens")
    waiting = (
        "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'refresh_token' AND scheduled_at > now() + interval"
    )
    until(db, waiting + " '20 seconds'", 1)
    db.execute("UPDATE deliveries SET status = 'cancelled', claim = NULL, wake_at = NULL")
    db.execute(
        "UPDATE procrastinate_jobs SET scheduled_at = now() WHERE task_name = 'refresh_token' AND status = 'todo'"
    )
    until(db, "SELECT count(*) FROM accounts WHERE token_expires_at > now() + interval '50 days'", 1)


def _one(conn: psycopg.Connection, query: str) -> Any:
    row = conn.execute(query.encode()).fetchone()
    assert row
    return row[0]
