"""The same post changed from two windows at once: one change counts, the other is told; nothing is there twice."""

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.errors import Conflict, Invalid, NotFound, PostFlowError
from postflow.models import Content, NewPost
from postflow.posts import posts, scheduling
from sandbox import Sandbox
from tests.engine.conftest import an_account, scheduled

Deed = Callable[[psycopg.Connection], object]


@pytest.fixture
def other(database_url: str) -> Iterator[psycopg.Connection]:
    """The second window's connection."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        yield conn


@pytest.fixture
async def account(db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int) -> int:
    return await an_account(db, engine, sandbox, ada, "mastodon", "windows")


TOMORROW = datetime.now(UTC) + timedelta(days=1)


def a_thread(account: int, text: str) -> NewPost:
    return NewPost(
        content=Content(text=text, language="en"),
        thread=(Content(text=f"{text}, second part"), Content(text=f"{text}, third part")),
        account_ids=(account,),
        post_date=TOMORROW,
        time_zone="UTC",
    )


def at_once(first: psycopg.Connection, does: Deed, second: psycopg.Connection, then: Deed) -> PostFlowError | None:
    """`then` begins while the transaction of `does` is open and waits for it. What `then` was refused with."""
    refused: list[PostFlowError] = []

    def in_the_other_window() -> None:
        try:
            with second.transaction():
                then(second)
        except PostFlowError as refusal:
            refused.append(refusal)

    window = threading.Thread(target=in_the_other_window)
    with first.transaction():
        does(first)
        window.start()
        while not first.execute(
            "SELECT 1 FROM pg_locks WHERE pid = %s AND NOT granted", [second.info.backend_pid]
        ).fetchone():
            assert window.is_alive(), "the second window did not wait for the first"
            time.sleep(0.01)
    window.join()
    return refused[0] if refused else None


def parts_and_rows(conn: psycopg.Connection) -> tuple[list[str], int]:
    texts = conn.execute("SELECT content->>'text' FROM posts ORDER BY id").fetchall()
    rows = conn.execute("SELECT count(*) FROM deliveries").fetchone()
    assert rows
    return [text for (text,) in texts], rows[0]


def edits(ada: int, post_id: int, account: int, text: str, settings: config.Settings) -> Deed:
    return lambda conn: scheduling.edit(conn, ada, post_id, a_thread(account, text), revision=1, now=datetime.now(UTC))


def test_of_two_edits_one_counts(
    db: psycopg.Connection, other: psycopg.Connection, settings: config.Settings, ada: int, account: int
) -> None:
    made = scheduled(db, settings, ada, (account,), "one", thread=("two", "three"), at=TOMORROW)
    post_id = made[0].post_id
    left = edits(ada, post_id, account, "left", settings)
    right = edits(ada, post_id, account, "right", settings)
    assert isinstance(at_once(db, left, other, right), Conflict)
    assert parts_and_rows(db) == (["left", "left, second part", "left, third part"], 3)


def test_a_later_part_is_held_with_its_thread(
    db: psycopg.Connection, other: psycopg.Connection, settings: config.Settings, ada: int, account: int
) -> None:
    made = scheduled(db, settings, ada, (account,), "one", thread=("two", "three"), at=TOMORROW)
    left = edits(ada, made[0].post_id, account, "left", settings)
    refused = at_once(db, left, other, lambda conn: scheduling.cancel(conn, ada, made[2].post_id))
    assert isinstance(refused, NotFound)
    assert parts_and_rows(db)[1] == 3


def test_an_edit_of_what_is_being_deleted_finds_nothing(
    db: psycopg.Connection, other: psycopg.Connection, settings: config.Settings, ada: int, account: int
) -> None:
    made = scheduled(db, settings, ada, (account,), "one", thread=("two",), at=TOMORROW)
    post_id = made[0].post_id
    refused = at_once(
        db,
        lambda conn: scheduling.delete(conn, ada, post_id),
        other,
        edits(ada, post_id, account, "right", settings),
    )
    assert isinstance(refused, NotFound)
    assert parts_and_rows(db) == ([], 0)


def test_a_thread_is_cancelled_as_it_was_changed(
    db: psycopg.Connection, other: psycopg.Connection, settings: config.Settings, ada: int, account: int
) -> None:
    made = scheduled(db, settings, ada, (account,), "one", thread=("two",), at=TOMORROW)
    post_id = made[0].post_id
    left = edits(ada, post_id, account, "left", settings)
    assert at_once(db, left, other, lambda conn: scheduling.cancel(conn, ada, post_id)) is None
    waiting = db.execute("SELECT count(*) FROM deliveries WHERE status <> 'cancelled'").fetchone()
    assert waiting == (0,), "every part that the edit has made is cancelled, and no part that it has deleted"


def test_a_draft_saved_in_two_windows_has_its_parts_once(
    db: psycopg.Connection, other: psycopg.Connection, ada: int, account: int
) -> None:
    with db.transaction():
        draft = scheduling.save_draft(db, ada, a_thread(account, "one"))

    def saves(text: str) -> Deed:
        return lambda conn: scheduling.save_draft(conn, ada, a_thread(account, text), draft_id=draft.id)

    assert at_once(db, saves("left"), other, saves("right")) is None
    assert parts_and_rows(db)[0] == ["right", "right, second part", "right, third part"]
    assert len(posts.thread(db, ada, draft.id)) == 3


def test_what_becomes_a_post_of_its_own_in_one_window_is_not_tried_again_from_the_other(
    db: psycopg.Connection, other: psycopg.Connection, settings: config.Settings, ada: int, account: int
) -> None:
    [delivery] = scheduled(db, settings, ada, (account,), "of its own, or again")
    db.execute("UPDATE deliveries SET status = 'failed', wake_at = NULL, error = 'No.', error_code = 'refused'")
    own = NewPost(content=Content(text="of its own"), account_ids=(account,), post_date=TOMORROW, time_zone="UTC")
    refused = at_once(
        db,
        lambda conn: scheduling.set_aside(conn, ada, delivery.id, own),
        other,
        lambda conn: scheduling.retry(conn, ada, delivery.id, now=datetime.now(UTC)),
    )
    assert isinstance(refused, Conflict)
    assert "become a post of its own" in str(refused)
    assert db.execute("SELECT status FROM deliveries").fetchone() == ("cancelled",)


@pytest.mark.parametrize("thread", [(), ("and more",)])
def test_what_has_become_a_post_of_its_own_is_not_sent_again_by_changing_what_it_was_part_of(
    db: psycopg.Connection, settings: config.Settings, ada: int, account: int, thread: tuple[str, ...]
) -> None:
    made = scheduled(db, settings, ada, (account,), "all of it", thread=thread, at=TOMORROW)
    db.execute("UPDATE deliveries SET status = 'failed', wake_at = NULL, error = 'No.', error_code = 'refused'")
    own = NewPost(content=Content(text="of its own"), account_ids=(account,), post_date=TOMORROW, time_zone="UTC")
    with db.transaction():
        scheduling.set_aside(db, ada, made[-1].id, own)
    with pytest.raises(Invalid) as refused, db.transaction():
        scheduling.edit(db, ada, made[0].post_id, own, revision=1, now=datetime.now(UTC))
    assert "would be out twice" in str(refused.value.fields["accounts"])
    assert db.execute("SELECT count(*) FROM deliveries WHERE status = 'scheduled'").fetchone() == (0,)
