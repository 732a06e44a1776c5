"""Everything is kept for as long as the settings say: what is a minute younger stays, what is a minute older goes."""

from collections.abc import Callable

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.operations import retention
from sandbox import Sandbox
from tests.engine.conftest import a_picture, an_account, scheduled

DAY_S, HOUR_S = 86_400, 3_600
#: What each kind's rows are dated by, with a place for how many seconds ago.
AGED = {
    "jobs": "UPDATE procrastinate_events SET at = now() - make_interval(secs => %s)",
    "stories": "UPDATE delivery_events SET at = now() - make_interval(secs => %s)",
    "notices": "UPDATE notices SET created_at = now() - make_interval(secs => %s)",
    "uploads": "UPDATE media SET created_at = now() - make_interval(secs => %s)",
    "renditions": (
        "WITH over AS (UPDATE deliveries SET status_at = now() - make_interval(secs => %s))"
        " UPDATE media SET created_at = now() - interval '9 years'"
    ),
    "staged": "UPDATE deliveries SET status_at = now() - make_interval(secs => %s)",
    "connect attempts": "UPDATE connect_attempts SET created_at = now() - make_interval(secs => %s)",
}
KEPT_S: dict[str, Callable[[config.Settings], float]] = {
    "jobs": lambda settings: settings.keep_finished_days * DAY_S,
    "stories": lambda settings: settings.keep_events_days * DAY_S,
    "notices": lambda settings: settings.keep_events_days * DAY_S,
    "uploads": lambda settings: settings.keep_orphans_hours * HOUR_S,
    "renditions": lambda settings: settings.keep_renditions_days * DAY_S,
    "staged": lambda settings: settings.keep_renditions_days * DAY_S,
    "connect attempts": lambda settings: DAY_S,
}


@pytest.fixture
async def one_of_each(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    """One finished job, told post with a rendition, notice, unused upload and attempt to connect."""
    account = await an_account(db, engine, sandbox, ada, "mastodon", "keeper")
    picture = a_picture(db, ada)
    scheduled(db, settings, ada, (account,), "kept for a while", media=(picture,))
    db.execute("UPDATE deliveries SET status = 'cancelled', wake_at = NULL, staged = '{}', staged_at = now()")
    db.execute("DELETE FROM delivery_events WHERE id <> (SELECT max(id) FROM delivery_events)")
    db.execute("DELETE FROM procrastinate_jobs")
    db.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, status) VALUES ('posts', 'publish', 'succeeded')"
    )
    db.execute("INSERT INTO procrastinate_events (job_id, type) SELECT id, 'succeeded' FROM procrastinate_jobs")
    db.execute("INSERT INTO media_files SELECT media_id, 'fitted', mime, width, height, data FROM media_files")
    a_picture(db, ada)
    db.execute("INSERT INTO notices (user_id, key, subject, body) VALUES (%s, 'a', '', '')", [ada])
    db.execute(
        "INSERT INTO connect_attempts (state_hash, user_id, platform, base_url, option, sealed)"
        " VALUES ('a', %s, 'mastodon', '', '', 'x')",
        [ada],
    )


@pytest.mark.parametrize("kind", AGED)
async def test_it_is_kept_for_as_long_as_the_settings_say_and_no_longer(
    kind: str, one_of_each: None, engine: Engine, settings: config.Settings, db: psycopg.Connection
) -> None:
    kept_s = KEPT_S[kind](settings)
    assert await purged(engine, db, kind, kept_s - 60) == 0
    assert await purged(engine, db, kind, kept_s + 60) == 1


async def purged(engine: Engine, db: psycopg.Connection, kind: str, age_s: float) -> int:
    db.execute(AGED[kind].encode(), [age_s])
    async with engine.pool.connection() as conn:
        return (await retention.purge(conn, engine.settings))[kind]


def test_every_kind_that_is_kept_for_a_while_is_tried() -> None:
    kept_for_a_while = {kind.name for kind in retention.KINDS if "%(keep)s" in kind.query}
    assert kept_for_a_while == set(AGED)
