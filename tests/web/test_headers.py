"""What every answer tells the browser, the pages for mishaps, and the pages for machines."""

import re
from pathlib import Path

import psycopg
import psycopg.sql
from psycopg_pool import ConnectionPool

from postflow.db import shipped_revision
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


def test_who_opens_it_over_http_although_its_address_is_https_is_told_so_before_signing_in_in_vain(start):
    client = start(public_url="https://flow.example").test_client()
    said = "This page was opened over http"
    assert said in client.get("/sign-in", follow_redirects=True).text
    assert said not in client.get("/sign-in", base_url="https://flow.example", follow_redirects=True).text
    behind_a_proxy = {"X-Forwarded-Proto": "https"}
    assert said not in client.get("/sign-in", headers=behind_a_proxy, follow_redirects=True).text
    assert said not in start(public_url="http://localhost").test_client().get("/sign-in", follow_redirects=True).text


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


def test_on_tables_that_are_behind_it_says_so_and_opens_by_itself_once_they_are_not(start, db: psycopg.Connection):
    db.execute("UPDATE alembic_version SET version_num = '0001'")
    client: Browser = start(metrics_token="let-me-see").test_client()
    assert client.get("/healthz").status_code == 200
    reason = client.get("/readyz")
    assert (reason.status_code, reason.json["status"]) == (503, "not ready")
    assert "0001" in reason.json["why"] and "run: postflow migrate" in reason.json["why"]
    for path in ("/sign-in", "/", "/metrics"):
        page = client.get(path, headers={"Authorization": "Bearer let-me-see"})
        assert page.status_code == 503, path
        assert "run: postflow migrate" in page.text, path
    assert client.post("/sign-in", data={"email": "ada@example.org"}).status_code == 503
    db.execute("UPDATE alembic_version SET version_num = %s", [shipped_revision()])
    assert client.get("/sign-in", follow_redirects=True).status_code == 200
    assert client.get("/readyz").json["why"] == "no worker is alive"


def test_readiness_tells_whether_a_worker_lives(browser: Browser, db: psycopg.Connection):
    assert browser.get("/healthz").status_code == 200
    dead = browser.get("/readyz")
    assert dead.status_code == 503
    assert dead.json["why"] == "no worker is alive"
    db.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    assert browser.get("/readyz").status_code == 200


def test_readiness_does_not_count_a_worker_that_fell_silent(browser: Browser, db: psycopg.Connection):
    db.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 minute')")
    silent = browser.get("/readyz")
    assert (silent.status_code, silent.json["why"]) == (503, "no worker is alive")
    assert 60 <= silent.json["worker_heartbeat_age_s"] < 600
    db.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '15 seconds')")
    answer = browser.get("/readyz")
    assert (answer.status_code, answer.json["status"]) == (200, "ok")
    assert 15 <= answer.json["worker_heartbeat_age_s"] < 30


def test_metrics_are_only_for_those_with_the_token(start, db: psycopg.Connection):
    db.execute("INSERT INTO procrastinate_workers DEFAULT VALUES")
    client = start(metrics_token="let-me-see").test_client()
    assert client.get("/metrics").status_code == 404
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 404
    text = client.get("/metrics", headers={"Authorization": "Bearer let-me-see"}).text
    assert "postflow_worker_heartbeat_age_seconds" in text
