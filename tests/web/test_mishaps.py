"""The page for each mishap says what happened and what to do, and carries the number under which the log has it."""

import re
from collections.abc import Iterator

import psycopg
import pytest
from flask import Flask
from psycopg import sql

from postflow import platforms, session_limits
from postflow.models import Limits
from tests.web.conftest import Browser, an_account
from tests.web.test_compose import uploaded, written
from web.middleware import database

FULL = """
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER full_disk BEFORE UPDATE ON users EXECUTE FUNCTION full_disk();
"""


@pytest.fixture
def read_only(ada: Browser, admin: psycopg.Connection, database_url: str) -> Iterator[None]:
    """The pages' sessions are opened anew, as after a failover."""
    name = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]))
    admin.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    database.close(ada.application)
    yield
    admin.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))
    database.close(ada.application)


@pytest.mark.parametrize("path", ["/", "/posts/new", "/profile", "/accounts"])
def test_a_read_only_database_gets_a_page_that_says_so(ada: Browser, read_only: None, path: str):
    answer = ada.get(path)
    assert answer.status_code == 503
    assert "It is read-only: nothing can be saved and nothing is published" in answer.text
    assert "What is scheduled stays scheduled." in answer.text


def test_signing_in_to_a_read_only_database_gets_the_same_page(ada: Browser, read_only: None):
    stranger = ada.application.test_client()
    assert stranger.get("/sign-in").status_code == 200
    assert stranger.send("/sign-in", email="ada@example.org", password="x" * 12).status_code == 503


def test_a_read_only_database_is_not_ready(ada: Browser, read_only: None):
    answer = ada.get("/readyz")
    assert (answer.status_code, answer.json["why"]) == (503, "the database is read-only")


def test_a_full_disk_gets_a_page_that_says_so_and_the_next_try_works(ada: Browser, db: psycopg.Connection):
    db.execute(FULL)
    answer = ada.send("/profile", display_name="Countess", time_zone="UTC")
    assert answer.status_code == 503
    assert "The database has no room left" in answer.text
    db.execute("DROP TRIGGER full_disk ON users")
    assert ada.send("/profile", display_name="Countess", time_zone="UTC").status_code == 302


def test_a_page_that_breaks_names_its_number_and_not_the_fault(ada: Browser, db: psycopg.Connection):
    db.execute("ALTER TABLE users RENAME COLUMN display_name TO gone")
    try:
        answer = ada.get("/healthz")
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-ID"])
        broken = ada.get("/profile", headers={"X-Request-ID": "from-the-router-1", "Accept": "application/json"})
    finally:
        db.execute("ALTER TABLE users RENAME COLUMN gone TO display_name")
    assert broken.status_code == 500
    assert broken.headers["X-Request-ID"] == "from-the-router-1"
    assert "display_name" not in broken.text


def test_a_number_that_is_none_is_replaced(ada: Browser):
    given = "<script>" + "x" * 100
    assert ada.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"] != given


def test_pages_show_what_is_on_a_network_that_is_no_longer_registered_and_it_can_be_disconnected(
    app: Flask, ada: Browser, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
):
    account = an_account(db, "ada@example.org", "pixelfed", Limits())
    sent = written(ada, [("text", "from before"), ("account", str(account)), ("media_id", str(uploaded(ada)))])
    assert sent.status_code == 302
    monkeypatch.delitem(platforms.REGISTRY, "pixelfed")
    page = sent.headers["Location"]
    for path in ("/", page, f"{page}/edit", "/posts/new", "/accounts", f"/accounts/{account}/disconnect", "/profile"):
        answer = ada.get(path)
        assert answer.status_code == 200, path
    checked = written(ada, [("text", "again"), ("account", str(account)), ("action", "check")])
    assert "no longer speaks to “pixelfed”" in checked.text
    assert ada.send(f"/accounts/{account}/disconnect").status_code == 302
    assert db.execute("SELECT a.state, d.status FROM accounts a, deliveries d").fetchone() == (
        "disconnected",
        "cancelled",
    )


def test_who_meets_a_row_that_another_session_holds_reads_so_and_may_try_again(
    ada: Browser, db: psycopg.Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(session_limits, "PAGE", session_limits.PAGE._replace(lock_s=1))
    database.close(ada.application)  # sessions that know the bound
    with psycopg.connect(database_url) as other:
        other.execute("SELECT FROM users WHERE email = 'ada@example.org' FOR UPDATE")
        answer = ada.send("/profile", display_name="Countess", time_zone="UTC")
        assert answer.status_code == 503
        assert "Somebody else is working on it" in answer.text and "send it once more" in answer.text
    assert ada.send("/profile", display_name="Countess", time_zone="UTC").status_code == 302
