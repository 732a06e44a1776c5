"""A token dies, its person connects again, and what waited goes out once: real worker, real pages, sandbox networks."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from flask import Flask

from postflow import config, platforms, users
from postflow.platforms.instagram import Instagram
from sandbox import Sandbox
from tests.acceptance.test_workers import Start, start_worker, until
from tests.engine.conftest import a_picture, scheduled, settings
from tests.web.conftest import PASSWORD, Browser
from tests.web.test_accounts import connect
from web import app as web_app
from web import database

__all__ = ["settings", "start_worker"]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox.start(port=0) as running:
        yield running


@pytest.fixture
def app(settings: config.Settings, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setenv("POSTFLOW_INSTAGRAM_APP_ID", "990000000000001")
    monkeypatch.setenv("POSTFLOW_INSTAGRAM_APP_SECRET", "sandbox-instagram-secret")
    monkeypatch.setenv("POSTFLOW_PUBLIC_URL", "http://localhost")
    monkeypatch.setenv("POSTFLOW_SWEEP_CRON", "0 0 1 1 *")  # nothing is woken by the sweep: reconnecting has to do it
    chosen = config.load()
    monkeypatch.setitem(platforms.REGISTRY, "instagram", Instagram(chosen))
    made = web_app.create_app(chosen)
    made.test_client_class = Browser
    yield made
    database.close(made)


@pytest.mark.parametrize("network", ["mastodon", "pixelfed"])
def test_a_post_held_by_a_dead_token_is_named_and_goes_out_once_after_connecting_again(
    network: str,
    app: Flask,
    db: psycopg.Connection,
    settings: config.Settings,
    sandbox: Sandbox,
    start_worker: Start,
) -> None:
    ada = users.create_owner(db, "ada@example.org", PASSWORD, display_name="Ada")
    browser = app.test_client()
    assert isinstance(browser, Browser)
    browser.send("/sign-in", email="ada@example.org", password=PASSWORD)
    connect(browser, sandbox, network)
    account_id = _one(db, "SELECT id FROM accounts")
    sandbox.revoke_tokens("wren")
    picture = (a_picture(db, ada.id),)
    scheduled(db, settings, ada.id, (account_id,), "held until it is back", media=picture)
    soon = datetime.now(UTC) + timedelta(days=3)
    scheduled(db, settings, ada.id, (account_id,), "in three days", media=picture, at=soon)
    start_worker()
    until(db, "SELECT count(*) FROM accounts WHERE state = 'needs_reconnect'", 1)
    until(db, "SELECT count(*) FROM deliveries WHERE claim IS NOT NULL", 0)
    for page in ("/", "/accounts"):
        shown = browser.get(page).text
        assert re.search(r"@wren@\S+</strong>\s*must be connected again", shown)
        assert "held until it is back" in shown and "in three days" in shown
    assert _one(db, "SELECT body FROM notices").count("- ") == 2
    connect(browser, sandbox, network)
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 1, patience_s=15)
    assert sandbox.ledger.times_published("held until it is back") == 1
    assert _one(db, "SELECT max(faults) FROM deliveries") == 0
    assert "must be connected again" not in browser.get("/").text


def _one(conn: psycopg.Connection, query: str) -> str | int:
    row = conn.execute(query.encode()).fetchone()
    assert row
    return row[0]
