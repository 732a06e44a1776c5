"""A person says that an undecided post is there, and where: the network is asked before it is written down."""

import re
from typing import Any

import httpx
import psycopg
import pytest
from flask import Flask

from postflow.publishing import verify_link
from sandbox import Sandbox
from tests.web.conftest import Browser
from tests.web.test_accounts import connect
from tests.web.test_posts import a_post, put


@pytest.fixture
def app(start) -> Flask:
    return start(allowed_private="127.0.0.1")


class Undecided:
    """A post on wren's account that nobody knows about, and what else stands on her server."""

    def __init__(self, ada: Browser, sandbox: Sandbox, db: psycopg.Connection, network: str) -> None:
        if network not in ("mastodon", "gotosocial"):
            sandbox.add_instance(network, name=network)
        connect(ada, sandbox, network)
        [account] = db.execute("SELECT id FROM accounts").fetchone() or [0]
        self.browser, self.sandbox, self.db, self.network = ada, sandbox, db, network
        self.page = a_post(ada, account)
        put(db, "attention", error="Nobody can tell.")
        found = re.search(r'action="(/deliveries/\d+/settle)"', ada.get(self.page).text)
        assert found
        self.form = found[1]

    def status(self, handle: str) -> dict[str, Any]:
        """Made by hand on the server."""
        given = self.sandbox.add_account(self.network, handle)
        headers = {"Authorization": f"Bearer {given.access_token}"}
        url = f"{self.sandbox.url(self.network)}/api/v1/statuses"
        return httpx.post(url, json={"status": "seen there"}, headers=headers, trust_env=False).json()

    def say(self, link: str, published: str = "yes") -> str:
        answer = self.browser.send(self.form, published=published, link=link)
        return answer.text if answer.status_code == 422 else ""

    def row(self) -> Any:
        return self.db.execute("SELECT status, remote_id, permalink FROM deliveries").fetchone()


@pytest.mark.parametrize("network", ["mastodon", "gotosocial", "takahe", "hollo", "snac"])
def test_the_server_s_own_address_is_taken_with_the_id_that_the_next_part_needs(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection, network: str
) -> None:
    post = Undecided(ada, sandbox, db, network)
    seen = post.status("wren")
    assert post.say(seen["url"]) == ""
    assert post.row() == ("published", seen["id"], seen["url"])
    assert f'href="{seen["url"]}"' in ada.get(post.page).text


def test_what_is_no_post_of_this_account_is_refused_with_what_was_typed(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    post = Undecided(ada, sandbox, db, "mastodon")
    mine, theirs, base = post.status("wren")["url"], post.status("robin")["url"], sandbox.url("mastodon")
    for typed, said in (
        (theirs, "This is somebody else&#39;s post, not one of @wren@"),
        (f"{base}/@wren/media", "shows no post of @wren@"),
        (f"{mine}/embed", "shows no post of @wren@"),
        (f"{base}/@wren/109999", "Open the post itself there"),
        ("https://elsewhere.example/@wren/1", "This is not the address of a post on"),
        ("javascript:alert(1)", "Give the whole address"),
        ("https://[", "This is not an address"),
        ("https://", "Give the whole address"),
    ):
        page = post.say(typed)
        assert said in page and f'value="{typed}"' in page, typed
        assert post.row() == ("attention", None, None)


def test_a_server_that_cannot_be_asked_leaves_the_choice_to_the_person(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    post = Undecided(ada, sandbox, db, "mastodon")
    link = post.status("wren")["url"]
    monkeypatch.setattr(verify_link, "PATIENCE_S", 0.5)
    slow = sandbox.faults.add("slow", instance="mastodon", path="/api/v1/statuses/", seconds=30)
    assert "does not answer right now" in post.say(link)
    sandbox.faults.clear(slow)
    sandbox.faults.add("status", instance="mastodon", path="/api/v1/statuses/", status=503)
    assert "cannot be asked right now" in post.say(link)
    sandbox.go_down("mastodon")
    page = post.say(link)
    assert "or leave the address out" in page and f'value="{link}"' in page
    assert post.row() == ("attention", None, None)
    assert post.say("") == ""
    assert post.row() == ("published", None, None)


def test_an_address_that_is_typed_beside_no_is_not_asked_about(
    ada: Browser, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    post = Undecided(ada, sandbox, db, "mastodon")
    assert post.say("nonsense", published="no") == ""
    assert post.row()[0] == "scheduled"


def test_somebody_else_s_post_is_not_asked_about(
    ada: Browser, bob: Browser, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    post = Undecided(ada, sandbox, db, "mastodon")
    before = len(sandbox.ledger.requests(instance="mastodon"))
    assert bob.send(post.form, published="yes", link=f"{sandbox.url('mastodon')}/@wren/1").status_code == 404
    assert len(sandbox.ledger.requests(instance="mastodon")) == before
