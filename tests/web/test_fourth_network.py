"""A network added in one file and one registry line: its connect form and its composer fields come from what it declares."""

import re

import psycopg
import pytest
from flask import Flask

from postflow import platforms
from sandbox import Sandbox
from tests.platforms.fourth import server
from tests.platforms.fourth.bluesky import Bluesky
from tests.web.conftest import Browser
from tests.web.test_compose import written


@pytest.fixture
def address(sandbox: Sandbox) -> str:
    server.teach(sandbox)
    return sandbox.add_instance("bluesky", name="bluesky", family="bluesky", counting="clusters").url


@pytest.fixture
def app(start, address: str, monkeypatch: pytest.MonkeyPatch) -> Flask:
    monkeypatch.setitem(platforms.REGISTRY, "bluesky", Bluesky())  # the registry line
    return start(allowed_private="127.0.0.1")


def signed_in_there(browser: Browser, sandbox: Sandbox, address: str, **wrong: str):
    known = sandbox.add_account("bluesky", "ada.example")
    typed = {"instance": address, "handle": "@ada.example", "password": known.access_token, **wrong}
    fields = {f"bluesky.app-password.{name}": value for name, value in typed.items()}
    return browser.send("/accounts/sign-in/bluesky/app-password", **fields)


def test_the_connect_page_shows_its_form(ada: Browser) -> None:
    page = ada.get("/accounts").text
    assert re.search(r"<h3>\s*Bluesky\s*</h3>", page)
    assert 'value="bsky.social"' in page
    assert re.search(r'type="password"[^>]*name="bluesky.app-password.password"', page)


def test_signing_in_there_connects_the_account_and_shows_no_password(
    ada: Browser, sandbox: Sandbox, address: str, db: psycopg.Connection
) -> None:
    assert signed_in_there(ada, sandbox, address).status_code == 302
    page = ada.get("/accounts").text
    assert "@ada.example is connected." in page
    token = sandbox.add_account("bluesky", "ada.example").access_token
    assert token not in page
    [platform, base_url, state] = db.execute("SELECT platform, base_url, state FROM accounts").fetchone() or [""] * 3
    assert (platform, base_url, state) == ("bluesky", address, "active")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"password": "not this one"}, "Bluesky did not let you in"),
        ({"password": ""}, "App password: fill this in."),
        ({"instance": "not an address"}, "This is not an address"),
        ({"instance": "http://127.0.0.1:9"}, "is not a Bluesky server that can be reached"),
    ],
)
def test_what_does_not_fit_is_said_and_nothing_is_stored(
    ada: Browser, sandbox: Sandbox, address: str, db: psycopg.Connection, wrong: dict[str, str], said: str
) -> None:
    answer = signed_in_there(ada, sandbox, address, **wrong)
    assert answer.status_code == 422
    assert said in answer.text
    assert "not this one" not in answer.text
    assert db.execute("SELECT count(*) FROM accounts").fetchone() == (0,)


def test_a_way_that_is_none_is_not_found(ada: Browser) -> None:
    assert ada.send("/accounts/sign-in/mastodon/instance", instance="x").status_code == 404
    assert ada.send("/accounts/sign-in/nowhere/x").status_code == 404


def test_the_composer_offers_its_fields_counts_its_way_and_says_what_it_refuses(
    ada: Browser, sandbox: Sandbox, address: str, db: psycopg.Connection
) -> None:
    signed_in_there(ada, sandbox, address)
    [account] = db.execute("SELECT id FROM accounts").fetchone() or [0]
    page = ada.get("/posts/new").text
    assert 'name="bluesky.tags"' in page
    assert re.search(r'"counting":\s*"graphemes"', page)
    long = written(ada, [("account", account), ("text", "x" * 301), ("action", "schedule")])
    assert (long.status_code, "1 character too long" in long.text) == (422, True)
    many = written(ada, [("account", account), ("text", "x"), ("bluesky.tags", "\n".join("abcdefghi"))])
    assert (many.status_code, "8 further tags" in many.text) == (422, True)
    good = written(
        ada, [("account", account), ("text", "hello"), ("bluesky.tags", "#birds\nsea"), ("action", "schedule")]
    )
    assert good.status_code == 302
    [content] = db.execute("SELECT content FROM posts").fetchone() or [{}]
    assert content["options"] == {"bluesky": {"tags": ["birds", "sea"]}}
