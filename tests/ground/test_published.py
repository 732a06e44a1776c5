"""The lines `postflow dev` prints when something came to rest."""

import contextlib
import io
import time

import psycopg
import pytest

from postflow.dev import published_lines


@pytest.fixture
def delivery_id(db: psycopg.Connection) -> int:
    """A delivery on its way, due now."""
    row = db.execute(
        """
        WITH person AS (
            INSERT INTO users (email, password_hash, display_name, time_zone)
            VALUES ('ada@birds.example', 'x', 'Ada', 'UTC') RETURNING id
        ), account AS (
            INSERT INTO accounts (user_id, platform, base_url, remote_id, handle, sealed)
            SELECT id, 'mastodon', 'https://birds.example', '1', '@ada@birds.example', 'x' FROM person RETURNING id
        ), post AS (
            INSERT INTO posts (user_id, content, post_date, time_zone)
            SELECT id, '{}', now(), 'UTC' FROM person RETURNING id
        )
        INSERT INTO deliveries (post_id, account_id, revision, wake_at)
        SELECT post.id, account.id, 1, now() FROM post, account RETURNING id
        """
    ).fetchone()
    assert row
    return row[0]


def publish(db: psycopg.Connection, delivery_id: int) -> None:
    db.execute(
        """
        UPDATE deliveries SET status = 'published', status_at = clock_timestamp(), wake_at = NULL, claim = NULL,
               permalink = 'https://birds.example/@ada/1',
               published_at = (SELECT post_date FROM posts WHERE posts.id = post_id) + interval '12 milliseconds'
        WHERE id = %s
        """,
        (delivery_id,),
    )


def test_a_published_delivery_is_one_line_with_lateness_and_link(db: psycopg.Connection, delivery_id: int):
    assert published_lines.recent(db) == []
    publish(db, delivery_id)
    ((_, line),) = published_lines.recent(db)
    assert line.status == "published"
    assert str(line).split() == ["mastodon", "@ada@birds.example", "12", "ms", "late", "https://birds.example/@ada/1"]


def test_a_failed_one_says_why(db: psycopg.Connection, delivery_id: int):
    db.execute(
        """
        UPDATE deliveries SET status = 'failed', status_at = clock_timestamp(), wake_at = NULL,
               error = 'The text is too long.'
        WHERE id = %s
        """,
        (delivery_id,),
    )
    ((_, line),) = published_lines.recent(db)
    assert line.status == "failed"
    assert str(line).endswith("The text is too long.")
    assert "late" not in str(line)


def test_each_is_told_once_and_what_lay_there_before_is_not(
    db: psycopg.Connection, delivery_id: int, database_url: str
):
    publish(db, delivery_id)
    with told(database_url) as said:
        settle()
        db.execute("UPDATE deliveries SET status_at = clock_timestamp() WHERE id = %s", (delivery_id,))
        wait_for(said, "published | mastodon")
        settle()
    assert said.getvalue().count("published | mastodon") == 1


def test_it_goes_on_when_the_database_cut_it_off(db: psycopg.Connection, delivery_id: int, database_url: str):
    with told(database_url) as said:
        settle()
        db.execute(
            """
            SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND datname = current_database()
            """
        )
        publish(db, delivery_id)
        wait_for(said, "published | mastodon")


@contextlib.contextmanager
def told(database_url: str):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), published_lines.announced(database_url):
        yield said


def settle() -> None:
    """Long enough for a few of its looks."""
    time.sleep(1)


def wait_for(said: io.StringIO, wanted: str) -> None:
    deadline = time.monotonic() + 30
    while wanted not in said.getvalue():
        assert time.monotonic() < deadline, said.getvalue()
        time.sleep(0.05)
