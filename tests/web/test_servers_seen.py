"""What is known of a server is asked anew when it is a day old, and what a server changed since is noticed."""

import psycopg
import pytest
from flask import Flask

from postflow.connections import limit_refresh
from postflow.db import async_pool
from postflow.http import clients
from sandbox import Sandbox
from tests.web.conftest import Browser
from tests.web.test_accounts import connect
from tests.web.test_compose import written


@pytest.fixture
def app(start) -> Flask:
    return start(allowed_private="127.0.0.1")


@pytest.fixture
def account(ada: Browser, sandbox: Sandbox, db: psycopg.Connection) -> int:
    connect(ada, sandbox, "mastodon")
    [number] = db.execute("SELECT id FROM accounts").fetchone() or [0]
    return number


def grow_old(db: psycopg.Connection, by: str = "25 hours") -> None:
    db.execute("UPDATE servers SET fetched_at = now() - %s::interval", [by])


def test_a_post_is_held_against_the_limits_of_today(
    ada: Browser, account: int, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    fields = [("account", account), ("text", "eleven char"), ("action", "schedule")]
    sandbox.configure("mastodon", max_characters=10)
    grow_old(db, "2 minutes")
    refused = written(ada, fields)
    assert refused.status_code == 422
    assert "1 character too long" in refused.text
    sandbox.configure("mastodon", max_characters=1000)
    grow_old(db, "2 minutes")
    checked = written(ada, [*fields[:2], ("action", "check")])
    assert "11 of 1000 characters" in checked.text
    assert written(ada, fields).status_code == 302


def test_a_server_that_was_asked_this_minute_and_a_draft_ask_nobody(
    ada: Browser, account: int, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    def asked() -> int:
        return len(sandbox.ledger.requests(instance="mastodon", path="/api/v2/instance"))

    before, fields = asked(), [("account", account), ("text", "asked for often")]
    assert written(ada, [*fields, ("action", "schedule")]).status_code == 302
    grow_old(db)
    assert written(ada, [*fields, ("action", "draft")]).status_code == 302
    assert written(ada, [*fields, ("action", "part")]).status_code == 200
    assert asked() == before


def test_a_server_that_does_not_answer_holds_up_nothing(
    ada: Browser, account: int, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    grow_old(db)
    sandbox.go_down("mastodon")
    assert written(ada, [("account", account), ("text", "hello"), ("action", "schedule")]).status_code == 302


def test_a_slow_server_holds_up_one_page_and_no_other_server_s_news(
    ada: Browser, account: int, sandbox: Sandbox, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limit_refresh, "PATIENCE_S", 0.5)
    connect(ada, sandbox, "gotosocial")
    [other] = db.execute("SELECT id FROM accounts WHERE id <> %s", [account]).fetchone() or [0]
    grow_old(db)
    sandbox.configure("gotosocial", max_characters=7)
    sandbox.faults.add("slow", instance="mastodon", path="nodeinfo", seconds=30, times=None)
    fields = [("account", account), ("account", other), ("text", "eight ch"), ("action", "schedule")]
    refused = written(ada, fields)
    assert refused.status_code == 422
    assert "1 character too long" in refused.text  # the quick one's new limit
    slow = len(sandbox.ledger.requests(instance="mastodon", path="nodeinfo"))
    written(ada, fields)
    assert len(sandbox.ledger.requests(instance="mastodon", path="nodeinfo")) == slow


async def test_each_day_the_stale_are_asked_and_other_software_is_told_to_the_person(
    app: Flask, ada: Browser, account: int, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    settings = app.extensions["settings"]
    async with (
        async_pool(settings.database_url.get_secret_value(), max_size=3) as pool,
        clients.client(settings) as http,
    ):
        assert (await limit_refresh.daily(pool, settings, http))["servers"] == 0
        grow_old(db)
        sandbox.configure("mastodon", software="mastodon", version="4.2.0")
        assert (await limit_refresh.daily(pool, settings, http))["answered"] == 1
        assert db.execute("SELECT version, state FROM servers, accounts").fetchone() == ("4.2.0", "active")
        grow_old(db)
        sandbox.configure("mastodon", software="pixelfed")
        assert (await limit_refresh.daily(pool, settings, http))["answered"] == 1
    [state, reason] = db.execute("SELECT state, state_reason FROM accounts").fetchone() or ["", ""]
    assert state == "needs_reconnect"
    assert "runs Pixelfed now" in reason
    assert db.execute("SELECT kind, body LIKE '%%runs Pixelfed now%%' FROM notices").fetchall() == [
        ("access-ended", True)
    ]


def test_an_app_that_the_server_has_forgotten_is_registered_again(
    ada: Browser, account: int, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    sandbox.network.store.apps.clear()
    assert "connected." in connect(ada, sandbox, "mastodon").text
    registrations = sandbox.ledger.requests(instance="mastodon", method="POST", path="/api/v1/apps")
    assert len(registrations) == 2
    assert db.execute("SELECT count(*) FROM apps").fetchone() == (1,)


def test_an_app_is_not_registered_again_for_a_server_that_merely_stumbles(
    ada: Browser, account: int, sandbox: Sandbox
) -> None:
    sandbox.faults.add("status", path="/oauth/token", status=503)
    assert "connected." in connect(ada, sandbox, "mastodon", "robin").text
    assert len(sandbox.ledger.requests(instance="mastodon", path="/api/v1/apps")) == 1
