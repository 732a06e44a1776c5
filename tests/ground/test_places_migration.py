"""Revision 0012 on a database in which two people's posts were taken for one status: one keeps it, the other says so."""

import psycopg
import pytest
from psycopg import errors

from postflow.operations import migrate

ROWS = """
    INSERT INTO users (email, password_hash) VALUES ('ada@example.org', 'x'), ('bob@example.org', 'x');
    INSERT INTO accounts (user_id, platform, base_url, remote_id, handle, state)
    SELECT id, 'mastodon', 'https://birds.example', '7', '@shared', 'disconnected' FROM users ORDER BY id;
    INSERT INTO posts (user_id, content, post_date, time_zone)
    SELECT id, '{}', now(), 'UTC' FROM users, generate_series(1, 2) AS n ORDER BY id, n;
    INSERT INTO deliveries (post_id, account_id, status, revision, published_at, remote_id, permalink)
    SELECT p.id, a.id, 'published', 1, now() + p.id * interval '1 second', CASE WHEN p.id < 4 THEN '100' END, 'https://x'
      FROM posts p JOIN accounts a ON a.user_id = p.user_id WHERE p.id IN (1, 3, 4);
"""


def rows(conn: psycopg.Connection) -> list[tuple[object, ...]]:
    return conn.execute(
        "SELECT post_id, place, remote_id, permalink, array_length(notes, 1) FROM deliveries ORDER BY post_id"
    ).fetchall()


def test_a_status_that_was_claimed_twice_keeps_its_first_owner(empty_database_url: str) -> None:
    migrate.upgrade(empty_database_url, "0011")
    with psycopg.connect(empty_database_url, autocommit=True) as conn:
        conn.execute(ROWS)
        migrate.upgrade(empty_database_url)
        place = "mastodon https://birds.example 7"
        assert rows(conn) == [
            (1, place, "100", "https://x", None),
            (3, place, None, None, 1),
            (4, place, None, "https://x", None),
        ]
        with pytest.raises(errors.UniqueViolation) as refused:
            conn.execute("UPDATE deliveries SET remote_id = '100' WHERE post_id = 4")
        assert refused.value.diag.constraint_name == "deliveries_one_owner_per_status"
        conn.execute(
            "INSERT INTO deliveries (post_id, account_id, revision, wake_at)"
            " SELECT 2, id, 1, now() FROM accounts WHERE user_id = (SELECT user_id FROM posts WHERE id = 2)"
        )
        assert rows(conn)[1][:2] == (2, place)
