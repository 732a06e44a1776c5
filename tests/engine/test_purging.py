"""What the purge removes, and what it must never remove."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import cast

import psycopg
import pytest
from psycopg_pool import AsyncConnectionPool

from postflow import config
from postflow.engine import Engine
from postflow.errors import Invalid
from postflow.operations import retention
from postflow.operations.retention import KINDS
from postflow.publishing import outgoing, sending
from sandbox import Sandbox
from tests.engine.conftest import a_picture, an_account, scheduled

AGES_AGO = "now() - interval '1000 days'"


async def purged(engine: Engine, kind: str) -> int:
    async with engine.pool.connection() as conn:
        return (await retention.purge(conn, engine.settings))[kind]


def count(db: psycopg.Connection, query: str) -> int:
    row = db.execute(query.encode()).fetchone()
    assert row
    return row[0]


def count_waiting(conn: psycopg.Connection) -> int:
    return count(conn, "SELECT count(*) FROM pg_locks WHERE NOT granted")


@pytest.fixture
async def published(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> int:
    """A delivery with a picture that went out ages ago; nothing about it was purged yet."""
    account = await an_account(db, engine, sandbox, ada, "pixelfed", "archivist")
    [delivery] = scheduled(db, settings, ada, (account,), "long ago", media=(a_picture(db, ada),))
    assert await sending.publish(engine, delivery.id)
    db.execute("INSERT INTO media_files SELECT media_id, 'fitted', mime, width, height, data FROM media_files LIMIT 1")
    for query in (
        f"UPDATE deliveries SET status_at = {AGES_AGO}",
        f"UPDATE delivery_events SET at = {AGES_AGO}",
        f"UPDATE media SET created_at = {AGES_AGO}",
    ):
        db.execute(query.encode())
    return delivery.id


async def test_of_a_post_long_over_the_post_its_picture_and_its_outcome_stay(
    published: int, engine: Engine, db: psycopg.Connection
) -> None:
    async with engine.pool.connection() as conn:
        removed = await retention.purge(conn, engine.settings)
    assert removed["stories"] >= 3
    assert removed["renditions"] >= 1
    assert removed["staged"] == 1
    assert removed["uploads"] == 0
    row = db.execute("SELECT status, remote_id IS NOT NULL, permalink IS NOT NULL, staged FROM deliveries").fetchone()
    assert row == ("published", True, True, None)
    assert count(db, "SELECT count(*) FROM posts") == 1
    assert count(db, "SELECT count(*) FROM media_files WHERE recipe = ''") == 1


@pytest.mark.parametrize("state", ["scheduled", "attention"])
async def test_what_is_not_over_keeps_its_story_what_is_staged_and_its_renditions(
    state: str, published: int, engine: Engine, db: psycopg.Connection
) -> None:
    wake = "now()" if state == "scheduled" else "NULL"
    db.execute(
        f"UPDATE deliveries SET status = '{state}', published_at = NULL, wake_at = {wake}, error = 'why'".encode()
    )
    assert await purged(engine, "stories") == 0
    assert count(db, "SELECT count(*) FROM deliveries WHERE staged IS NOT NULL") == 1
    if state == "scheduled":
        assert count(db, "SELECT count(*) FROM media_files WHERE recipe = 'fitted'") == 1


async def test_an_upload_is_removed_when_neither_a_post_nor_a_draft_shows_it_and_not_at_once(
    engine: Engine, db: psycopg.Connection, ada: int
) -> None:
    fresh, orphan, drafted = a_picture(db, ada), a_picture(db, ada), a_picture(db, ada)
    db.execute(f"UPDATE media SET created_at = {AGES_AGO} WHERE id <> {fresh}".encode())
    db.execute(
        "INSERT INTO posts (user_id, content, time_zone, draft_account_ids) VALUES (%s, '{}', 'UTC', '{}')", [ada]
    )
    db.execute("INSERT INTO post_media SELECT id, %s FROM posts", [drafted])
    assert await purged(engine, "uploads") == 1
    left = {row[0] for row in db.execute("SELECT id FROM media").fetchall()}
    assert left == {fresh, drafted}
    assert count(db, f"SELECT count(*) FROM media_files WHERE media_id = {orphan}") == 0


async def test_finished_jobs_of_every_outcome_go_in_bites_and_waiting_ones_stay(
    engine: Engine, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "KINDS", tuple(kind._replace(bite=3) for kind in KINDS))
    for status in ("succeeded", "failed", "cancelled", "aborted", "todo", "doing"):
        db.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
            " SELECT 'posts', 'publish', %s FROM generate_series(1, 2)",
            [status],
        )
    db.execute(f"UPDATE procrastinate_events SET at = {AGES_AGO}".encode())
    db.execute(
        "WITH fresh AS (INSERT INTO procrastinate_jobs (queue_name, task_name, status)"
        " VALUES ('posts', 'publish', 'failed') RETURNING id)"
        " INSERT INTO procrastinate_events (job_id, type) SELECT id, 'failed' FROM fresh"
    )
    assert await purged(engine, "jobs") == 8
    left = db.execute("SELECT status::text, count(*) FROM procrastinate_jobs GROUP BY 1 ORDER BY 1").fetchall()
    assert left == [("doing", 2), ("failed", 1), ("todo", 2)]


@pytest.mark.parametrize(
    ("kind", "old", "fresh"),
    [
        (
            "sessions",
            "INSERT INTO sessions (token_hash, user_id, expires_at) SELECT 'a', id, now() - interval '1 s' FROM users",
            "INSERT INTO sessions (token_hash, user_id, expires_at) SELECT 'b', id, now() + interval '1 h' FROM users",
        ),
        (
            "connect attempts",
            "INSERT INTO connect_attempts (state_hash, user_id, platform, base_url, option, sealed, created_at)"
            " SELECT 'a', id, 'mastodon', '', '', 'x', now() - interval '2 days' FROM users",
            "INSERT INTO connect_attempts (state_hash, user_id, platform, base_url, option, sealed)"
            " SELECT 'b', id, 'mastodon', '', '', 'x' FROM users",
        ),
        (
            "sign-in counters",
            "INSERT INTO rate_counters VALUES ('a', 3, now() - interval '1 s')",
            "INSERT INTO rate_counters VALUES ('b', 3, now() + interval '1 h')",
        ),
        (
            "notices",
            f"INSERT INTO notices (user_id, key, subject, body, created_at) SELECT id, 'a', '', '', {AGES_AGO} FROM users",
            "INSERT INTO notices (user_id, key, subject, body) SELECT id, 'b', '', '' FROM users",
        ),
    ],
    ids=lambda value: value if " INTO" not in value else "",
)
async def test_of_each_other_kind_the_old_goes_and_the_fresh_stays(
    kind: str, old: str, fresh: str, engine: Engine, db: psycopg.Connection, ada: int
) -> None:
    db.execute(fresh.encode())
    assert await purged(engine, kind) == 0
    db.execute(old.encode())
    assert await purged(engine, kind) == 1


async def test_an_upload_that_somebody_begins_to_use_at_that_moment_stays_and_the_purge_goes_on(
    engine: Engine, db: psycopg.Connection, database_url: str, ada: int
) -> None:
    used, orphan = a_picture(db, ada), a_picture(db, ada)
    db.execute(f"UPDATE media SET created_at = {AGES_AGO}".encode())
    db.execute("INSERT INTO sessions (token_hash, user_id, expires_at) VALUES ('a', %s, now() - interval '1 s')", [ada])
    with psycopg.connect(database_url) as window:
        window.execute(
            "WITH draft AS (INSERT INTO posts (user_id, content, time_zone, draft_account_ids)"
            " VALUES (%s, '{}', 'UTC', '{}') RETURNING id) INSERT INTO post_media SELECT id, %s FROM draft",
            [ada, used],
        )
        purging_now = asyncio.create_task(purged(engine, "sessions"))
        while not count_waiting(db):
            assert not purging_now.done()
            await asyncio.sleep(0.01)
        window.commit()
    assert await purging_now == 1
    assert {row[0] for row in db.execute("SELECT id FROM media").fetchall()} == {used}
    assert orphan != used


async def test_whoever_uses_an_upload_that_is_purged_at_that_moment_is_told_so(
    engine: Engine, db: psycopg.Connection, database_url: str, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "too-late-a-use")
    picture = a_picture(db, ada)
    with psycopg.connect(database_url) as purge:
        purge.execute("DELETE FROM media WHERE id = %s", [picture])
        using = asyncio.create_task(
            asyncio.to_thread(scheduled, db, settings, ada, (account,), "used too late", media=(picture,))
        )
        while not count_waiting(purge):
            assert not using.done()
            await asyncio.sleep(0.01)
        purge.commit()
    with pytest.raises(Invalid, match="is gone"):
        await using


async def test_a_rendition_that_is_purged_while_it_is_gathered_is_made_anew_from_the_original(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "purged-meanwhile")
    [delivery] = scheduled(db, settings, ada, (account,), "purged meanwhile", media=(a_picture(db, ada),))

    class Purging:
        """A purge before each use of a connection."""

        @contextlib.asynccontextmanager
        async def connection(self) -> AsyncIterator[psycopg.AsyncConnection]:
            async with engine.pool.connection() as conn:
                await conn.execute("DELETE FROM media_files WHERE recipe <> ''")
                yield conn

    parcel = await outgoing.gather(cast("AsyncConnectionPool", Purging()), delivery, settings, with_data=True)
    assert parcel.media[0].data
