"""The same post sent once more by the browser's Back button, a restored tab or a second window: asked about, never doubled."""

import re
import threading
import time
from typing import Any

import psycopg
import pytest
from flask import Flask

from postflow.models import Limits
from tests.patience import PATIENCE_S
from tests.web.conftest import PASSWORD, Browser, an_account
from tests.web.test_compose import written


@pytest.fixture
def account(ada: Browser, db: psycopg.Connection) -> int:
    return an_account(db, "ada@example.org", "mastodon", Limits())


def deliveries(db: psycopg.Connection) -> int:
    [(count,)] = db.execute("SELECT count(*) FROM deliveries WHERE status <> 'cancelled'").fetchall()
    return count


def test_words_that_are_on_their_way_are_not_sent_again_by_another_form_unless_their_person_says_so(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    fields: list[tuple[str, Any]] = [("text", "once"), ("account", account), ("action", "now")]
    first = written(ada, [*fields, ("form_key", "one")]).headers["Location"]
    for action in ("now", "schedule"):
        refused = written(ada, [*fields[:2], ("action", action), ("form_key", "two")])
        assert refused.status_code == 409 and deliveries(db) == 1
        assert f'href="{first}"' in refused.text and ">once</textarea>" in refused.text
    known = re.search(r'name="again" value="(\d+)"', refused.text)
    assert known and written(ada, [*fields, ("form_key", "one")]).headers["Location"] == first, (
        "the same form is one post"
    )
    meant = written(ada, [*fields, ("form_key", "two"), ("again", known[1])])
    assert meant.status_code == 302 and deliveries(db) == 2
    stale = written(ada, [*fields, ("form_key", "three"), ("again", known[1])])
    assert stale.status_code == 409 and deliveries(db) == 2, "a tick that was meant for an earlier one"
    assert "checked" not in stale.text.partition('name="again"')[2].partition(">")[0]


def test_what_is_not_the_same_or_did_not_go_out_asks_nothing(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    other = an_account(db, "ada@example.org", "pixelfed", Limits())
    fields: list[tuple[str, Any]] = [("text", "hello"), ("account", account)]
    first = written(ada, fields).headers["Location"]
    assert written(ada, [("text", "hello!"), fields[1]]).status_code == 302
    assert written(ada, [fields[0], ("account", other)]).status_code == 302
    assert written(ada, [*fields, ("action", "draft")]).status_code == 302
    assert written(ada, [*fields, ("date", "2030-06-07")]).status_code == 302, "two dates are no slip of the hand"
    db.execute("UPDATE posts SET post_date = now() - interval '8 days'")
    assert written(ada, fields).status_code == 302, "a week later it is meant"
    assert written(ada, fields).status_code == 409
    db.execute("UPDATE deliveries SET status = 'cancelled', wake_at = NULL")
    assert written(ada, fields).status_code == 302
    edited = written(ada, [*fields, ("revision", "1")], first)
    assert edited.status_code == 409 and "Look at it" in edited.text, "an edit makes the same words, too"


def test_a_post_that_is_edited_is_not_its_own_twin(ada: Browser, account: int, db: psycopg.Connection) -> None:
    fields: list[tuple[str, Any]] = [("text", "hello"), ("account", account)]
    address = written(ada, fields).headers["Location"]
    assert written(ada, [*fields, ("revision", "1"), ("date", "2030-06-07")], address).status_code == 302


def test_somebody_else_s_words_are_no_twin(ada: Browser, bob: Browser, account: int, db: psycopg.Connection) -> None:
    assert written(ada, [("text", "hello"), ("account", account)]).status_code == 302
    his = an_account(db, "bob@example.org", "mastodon", Limits())
    assert written(bob, [("text", "hello"), ("account", his)]).status_code == 302


def test_two_windows_that_send_the_same_words_at_once_make_one_post(
    app: Flask, ada: Browser, account: int, db: psycopg.Connection
) -> None:
    answers: list[int] = []
    windows = [app.test_client() for _ in range(2)]
    for window in windows:
        window.send("/sign-in", email="ada@example.org", password=PASSWORD)  # type: ignore[attr-defined]

    def send(window: Any, key: str) -> None:
        fields: list[tuple[str, Any]] = [
            ("text", "at once"),
            ("account", account),
            ("form_key", key),
            ("action", "now"),
        ]
        answers.append(written(window, fields).status_code)

    with db.transaction():
        db.execute("SELECT FROM users FOR UPDATE")  # both have come as far as they can before either goes on
        threads = [threading.Thread(target=send, args=(window, str(at))) for at, window in enumerate(windows)]
        for thread in threads:
            thread.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        give_up = time.monotonic() + PATIENCE_S
        while db.execute(waiting).fetchone() != (2,) and time.monotonic() < give_up:
            time.sleep(0.01)
    for thread in threads:
        thread.join()
    assert sorted(answers) == [302, 409] and deliveries(db) == 1
