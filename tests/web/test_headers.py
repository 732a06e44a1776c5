"""What every answer tells the browser, the pages for mishaps, and the pages for machines."""

import re
from pathlib import Path

import psycopg
import psycopg.sql
import pytest
from psycopg_pool import ConnectionPool

from postflow import errors
from tests.web.conftest import Browser

TEMPLATES = Path(__file__).parents[2] / "web" / "templates"


def test_no_page_may_run_or_style_anything_inline(ada: Browser):
    policy = ada.get("/profile").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "form-action 'self';" in policy
    for template in TEMPLATES.rglob("*.html"):
        text = template.read_text()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", text), template.name


def test_only_the_page_that_sends_people_to_their_network_may_do_so(ada: Browser):
    assert "form-action 'self' https:" in ada.get("/accounts").headers["Content-Security-Policy"]


def test_over_https_the_cookie_is_secure_and_http_is_given_up(start):
    far = start(public_url="https://flow.example").test_client()
    answer = far.get("/sign-in", base_url="https://flow.example", follow_redirects=True)
    assert "max-age=31536000" in answer.headers["Strict-Transport-Security"]
    cookie = answer.headers["Set-Cookie"]
    assert "Secure" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie


def test_pages_are_not_kept_by_the_browser_and_files_are(ada: Browser):
    assert ada.get("/profile").headers["Cache-Control"] == "no-store"
    with ada.get("/static/app.css") as style:
        assert style.status_code == 200
        assert "max-age" in style.headers["Cache-Control"]


def test_an_unknown_address_gets_a_page_in_plain_words(ada: Browser):
    answer = ada.get("/nowhere")
    assert answer.status_code == 404
    assert "There is no such page" in answer.text


def test_a_database_that_is_gone_gets_a_page_of_its_own(browser: Browser, admin: psycopg.Connection, database_url: str):
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    allow = psycopg.sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    admin.execute(allow.format(psycopg.sql.Identifier(str(name)), psycopg.sql.Literal(False)))
    try:
        with ConnectionPool(database_url, min_size=0, max_size=1, timeout=0.3) as impatient:
            browser.application.extensions["pool"] = impatient
            answer = browser.get("/sign-in")
    finally:
        del browser.application.extensions["pool"]
        admin.execute(allow.format(psycopg.sql.Identifier(str(name)), psycopg.sql.Literal(True)))
    assert answer.status_code == 503
    assert "database does not answer" in answer.text


def test_it_does_not_start_on_tables_that_are_behind(start, db: psycopg.Connection):
    db.execute("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(errors.SchemaBehind, match="postflow migrate"):
        start()


def test_readiness_tells_whether_a_worker_lives(browser: Browser, db: psycopg.Connection):
    assert browser.get("/healthz").status_code == 200
    dead = browser.get("/readyz")
    assert dead.status_code == 503
    assert dead.json["why"] == "no worker is alive"
    db.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    assert browser.get("/readyz").status_code == 200


def test_metrics_are_only_for_those_with_the_token(start, db: psycopg.Connection):
    db.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    client = start(metrics_token="let-me-see").test_client()
    assert client.get("/metrics").status_code == 404
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 404
    text = client.get("/metrics", headers={"Authorization": "Bearer let-me-see"}).text
    assert "postflow_worker_heartbeat_age_seconds" in text
