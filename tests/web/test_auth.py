"""The first run, signing in and out, the profile."""

import re
import threading
from typing import Any

import argon2
import psycopg
import pytest
from flask import Flask

from tests.web.conftest import PASSWORD, SHIPPED_HASHER, Browser

OWNER = {"email": "Ada@Example.org ", "password": PASSWORD, "display_name": "Ada", "time_zone": "Europe/Berlin"}


def test_the_first_visitor_on_this_machine_becomes_the_owner_and_is_signed_in(browser: Browser, db: psycopg.Connection):
    assert "Welcome" in browser.get("/sign-in", follow_redirects=True).text
    answer = browser.send("/first-run", **OWNER)
    assert answer.status_code == 302
    rows = db.execute("SELECT email, display_name, time_zone, is_owner FROM users").fetchall()
    assert rows == [("ada@example.org", "Ada", "Europe/Berlin", True)]
    assert browser.get("/profile").status_code == 200


def test_a_visitor_from_elsewhere_needs_the_code_from_the_log(
    capsys: pytest.CaptureFixture[str], app: Flask, db: psycopg.Connection
):
    far = app.test_client()
    far.environ_base["REMOTE_ADDR"] = "203.0.113.9"
    assert 'name="code"' in far.get("/first-run").text
    code = re.search(r"first-run page is: (\w+)", capsys.readouterr().err)
    assert code
    refused = far.send("/first-run", **OWNER, code="guessed")
    assert refused.status_code == 422
    assert "This is not the code" in refused.text
    assert "Ada@Example.org" in refused.text
    assert db.execute("SELECT count(*) FROM users").fetchone() == (0,)
    assert far.send("/first-run", **OWNER, code=code[1]).status_code == 302


def test_a_visitor_through_a_proxy_on_this_machine_counts_as_from_elsewhere(browser: Browser):
    assert 'name="code"' in browser.get("/first-run", headers={"X-Forwarded-For": "127.0.0.1"}).text


@pytest.mark.parametrize(
    "sent",
    [
        {"headers": {"CF-Connecting-IP": "203.0.113.9"}},
        {"headers": {"Origin": "https://flow.example"}},
        {"environ_overrides": {"REMOTE_ADDR": "::ffff:203.0.113.9"}},
    ],
    ids=["a proxy of another kind", "a page elsewhere that sends it", "another peer"],
)
def test_the_first_run_asks_for_the_code_unless_all_is_on_this_machine(
    browser: Browser, db: psycopg.Connection, sent: dict[str, Any]
):
    browser.get("/first-run")
    answer = browser.post("/first-run", data=dict(OWNER), **sent)
    assert answer.status_code == 422
    assert 'name="code"' in answer.text
    assert db.execute("SELECT count(*) FROM users").fetchone() == (0,)


@pytest.mark.parametrize("chosen", [{"public_url": "https://flow.example"}, {"proxies": 1}])
def test_a_proxy_on_this_machine_that_marks_nothing_makes_no_stranger_the_owner(
    start, db: psycopg.Connection, chosen: dict[str, Any]
):
    """It passes on the name that was asked for, and its address is the only one to be seen."""
    app = start(**chosen)
    far, base = app.test_client(), app.extensions["settings"].public_url
    assert 'name="code"' in far.get("/first-run", base_url=base).text
    refused = far.post("/first-run", data=dict(OWNER), base_url=base, headers={"Referer": f"{base}/first-run"})
    assert refused.status_code == 422 and "This is not the code" in refused.text


def test_a_name_of_somebody_else_that_leads_here_opens_no_page(app: Flask, start, db: psycopg.Connection):
    """A page there could send whatever it likes to it, and read the answer."""
    client = app.test_client()
    for path in ("/first-run", "/sign-in", "/nowhere", "/m/forged"):
        for name in ("http://evil.example", "http://localhost.evil.example", "http://[::2]", "http://10.0.0.1:8000"):
            answer = client.get(path, base_url=name)
            assert answer.status_code == 421, (path, name)
            assert "Open it there: http://localhost." in answer.text
            assert client.post(path, data=dict(OWNER), base_url=name).status_code == 421
    for name in ("http://127.0.0.1:8000", "http://[::1]", "http://LOCALHOST.:81", "http://flow.localhost"):
        assert client.get("/first-run", base_url=name).status_code == 200
    for probe in ("/healthz", "/readyz"):
        assert client.get(probe, base_url="http://10.0.0.1:8000").status_code != 421
    far = start(public_url="https://flow.example:8443").test_client()
    for name in ("https://flow.example", "http://FLOW.example:8443"):
        assert far.get("/first-run", base_url=name).status_code == 200
    for name in ("http://localhost", "https://xflow.example", "https://flow.example.org"):
        assert far.get("/first-run", base_url=name).status_code == 421


def test_there_is_one_owner_however_many_first_runs_are_sent_at_once(app: Flask, db: psycopg.Connection):
    browsers = [app.test_client() for _ in range(4)]
    for one in browsers:
        one.get("/first-run")
    sent = [
        threading.Thread(target=one.send, args=("/first-run",), kwargs={**OWNER, "email": f"p{n}@example.org"})
        for n, one in enumerate(browsers)
    ]
    for thread in sent:
        thread.start()
    for thread in sent:
        thread.join()
    assert db.execute("SELECT count(*) FROM users WHERE is_owner").fetchone() == (1,)
    assert db.execute("SELECT count(*) FROM users").fetchone() == (1,)


def test_a_short_password_gets_a_sentence_and_nothing_is_stored(browser: Browser, db: psycopg.Connection):
    answer = browser.send("/first-run", **{**OWNER, "password": "short"})
    assert answer.status_code == 422
    assert "at least 10 characters" in answer.text
    assert "short" not in re.findall(r'value="([^"]*)"', answer.text)
    assert db.execute("SELECT count(*) FROM users").fetchone() == (0,)


def test_signing_in_leads_back_to_where_one_wanted_to_go(ada: Browser):
    ada.send("/sign-out")
    away = ada.get("/accounts")
    assert away.headers["Location"] == "/sign-in?next=/accounts"
    assert 'name="next" value="/accounts"' in ada.get(away.headers["Location"]).text
    answer = ada.send("/sign-in", email="ada@example.org", password=PASSWORD, next="/accounts")
    assert answer.headers["Location"] == "/accounts"


@pytest.mark.parametrize(
    "target", ["//[", "http://[", "https://evil.example", "//evil.example", "/\\evil.example", "javascript:1"]
)
def test_signing_in_never_leads_to_another_site(app: Flask, ada: Browser, target: str):
    other = app.test_client()
    answer = other.send("/sign-in", email="ada@example.org", password=PASSWORD, next=target)
    assert answer.headers["Location"] == "/"


@pytest.mark.parametrize("who", ["ada@example.org", "nobody@example.org"])
def test_a_wrong_password_and_an_unknown_person_are_told_alike(app: Flask, ada: Browser, who: str):
    answer = app.test_client().send("/sign-in", email=who, password="wrong wrong wrong")
    assert answer.status_code == 422
    assert "The address or the password is wrong." in answer.text


def test_too_many_attempts_are_refused_in_every_process(start, db: psycopg.Connection):
    first, second = start(sign_in_attempts="3 per 15 minutes"), start(sign_in_attempts="3 per 15 minutes")
    first.test_client().send("/first-run", **OWNER)  # an attempt of another kind has a count of its own
    codes = [
        app.test_client().send("/sign-in", email="ada@example.org", password="wrong wrong wrong").status_code
        for app in (first, second, first, second)
    ]
    assert codes == [422, 422, 422, 429]


def test_only_wrong_guesses_are_counted(start, db: psycopg.Connection):
    app = start(sign_in_attempts="3 per 15 minutes")
    app.test_client().send("/first-run", **OWNER)
    wrong, right = "wrong wrong wrong", OWNER["password"]
    tries = [right] * 4 + [wrong, right, wrong, right, wrong, right]
    codes = [app.test_client().send("/sign-in", email=OWNER["email"], password=one).status_code for one in tries]
    assert codes == [302] * 4 + [422, 302, 422, 302, 422, 429]


def guesses(app: Flask, who: str, times: int, **sent: Any) -> list[int]:
    browser: Any = app.test_client()
    browser.get("/sign-in")
    form = {"email": who, "password": "wrong wrong wrong"}
    return [browser.post("/sign-in", data=dict(form), **sent).status_code for _ in range(times)]


def test_all_the_addresses_of_one_ipv6_network_are_one_stranger(start, db: psycopg.Connection):
    app = start(sign_in_attempts="3 per 15 minutes")
    app.test_client().send("/first-run", **OWNER)
    codes = [
        code
        for end in range(1, 5)
        for code in guesses(app, OWNER["email"], 1, environ_overrides={"REMOTE_ADDR": f"2001:db8:1:2:{end:x}::{end}"})
    ]
    assert codes == [422, 422, 422, 429]
    for other in ("2001:db8:1:3::1", "::ffff:203.0.113.9", "::ffff:203.0.113.10", "fe80::1%eth0", "nonsense"):
        assert guesses(app, OWNER["email"], 1, environ_overrides={"REMOTE_ADDR": other}) == [422], other


def test_guesses_at_one_account_end_wherever_they_come_from(start, db: psycopg.Connection, monkeypatch):
    """Whoever has a thousand addresses has a hundred guesses an hour all the same; nobody else is kept out by that."""
    app = start(sign_in_attempts="60 per 15 minutes")
    app.test_client().send("/first-run", **OWNER)
    codes = [
        code
        for end in (1, 2)
        for code in guesses(app, " ADA@example.org", 55, environ_overrides={"REMOTE_ADDR": f"203.0.113.{end}"})
    ]
    assert codes == [422] * 100 + [429] * 10
    third = {"environ_overrides": {"REMOTE_ADDR": "203.0.113.3"}}
    assert guesses(app, "bob@example.org", 1, **third) == [422]
    assert guesses(app, OWNER["email"], 1, **third) == [429]


def test_what_one_address_is_refused_is_not_counted_against_the_account(start, db: psycopg.Connection):
    """Else one stranger could keep its person out."""
    app = start(sign_in_attempts="3 per 15 minutes")
    app.test_client().send("/first-run", **OWNER)
    assert guesses(app, OWNER["email"], 120)[-1] == 429
    elsewhere: Any = app.test_client()
    elsewhere.environ_base["REMOTE_ADDR"] = "203.0.113.3"
    assert elsewhere.send("/sign-in", email=OWNER["email"], password=PASSWORD).status_code == 302


def test_the_present_password_is_guessed_a_few_times_and_a_new_one_refused_as_often_as_it_takes(
    start, signed_in, db: psycopg.Connection
):
    ada = signed_in(start(sign_in_attempts="3 per 15 minutes"), "ada")
    short = [ada.send("/profile/password", old_password=PASSWORD, new_password="short").status_code for _ in range(5)]
    assert short == [422] * 5
    wrong = [ada.send("/profile/password", old_password="guess", new_password="x" * 12).status_code for _ in range(4)]
    assert wrong == [422, 422, 422, 429]


def test_the_code_of_the_first_run_is_guessed_a_few_times_and_a_slip_elsewhere_is_no_guess(start):
    far = start(sign_in_attempts="3 per 15 minutes").test_client()
    far.environ_base["REMOTE_ADDR"] = "203.0.113.9"
    assert [far.send("/first-run", **OWNER, code="guess").status_code for _ in range(4)] == [422, 422, 422, 429]
    near = far.application.test_client()
    slips = [near.send("/first-run", **{**OWNER, "password": "short"}).status_code for _ in range(5)]
    assert slips == [422] * 5


def test_a_form_without_the_csrf_token_is_refused(ada: Browser):
    answer = ada.post("/profile", data={"csrf_token": "forged", "display_name": "Eve", "time_zone": "UTC"})
    assert answer.status_code == 400
    assert "reload the page" in answer.text


def test_signing_out_ends_the_session_for_a_stolen_cookie_too(app: Flask, ada: Browser):
    cookie = ada.get_cookie("postflow")
    assert cookie
    ada.send("/sign-out")
    thief = app.test_client()
    thief.set_cookie("postflow", cookie.value)
    assert thief.get("/profile").status_code == 302


def test_changing_the_password_signs_out_everywhere_else(app: Flask, ada: Browser):
    elsewhere = app.test_client()
    elsewhere.send("/sign-in", email="ada@example.org", password=PASSWORD)
    assert "one other browser" in ada.get("/profile").text
    refused = ada.send("/profile/password", old_password="not it at all", new_password="another good one")
    assert refused.status_code == 422
    assert "not your present password" in refused.text
    assert ada.send("/profile/password", old_password=PASSWORD, new_password="another good one").status_code == 302
    assert elsewhere.get("/profile").status_code == 302
    assert ada.get("/profile").status_code == 200


def test_a_guess_costs_what_rfc_9106_asks_of_machines_with_little_memory():
    cost = (SHIPPED_HASHER.type, SHIPPED_HASHER.memory_cost, SHIPPED_HASHER.time_cost)
    assert cost == (argon2.Type.ID, 64 * 1024, 3)


def test_a_password_is_stored_only_as_an_argon2_hash(ada: Browser, db: psycopg.Connection):
    row = db.execute("SELECT password_hash FROM users").fetchone()
    assert row
    assert row[0].startswith("$argon2id$")


def test_the_profile_refuses_a_zone_that_does_not_exist(ada: Browser, db: psycopg.Connection):
    assert ada.send("/profile", display_name="Ada", time_zone="Mars/Olympus").status_code == 422
    assert ada.send("/profile", display_name="Ada L.", time_zone="Asia/Tokyo").status_code == 302
    assert db.execute("SELECT display_name, time_zone FROM users").fetchall() == [("Ada L.", "Asia/Tokyo")]


def test_a_proxy_that_nobody_configured_is_named_once(app: Flask, caplog: pytest.LogCaptureFixture):
    for _ in range(3):
        app.test_client().get("/healthz", headers={"X-Forwarded-For": "203.0.113.9"})
    assert sum("POSTFLOW_PROXIES" in line for line in caplog.messages) == 1
