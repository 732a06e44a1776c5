"""Connecting where something is odd: a forgotten client, a second account, fewer scopes, a token made by hand."""

import re
from collections.abc import Sequence
from html import unescape
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import psycopg
import pytest
from werkzeug.test import TestResponse

from sandbox import Sandbox
from tests.web.conftest import Browser
from tests.web.test_accounts import app, connect, consent

__all__ = ["app"]

FULL = "profile read:statuses write:media write:statuses"


def registrations(sandbox: Sandbox) -> int:
    return len(sandbox.ledger.requests(instance="mastodon", method="POST", path="/api/v1/apps"))


def forget_clients(sandbox: Sandbox) -> None:
    """What an administrator's clean-up does."""
    sandbox.network.store.apps.clear()


def allow_only(answer: TestResponse, handle: str, scopes: str) -> str:
    """The person leaves out some of what is asked for; returns our callback's path and query."""
    with httpx.Client(trust_env=False) as network:
        page = network.get(answer.headers["Location"])
        fields = dict(re.findall(r'type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
        sent = {name: unescape(value) for name, value in fields.items()}
        action = re.search(r'action="([^"]+)"', page.text)
        assert action
        url = urljoin(str(page.url), unescape(action[1]))
        back = network.post(url, data={**sent, "scope": scopes, "new_account": handle, "decision": "allow"})
    parts = urlsplit(back.headers["Location"])
    return f"{parts.path}?{parts.query}"


def rows(db: psycopg.Connection, query: str) -> Sequence[tuple]:
    return db.execute(query.encode()).fetchall()


# -- a client the server has forgotten ---------------------------------------------------------------------------


def test_a_client_the_server_forgot_is_registered_anew_before_the_person_is_sent_there(ada: Browser, sandbox: Sandbox):
    connect(ada, sandbox, "mastodon")
    forget_clients(sandbox)
    assert "connected." in connect(ada, sandbox, "mastodon").text
    assert registrations(sandbox) == 2


def test_a_client_forgotten_while_the_person_is_there_sends_them_once_more(ada: Browser, sandbox: Sandbox):
    back = consent(ada.send("/accounts/connect", instance=sandbox.url("mastodon")), "wren")
    forget_clients(sandbox)
    again = ada.get(back)
    assert again.headers["Location"].startswith(sandbox.url("mastodon") + "/oauth/authorize")
    assert "connected." in ada.get(consent(again, "wren"), follow_redirects=True).text
    assert registrations(sandbox) == 2


def test_a_server_that_keeps_forgetting_ends_with_a_sentence_and_not_in_a_circle(ada: Browser, sandbox: Sandbox):
    back = consent(ada.send("/accounts/connect", instance=sandbox.url("mastodon")), "wren")
    forget_clients(sandbox)
    back = consent(ada.get(back), "wren")
    forget_clients(sandbox)
    page = ada.get(back, follow_redirects=True)
    assert "no longer knows PostFlow. Connect again" in page.text
    assert registrations(sandbox) == 2


# -- several accounts, several people ----------------------------------------------------------------------------


def test_a_second_account_on_one_instance_is_asked_for_by_name_and_stands_beside_the_first(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection
):
    first = ada.send("/accounts/connect", instance=sandbox.url("mastodon"))
    assert "force_login" not in first.headers["Location"]
    ada.get(consent(first, "wren"))
    second = ada.send("/accounts/connect", instance=sandbox.url("mastodon"))
    assert "force_login=true" in second.headers["Location"]
    ada.get(consent(second, "robin"))
    assert len({row[0] for row in rows(db, "SELECT remote_id FROM accounts WHERE state = 'active'")}) == 2


def test_a_token_two_people_share_is_revoked_only_when_the_last_of_them_leaves(
    ada: Browser, bob: Browser, sandbox: Sandbox, db: psycopg.Connection
):
    for browser in (ada, bob):
        connect(browser, sandbox, "mastodon")
    for number, (browser, (account_id,)) in enumerate(
        zip((ada, bob), rows(db, "SELECT id FROM accounts ORDER BY user_id"), strict=True)
    ):
        assert (
            "is disconnected."
            in browser.post(f"/accounts/{account_id}/disconnect", data={}, follow_redirects=True).text
        )
        assert len(sandbox.ledger.requests(path="/oauth/revoke")) == number


def test_the_button_of_an_account_mends_that_account(ada: Browser, sandbox: Sandbox, db: psycopg.Connection):
    connect(ada, sandbox, "mastodon")
    db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Its access was withdrawn.'")
    [(account_id,)] = rows(db, "SELECT id FROM accounts")
    assert f'action="/accounts/{account_id}/reconnect"' in ada.get("/accounts").text
    away = ada.send(f"/accounts/{account_id}/reconnect")
    assert "force_login" not in away.headers["Location"]
    assert "connected." in ada.get(consent(away, "wren"), follow_redirects=True).text
    assert rows(db, "SELECT id, state, state_reason FROM accounts") == [(account_id, "active", None)]


def test_coming_back_as_somebody_else_says_which_account_still_waits(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection
):
    connect(ada, sandbox, "mastodon")
    db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Its access was withdrawn.'")
    [(account_id,)] = rows(db, "SELECT id FROM accounts")
    page = ada.get(consent(ada.send(f"/accounts/{account_id}/reconnect"), "robin"), follow_redirects=True)
    assert re.search(r"@wren@\S+ still has to be connected again: this was another account. Be @wren", page.text)
    assert rows(db, "SELECT state FROM accounts ORDER BY id") == [("needs_reconnect",), ("active",)]


def test_somebody_elses_account_cannot_be_mended(ada: Browser, bob: Browser, sandbox: Sandbox, db: psycopg.Connection):
    connect(ada, sandbox, "mastodon")
    [(account_id,)] = rows(db, "SELECT id FROM accounts")
    assert bob.send(f"/accounts/{account_id}/reconnect").status_code == 404


# -- what was allowed --------------------------------------------------------------------------------------------


def test_a_scope_postflow_can_do_without_is_said_to_be_missing(ada: Browser, sandbox: Sandbox):
    away = ada.send("/accounts/connect", instance=sandbox.url("mastodon"))
    page = ada.get(allow_only(away, "wren", "profile write:media write:statuses"), follow_redirects=True)
    assert "PostFlow may not read what is on this account, so after a lost answer" in page.text
    assert "is connected." in page.text


def test_without_the_right_to_publish_nothing_is_connected(ada: Browser, sandbox: Sandbox, db: psycopg.Connection):
    away = ada.send("/accounts/connect", instance=sandbox.url("mastodon"))
    page = ada.get(allow_only(away, "wren", "profile read:statuses write:media"), follow_redirects=True)
    assert "You did not allow PostFlow to publish (write:statuses). Connect again and allow it." in page.text
    assert rows(db, "SELECT count(*) FROM accounts") == [(0,)]


def test_pkce_is_used_where_the_server_offers_it_and_nowhere_else(ada: Browser, sandbox: Sandbox):
    def asked(network: str) -> dict[str, list[str]]:
        away = ada.send("/accounts/connect", instance=sandbox.url(network)).headers["Location"]
        return parse_qs(urlsplit(away).query)

    assert asked("mastodon")["code_challenge_method"] == ["S256"]
    assert asked("mastodon")["scope"] == ["profile read:statuses write:media write:statuses"]
    assert "code_challenge" not in asked("mastodon-4.1")
    assert asked("mastodon-4.1")["scope"] == ["read:accounts read:statuses write:media write:statuses"]


# -- addresses ---------------------------------------------------------------------------------------------------


def test_a_handle_is_shown_with_its_own_domain_and_not_the_servers(ada: Browser, sandbox: Sandbox):
    sandbox.configure("mastodon", account_domain="birds.example")
    assert "@wren@birds.example is connected." in connect(ada, sandbox, "mastodon").text


def test_the_domain_of_a_handle_leads_to_the_server_behind_it(ada: Browser, sandbox: Sandbox):
    beyond = sandbox.url("gotosocial")
    sandbox.faults.add(
        "redirect",
        instance="mastodon",
        path="/.well-known/nodeinfo$",
        location=f"{beyond}/.well-known/nodeinfo",
        times=None,
    )
    away = ada.send("/accounts/connect", instance=sandbox.url("mastodon"))
    assert away.headers["Location"].startswith(f"{beyond}/oauth/authorize")


def test_a_hand_over_to_a_forbidden_address_is_refused_like_any_other(ada: Browser, sandbox: Sandbox):
    sandbox.faults.add(
        "garbage",
        instance="mastodon",
        path="/.well-known/nodeinfo$",
        commit=False,
        text='{"links": [{"rel": "nodeinfo/2.0", "href": "http://169.254.169.254/nodeinfo/2.0"}]}',
        times=None,
    )
    answer = ada.send("/accounts/connect", instance=sandbox.url("mastodon"))
    assert answer.status_code == 422
    assert "not the name of a server" in answer.text


def test_a_pixelfed_user_who_never_opened_the_website_is_told_to(ada: Browser, sandbox: Sandbox):
    sandbox.add_account("pixelfed", "wren", never_logged_in=True)
    page = connect(ada, sandbox, "pixelfed")
    assert "takes no posts from this account yet. Sign in to Pixelfed on the web once." in page.text


def test_a_server_that_runs_other_software_now_is_not_mended_but_named(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection
):
    connect(ada, sandbox, "mastodon")
    [(account_id,)] = rows(db, "SELECT id FROM accounts")
    sandbox.configure("mastodon", software="pixelfed", version="0.12.6")
    answer = ada.send(f"/accounts/{account_id}/reconnect")
    assert answer.status_code == 422
    assert "runs Pixelfed now, no longer Mastodon. Connect it as a new account" in answer.text


# -- a token made by hand ----------------------------------------------------------------------------------------


def paste(browser: Browser, sandbox: Sandbox, network: str, token: str) -> TestResponse:
    browser.send("/sign-in")
    typed = {"mastodon.token.instance": sandbox.url(network), "mastodon.token.token": token}
    return browser.post("/accounts/sign-in/mastodon/token", data=typed, follow_redirects=True)


@pytest.mark.parametrize("network", ["mastodon", "mastodon-4.1", "gotosocial", "pixelfed"])
def test_a_token_made_by_hand_connects_its_account(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection, network: str
):
    given = sandbox.add_account(network, "wren")
    page = paste(ada, sandbox, network, f"  {given.access_token}\n")
    assert re.search(r"@wren@\S+ is connected\.", page.text), page.text
    assert given.access_token not in page.text
    assert rows(db, "SELECT remote_id, state FROM accounts") == [(given.account_id, "active")]
    assert sandbox.ledger.counts()["statuses"] == 0


@pytest.mark.parametrize(
    ("scopes", "said"),
    [
        ("profile read:statuses", "upload pictures (write:media) and publish posts (write:statuses)"),
        ("profile read:statuses write:media", "publish posts (write:statuses)"),
        ("profile write:media write:statuses", "look whether a post went out when the answer got lost (read:statuses)"),
        ("write:media write:statuses", "see whose account it is (profile)"),
    ],
)
def test_a_token_with_missing_scopes_is_refused_before_saving_and_names_them(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection, scopes: str, said: str
):
    given = sandbox.add_account("mastodon", "wren", scopes=scopes)
    page = paste(ada, sandbox, "mastodon", given.access_token)
    assert page.status_code == 422
    assert f"This token does not let PostFlow {said}." in page.text
    assert f"Make one with these scopes: {FULL}." in page.text
    assert given.access_token not in page.text
    assert rows(db, "SELECT count(*) FROM accounts") == [(0,)]


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("", "Access token: fill this in."),
        ("two words", "does not accept this token"),
        ("tökén", "has characters that do not belong in one"),
        ("never-issued", "does not accept this token"),
    ],
)
def test_what_is_no_token_gets_a_sentence(ada: Browser, sandbox: Sandbox, token: str, said: str):
    page = paste(ada, sandbox, "mastodon", token)
    assert page.status_code == 422
    assert said in page.text


def test_an_account_connected_by_hand_says_that_only_its_person_can_take_the_token_back(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection
):
    paste(ada, sandbox, "mastodon", sandbox.add_account("mastodon", "wren").access_token)
    [(account_id,)] = rows(db, "SELECT id FROM accounts")
    page = ada.post(f"/accounts/{account_id}/disconnect", data={}, follow_redirects=True)
    assert "The network could not be told" in page.text


def test_disconnecting_names_the_posts_that_will_not_go_out(ada: Browser, sandbox: Sandbox, db: psycopg.Connection):
    connect(ada, sandbox, "mastodon")
    db.execute(
        """
        WITH post AS (INSERT INTO posts (user_id, content, post_date, time_zone)
                      SELECT user_id, '{"text": "a <b>letter</b> home"}', now() + interval '1 day', 'UTC' FROM accounts
                      RETURNING id, post_date)
        INSERT INTO deliveries (post_id, account_id, revision, wake_at)
        SELECT post.id, accounts.id, 1, post.post_date FROM post, accounts
        """
    )
    [(account_id,)] = rows(db, "SELECT id FROM accounts")
    page = ada.get(f"/accounts/{account_id}/disconnect").text
    assert "One waiting post will not go out here" in page
    assert "a &lt;b&gt;letter&lt;/b&gt; home</a>" in page


def test_an_account_whose_server_went_away_says_so_and_stays(ada: Browser, sandbox: Sandbox, db: psycopg.Connection):
    connect(ada, sandbox, "mastodon")
    [(account_id,)] = rows(db, "SELECT id FROM accounts")
    sandbox.go_down("mastodon")
    answer = ada.send(f"/accounts/{account_id}/reconnect")
    assert answer.status_code == 422
    assert "cannot be reached. Check the address, or try again later." in answer.text
    page = ada.post(f"/accounts/{account_id}/disconnect", data={}, follow_redirects=True)
    assert "is disconnected." in page.text and "The network could not be told" in page.text


@pytest.mark.parametrize("network", ["takahe", "mastodon"])
def test_an_account_that_came_with_a_token_is_connected_again_with_a_token(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection, network: str
):
    if network == "takahe":
        sandbox.add_instance("takahe", name="takahe")
    paste(ada, sandbox, network, sandbox.add_account(network, "wren").access_token)
    db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Its access was withdrawn.'")
    [(account_id,)] = rows(db, "SELECT id FROM accounts")
    away = ada.send(f"/accounts/{account_id}/reconnect")
    assert away.headers["Location"] == f"/accounts?again={account_id}#by-form"
    page = ada.get(away.headers["Location"])
    assert "was connected this way" in page.text
    assert page.text.count(f'value="{sandbox.url(network)}"') == 2  # in both forms: the consent page is offered, too
    paste(ada, sandbox, network, sandbox.add_account(network, "wren").access_token)
    assert rows(db, "SELECT id, state FROM accounts") == [(account_id, "active")]


def test_somebody_elses_token_pasted_on_connect_again_says_which_account_still_waits(
    ada: Browser, bob: Browser, sandbox: Sandbox, db: psycopg.Connection
):
    paste(ada, sandbox, "mastodon", sandbox.add_account("mastodon", "wren").access_token)
    db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Its access was withdrawn.'")
    [(account_id,)] = rows(db, "SELECT id FROM accounts")
    again = f'name="again" value="{account_id}"'
    assert again in ada.get(f"/accounts?again={account_id}").text

    def pasted(browser: Browser, token: str) -> TestResponse:
        browser.send("/sign-in")
        typed = {"mastodon.token.instance": sandbox.url("mastodon"), "mastodon.token.token": token}
        typed["again"] = str(account_id)
        return browser.post("/accounts/sign-in/mastodon/token", data=typed, follow_redirects=True)

    assert again in pasted(ada, "never-issued").text, "a refused form still knows what it is for"
    other = sandbox.add_account("mastodon", "robin").access_token
    assert pasted(bob, other).status_code == 404
    page = pasted(ada, other)
    assert re.search(r"@robin@\S+ is connected\.", page.text)
    assert re.search(r"@wren@\S+ still has to be connected again: this was another account", page.text)
    assert rows(db, "SELECT state FROM accounts ORDER BY id") == [("needs_reconnect",), ("active",)]
    page = pasted(ada, sandbox.add_account("mastodon", "wren").access_token)
    assert "still has to be connected again" not in page.text


def test_takahe_is_connected_on_its_consent_page_like_any_other(ada: Browser, sandbox: Sandbox, db: psycopg.Connection):
    sandbox.add_instance("takahe", name="takahe")
    assert "is connected." in connect(ada, sandbox, "takahe").text
    assert rows(db, "SELECT state FROM accounts") == [("active",)]


def test_nobody_sees_the_form_of_somebody_else_s_account(
    ada: Browser, bob: Browser, sandbox: Sandbox, db: psycopg.Connection
):
    paste(ada, sandbox, "mastodon", sandbox.add_account("mastodon", "wren").access_token)
    [(account_id,)] = rows(db, "SELECT id FROM accounts")
    assert bob.get(f"/accounts?again={account_id}").status_code == 404


def test_a_name_without_a_scheme_is_tried_by_https_before_http(ada: Browser, sandbox: Sandbox):
    """The sandbox speaks http: https is refused at the first byte, so http it is, as before."""
    bare = sandbox.url("mastodon").removeprefix("http://")
    assert ada.send("/accounts/connect", instance=bare).headers["Location"].startswith(sandbox.url("mastodon"))
