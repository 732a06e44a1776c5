"""Connecting through real consent pages over real sockets, and disconnecting."""

import json
import re
from collections.abc import Callable, Sequence
from html import unescape
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit

import httpx
import psycopg
import psycopg.sql
import pytest
from flask import Flask
from pydantic import SecretStr
from werkzeug.test import TestResponse

from postflow import crypto
from sandbox import Sandbox
from tests.web.conftest import Browser

SignedIn = Callable[[Flask, str], Browser]


@pytest.fixture
def app(start, sandbox: Sandbox) -> Flask:
    """Knows the sandbox as its Instagram, and may reach it."""
    return start(
        allowed_private="127.0.0.1",
        instagram_url=sandbox.url("instagram"),
        instagram_app_id="990000000000001",
        instagram_app_secret="sandbox-instagram-secret",
    )


def consent(answer: TestResponse, handle: str, decision: str = "allow") -> str:
    """Presses the button on the network's page; returns our callback's path and query."""
    assert answer.status_code == 302, answer.get_data(as_text=True)
    with httpx.Client(trust_env=False) as network:
        page = network.get(answer.headers["Location"])
        assert page.status_code == 200, page.text
        fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
        action = re.search(r'action="([^"]+)"', page.text)
        assert action
        sent = {name: unescape(value) for name, value in fields.items()}
        back = network.post(
            urljoin(str(page.url), unescape(action[1])),
            data={**sent, "new_account": handle, "account_type": "BUSINESS", "decision": decision},
        )
    parts = urlsplit(back.headers["Location"])
    return f"{parts.path}?{parts.query}"


def connect(browser: Browser, sandbox: Sandbox, network: str, handle: str = "wren") -> TestResponse:
    if network == "instagram":
        away = browser.send("/accounts/connect/instagram/instagram-login")
    else:
        away = browser.send("/accounts/connect", instance=sandbox.url(network))
    return browser.get(consent(away, handle), follow_redirects=True)


@pytest.mark.parametrize("network", ["mastodon", "pixelfed", "instagram", "gotosocial", "mastodon-4.1"])
def test_an_account_is_connected_through_the_consent_page(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection, network: str
):
    page = connect(ada, sandbox, network)
    assert "@wren" in page.text
    assert "connected." in page.text
    platform = {"gotosocial": "mastodon", "mastodon-4.1": "mastodon"}.get(network, network)
    assert db.execute("SELECT platform, state FROM accounts").fetchall() == [(platform, "active")]
    assert db.execute("SELECT count(*) FROM connect_attempts").fetchone() == (0,)
    assert db.execute("SELECT count(*) FROM servers").fetchone() == (1,)


def test_the_client_is_registered_once_per_instance(ada: Browser, sandbox: Sandbox):
    connect(ada, sandbox, "mastodon", "wren")
    connect(ada, sandbox, "mastodon", "robin")
    registrations = sandbox.ledger.requests(instance="mastodon", method="POST", path="/api/v1/apps")
    assert len(registrations) == 1


def test_connecting_again_mends_the_account_in_place(ada: Browser, sandbox: Sandbox, db: psycopg.Connection):
    connect(ada, sandbox, "mastodon")
    db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Its access was withdrawn.'")
    assert "Its access was withdrawn." in ada.get("/accounts").text
    connect(ada, sandbox, "mastodon")
    assert db.execute("SELECT state, state_reason FROM accounts").fetchall() == [("active", None)]


def test_the_end_of_access_is_said_to_the_minute_as_nobody_chose_its_seconds(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection
):
    connect(ada, sandbox, "mastodon")
    db.execute("UPDATE accounts SET token_expires_at = '2031-02-26 13:08:25+00'")
    assert re.search(r"Access until <time [^>]+>Wed 26 Feb 2031, 13:08 <", ada.get("/accounts").text)


def test_denied_consent_connects_nothing_and_says_so(ada: Browser, sandbox: Sandbox, db: psycopg.Connection):
    away = ada.send("/accounts/connect", instance=sandbox.url("mastodon"))
    page = ada.get(consent(away, "wren", "deny"), follow_redirects=True)
    assert "You did not allow PostFlow" in page.text
    assert db.execute("SELECT count(*) FROM accounts").fetchone() == (0,)


def test_a_forged_state_connects_nothing(ada: Browser, sandbox: Sandbox, db: psycopg.Connection):
    back = urlsplit(consent(ada.send("/accounts/connect", instance=sandbox.url("mastodon")), "wren"))
    forged = {**dict(parse_qsl(back.query)), "state": "forged"}
    page = ada.get(f"{back.path}?{urlencode(forged)}", follow_redirects=True)
    assert "does not belong to a connection you began" in page.text
    assert db.execute("SELECT count(*) FROM accounts").fetchone() == (0,)


@pytest.mark.parametrize("iss", ["https://evil.example", "http://[", "", "https://127.0.0.1"])
def test_an_answer_that_names_another_server_connects_nothing_and_its_code_is_sent_nowhere(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection, iss: str
):
    back = consent(ada.send("/accounts/connect", instance=sandbox.url("mastodon")), "wren")
    before = len(sandbox.ledger.requests(instance="mastodon", path="/oauth/token"))
    page = ada.get(f"{back}&{urlencode({'iss': iss})}", follow_redirects=True)
    assert "Another server answered" in page.text
    assert len(sandbox.ledger.requests(instance="mastodon", path="/oauth/token")) == before
    assert db.execute("SELECT count(*) FROM accounts").fetchone() == (0,)


def test_an_answer_that_names_its_own_server_connects(ada: Browser, sandbox: Sandbox):
    back = consent(ada.send("/accounts/connect", instance=sandbox.url("mastodon")), "wren")
    assert (
        "connected."
        in ada.get(f"{back}&{urlencode({'iss': sandbox.url('mastodon') + '/'})}", follow_redirects=True).text
    )


def test_each_server_sends_people_back_to_an_address_of_its_own(ada: Browser, sandbox: Sandbox, db: psycopg.Connection):
    """A hostile one that sends them on to an honest one gets the honest one's code to see otherwise."""
    honest = consent(ada.send("/accounts/connect", instance=sandbox.url("mastodon")), "wren")
    path, _, query = honest.partition("?")
    other = consent(ada.send("/accounts/connect", instance=sandbox.url("pixelfed")), "wren").partition("?")[0]
    assert path != other and path.startswith("/accounts/callback/")
    page = ada.get(f"{other}?{query}", follow_redirects=True)
    assert "Another server answered" in page.text
    assert db.execute("SELECT count(*) FROM accounts").fetchone() == (0,)


def test_another_persons_answer_connects_nothing(ada: Browser, bob: Browser, sandbox: Sandbox, db: psycopg.Connection):
    back = consent(ada.send("/accounts/connect", instance=sandbox.url("mastodon")), "wren")
    assert "does not belong" in bob.get(back, follow_redirects=True).text
    assert db.execute("SELECT count(*) FROM accounts").fetchone() == (0,)
    assert "connected." in ada.get(back, follow_redirects=True).text


def test_an_answer_works_once_and_not_after_half_an_hour(ada: Browser, sandbox: Sandbox, db: psycopg.Connection):
    back = consent(ada.send("/accounts/connect", instance=sandbox.url("mastodon")), "wren")
    db.execute("UPDATE connect_attempts SET created_at = now() - interval '31 minutes'")
    assert "last half hour" in ada.get(back, follow_redirects=True).text
    connect(ada, sandbox, "mastodon")
    assert "last half hour" in ada.get(back, follow_redirects=True).text


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "Type the address"),
        ("not a server", "not an address"),
        ("https://169.254.169.254", "not the name of a server"),
        ("localhost", "not the name of a server"),
    ],
)
def test_what_is_no_address_gets_a_sentence_where_it_was_typed(ada: Browser, typed: str, sentence: str):
    answer = ada.send("/accounts/connect", instance=typed)
    assert answer.status_code == 422
    assert sentence in answer.text
    assert f'value="{typed}"' in answer.text


def test_a_site_that_is_no_server_of_ours_is_refused(ada: Browser, sandbox: Sandbox, db: psycopg.Connection):
    answer = ada.send("/accounts/connect", instance=sandbox.control_url)
    assert answer.status_code == 422
    assert "not a server that PostFlow can publish to" in answer.text
    assert db.execute("SELECT count(*) FROM connect_attempts").fetchone() == (0,)


def test_a_server_that_is_down_is_refused_with_what_to_do(ada: Browser, sandbox: Sandbox):
    sandbox.go_down("mastodon")
    answer = ada.send("/accounts/connect", instance=sandbox.url("mastodon"))
    assert answer.status_code == 422
    assert "cannot be reached" in answer.text


def test_another_persons_account_is_not_there(ada: Browser, bob: Browser, sandbox: Sandbox, db: psycopg.Connection):
    connect(ada, sandbox, "mastodon")
    account_id = db.execute("SELECT id FROM accounts").fetchone()[0]  # type: ignore[index]
    assert bob.get(f"/accounts/{account_id}/disconnect").status_code == 404
    assert bob.send(f"/accounts/{account_id}/disconnect").status_code == 404
    assert "@wren" not in bob.get("/accounts").text
    assert db.execute("SELECT state FROM accounts").fetchone() == ("active",)


def test_disconnecting_cancels_what_waits_forgets_the_token_and_revokes_it(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection
):
    connect(ada, sandbox, "mastodon")
    account_id = _a_waiting_post(db)
    assert "One waiting post will not go out here" in ada.get(f"/accounts/{account_id}/disconnect").text
    page = ada.post(f"/accounts/{account_id}/disconnect", data={"csrf_token": ada.csrf}, follow_redirects=True)
    assert "is disconnected. Cancelled there: 1 post." in page.text
    assert db.execute("SELECT state, sealed FROM accounts").fetchone() == ("disconnected", None)
    assert db.execute("SELECT status FROM deliveries").fetchone() == ("cancelled",)
    event = db.execute("SELECT sentence FROM delivery_events ORDER BY id DESC LIMIT 1").fetchone()
    assert event == ("You disconnected this account.",)
    assert len(sandbox.ledger.requests(path="/oauth/revoke")) == 1


def test_an_account_is_not_disconnected_while_a_post_is_being_sent(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection
):
    connect(ada, sandbox, "mastodon")
    account_id = _a_waiting_post(db)
    db.execute(
        """
        UPDATE deliveries SET status = 'sending', claim = 'c', staged = '{}', attempt_no = 1,
               sent_at = now(), first_sent_at = now()
        """
    )
    answer = ada.send(f"/accounts/{account_id}/disconnect")
    assert answer.status_code == 409
    assert "is being sent" in answer.text
    assert db.execute("SELECT state FROM accounts").fetchone() == ("active",)


def test_no_token_is_on_a_page_in_a_log_or_readable_in_the_database(
    capfd: pytest.CaptureFixture[str], app: Flask, ada: Browser, sandbox: Sandbox, db: psycopg.Connection
):
    pages = [connect(ada, sandbox, network).text for network in ("mastodon", "pixelfed", "instagram")]
    used = _secrets(db, app.extensions["settings"].encryption_keys)
    assert len(used) >= 5
    rows = json.dumps([str(row) for table in ("accounts", "apps", "servers") for row in _everything(db, table)])
    shown = "".join(pages) + ada.get("/profile").text + "".join(capfd.readouterr()) + rows
    assert not [secret for secret in used if secret in shown]


def _secrets(db: psycopg.Connection, keys: Sequence[SecretStr]) -> set[str]:
    """Every token and client secret there is, unsealed."""
    sealed = db.execute("SELECT sealed FROM accounts UNION ALL SELECT sealed FROM apps").fetchall()
    opened = [json.loads(crypto.unseal_bytes(keys, row[0])) for row in sealed]
    return {one[name] for one in opened for name in one if name.endswith(("token", "secret")) and one[name]}


def _everything(db: psycopg.Connection, table: str) -> list[tuple]:
    return db.execute(psycopg.sql.SQL("SELECT * FROM {}").format(psycopg.sql.Identifier(table))).fetchall()


def _a_waiting_post(db: psycopg.Connection) -> int:
    """On the only account there is; returns the account's id."""
    row = db.execute(
        """
        WITH post AS (INSERT INTO posts (user_id, content, post_date, time_zone)
                      SELECT user_id, '{"text": "hello"}', now() + interval '1 day', 'UTC' FROM accounts
                      RETURNING id, post_date)
        INSERT INTO deliveries (post_id, account_id, revision, wake_at)
        SELECT post.id, accounts.id, 1, post.post_date FROM post, accounts RETURNING account_id
        """
    ).fetchone()
    assert row
    return row[0]
