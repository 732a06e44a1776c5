"""Drafts: what is scheduled becomes one again, and what its person did not choose is not shown."""

import re
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from postflow.models import Limits
from tests.web.conftest import Browser, an_account
from tests.web.test_compose import written


@pytest.fixture
def account(ada: Browser, db: psycopg.Connection) -> int:
    return an_account(db, "ada@example.org", "mastodon", Limits())


def rows(db: psycopg.Connection) -> list[Any]:
    return db.execute("SELECT content->>'text', draft_account_ids FROM posts ORDER BY id").fetchall()


def test_a_scheduled_post_is_taken_back_into_a_draft_and_scheduled_again(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    fields = [("account", account), ("part", "1"), ("text.1", "two")]
    address = written(ada, [*fields, ("text", "one")]).headers["Location"]
    edit = ada.get(f"{address}/edit").text
    assert "Take it back into a draft" in edit and "Save draft" not in edit and "Save and schedule" in edit
    back = written(ada, [*fields, ("text", "one, anew"), ("revision", "1"), ("action", "draft")], address)
    assert back.headers["Location"] == address
    assert rows(db) == [("one, anew", [account]), ("two", [account])]
    assert db.execute("SELECT count(*) FROM deliveries").fetchone() == (0,)
    assert "nothing of it goes out until you schedule it" in ada.get(address).text
    assert "one, anew" in ada.get("/?view=drafts").text and "one, anew" not in ada.get("/").text
    again = written(ada, [*fields, ("text", "one, anew"), ("revision", "2")], address)
    assert again.status_code == 302, again.text
    assert db.execute("SELECT array_agg(status) FROM deliveries").fetchone() == (["scheduled"] * 2,)


@pytest.mark.parametrize(
    ("status", "said"),
    [("sending", "being sent right now, so it cannot be taken back"), ("published", "is out already, so it cannot be")],
)
def test_what_may_be_out_is_not_taken_back(
    ada: Browser, account: int, db: psycopg.Connection, status: str, said: str
) -> None:
    address = written(ada, [("account", account), ("text", "one")]).headers["Location"]
    at = datetime.now(UTC)
    db.execute(
        "UPDATE deliveries SET status = %(status)s, wake_at = %(wake)s, claim = %(claim)s, staged = %(staged)s,"
        " sent_at = %(at)s, first_sent_at = %(at)s, attempt_no = 1, published_at = %(published)s",
        {
            "status": status, "at": at, "wake": at if status == "sending" else None, "staged": "{}",
            "claim": "c" if status == "sending" else None, "published": at if status == "published" else None,
        },
    )  # fmt: skip
    answer = written(ada, [("account", account), ("text", "two"), ("revision", "1"), ("action", "draft")], address)
    assert answer.status_code == 409 and said in answer.text and ">two</textarea>" in answer.text
    assert rows(db) == [("one", None)]
    assert db.execute("SELECT status FROM deliveries").fetchone() == (status,)


def test_a_post_that_was_changed_in_another_window_is_not_taken_back(
    ada: Browser, bob: Browser, account: int, db: psycopg.Connection
) -> None:
    fields = [("account", account), ("action", "draft")]
    address = written(ada, [fields[0], ("text", "one")]).headers["Location"]
    for revision in ("", "7"):
        late = written(ada, [*fields, ("text", "two"), ("revision", revision)], address)
        assert late.status_code == 409 and "changed in another window" in late.text
    assert written(bob, [("text", "his"), ("revision", "1"), ("action", "draft")], address).status_code == 404
    assert rows(db) == [("one", None)]


def test_a_thread_of_which_a_part_went_its_own_way_is_not_taken_back_as_a_whole(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    fields = [("account", account), ("part", "1"), ("text.1", "two"), ("text", "one")]
    address = written(ada, fields).headers["Location"]
    db.execute("UPDATE deliveries SET status = 'cancelled', wake_at = NULL, error_code = 'post_of_its_own'"
               " WHERE id = (SELECT max(id) FROM deliveries)")  # fmt: skip
    answer = written(ada, [*fields, ("revision", "1"), ("action", "draft")], address)
    assert answer.status_code == 409 and "has become a post of its own" in answer.text


def proposed(page: str) -> list[tuple[str, str]]:
    """The time that the composer fills in, and its note that nobody has chosen it."""
    found = re.search(r'name="proposed" value="(\S+) (\S+) (\S+)"', page)
    assert found
    return [("proposed", " ".join(found.groups())), ("date", found[1]), ("time", found[2]), ("zone", found[3])]


def test_a_draft_has_a_time_only_if_its_person_chose_one_and_names_its_accounts(
    ada: Browser, bob: Browser, account: int, db: psycopg.Connection
) -> None:
    filled = proposed(ada.get("/posts/new").text)
    fields = [("account", account), ("text", "some day"), ("action", "draft")]
    address = written(ada, [*fields, *filled]).headers["Location"]
    assert db.execute("SELECT post_date FROM posts").fetchone() == (None,)
    for page in (ada.get("/?view=drafts").text, ada.get(address).text):
        assert "No time chosen yet" in page and "@ada@mastodon.example" in page
    again = proposed(ada.get(f"{address}/edit").text)
    assert written(ada, [*fields, *again], address).status_code == 302
    assert db.execute("SELECT post_date FROM posts").fetchone() == (None,)
    chosen = [*again[:1], ("date", "2031-02-03"), ("time", "04:05"), again[3]]
    assert written(ada, [*fields, *chosen], address).status_code == 302
    assert db.execute("SELECT post_date FROM posts").fetchone() == (datetime(2031, 2, 3, 4, 5, tzinfo=UTC),)
    edit = ada.get(f"{address}/edit").text
    assert 'name="proposed" value=""' in edit and 'value="2031-02-03"' in edit
    assert "3 Feb 2031, 04:05" in ada.get("/?view=drafts").text
    assert "@ada@mastodon" not in bob.get("/?view=drafts").text


def test_a_time_that_was_proposed_holds_for_what_is_scheduled(
    ada: Browser, account: int, db: psycopg.Connection
) -> None:
    filled = proposed(ada.get("/posts/new").text)
    assert written(ada, [("account", account), ("text", "in an hour"), *filled]).status_code == 302
    [(at,)] = db.execute("SELECT to_char(post_date AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') FROM posts").fetchall()
    assert at == f"{filled[1][1]} {filled[2][1]}"


def test_a_draft_without_accounts_says_so(ada: Browser, account: int) -> None:
    address = written(ada, [("text", "some day"), ("action", "draft")]).headers["Location"]
    for page in (ada.get("/?view=drafts").text, ada.get(address).text):
        assert "No account chosen yet" in page
