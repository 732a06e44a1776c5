"""A person's transaction and a worker's claim at the same instant, and claims that follow one another closely."""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config, jobs
from postflow.engine import Engine
from postflow.errors import Conflict
from postflow.models import Receipt
from postflow.posts import deliveries, scheduling
from postflow.publishing import outgoing, preparing, reconciling, sending, sweeping, transitions, turns
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of

COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}


@contextlib.contextmanager
def a_window(settings: config.Settings) -> Iterator[psycopg.Connection]:
    """A person's request with its transaction open."""
    with psycopg.connect(settings.database_url.get_secret_value()) as conn:
        yield conn


async def until_it_waits_for_a_lock(db: psycopg.Connection) -> None:
    for _ in range(500):
        row = db.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'").fetchone()
        if row and row[0]:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("nobody waits")


async def test_a_claim_that_waits_for_a_move_finds_the_new_date(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "moved-in-time")
    [delivery] = scheduled(db, settings, ada, (account,), "moved in the last instant")
    await preparing.prepare(engine, delivery.id)
    later = datetime.now(UTC) + timedelta(days=1)
    with a_window(settings) as window:
        moved = scheduling.move(window, ada, delivery.post_id, later, now=datetime.now(UTC))
        jobs.publish_later(window, moved)
        claiming = asyncio.create_task(sending.publish(engine, delivery.id))
        await until_it_waits_for_a_lock(db)
        window.commit()
        assert await claiming is None
    assert status_of(db, delivery) == "ready"
    assert sandbox.ledger.times_published("moved in the last instant") == 0


async def test_what_a_person_asks_for_again_is_not_overwritten_by_an_older_verdict(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "wanted-now")
    [delivery] = scheduled(db, settings, ada, (account,), "wanted after all")
    db.execute("UPDATE posts SET post_date = now() - interval '8 hours'")
    async with engine.pool.connection() as conn:
        judged = await turns.timing(conn, delivery.id, engine.settings)
        assert judged and judged.lateness_s > judged.grace_s(settings)
        with db.transaction():
            scheduling.publish_now(db, ada, delivery.post_id, now=datetime.now(UTC))
        assert await transitions.mark_missed(conn, delivery.id, "Too late.", "Move it.", as_of=judged.status_at) is None
    assert await sending.publish(engine, delivery.id)


async def test_a_part_whose_thread_is_asked_for_again_is_not_missed_by_an_older_verdict(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "wanted-whole")
    first, second = scheduled(db, settings, ada, (account,), "wanted whole", thread=("wanted whole, too",))
    db.execute("UPDATE posts SET post_date = now() - interval '8 hours'")
    db.execute("UPDATE deliveries SET status = 'failed', error = 'no', wake_at = NULL WHERE id = %s", [first.id])
    async with engine.pool.connection() as conn:
        judged = await turns.timing(conn, second.id, engine.settings)
        assert judged and judged.turn(settings).says is turns.Says.too_late
        with db.transaction():
            scheduling.retry(db, ada, first.id, now=datetime.now(UTC))
        assert await transitions.mark_missed(conn, second.id, "Too late.", "Move it.", as_of=judged.status_at) is None


async def test_twenty_late_posts_that_become_ready_at_once_keep_their_distance(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "after-downtime")
    posts = [scheduled(db, settings, ada, (account,), f"late post {number}")[0] for number in range(20)]
    db.execute("UPDATE posts SET post_date = now() - interval '1 hour' + id * interval '1 second'")
    db.execute("DELETE FROM procrastinate_jobs")
    db.execute("UPDATE deliveries SET sent_at = now() WHERE id = %s", [posts[0].id])  # something has just gone out
    await asyncio.gather(*(sending.publish(engine, one.id) for one in posts))
    assert sum(status_of(db, one) == "published" for one in posts) == 0
    wakes = db.execute("SELECT wake_at FROM deliveries ORDER BY id").fetchall()
    gaps = [(after[0] - before[0]).total_seconds() for before, after in itertools.pairwise(wakes)]
    assert all(abs(gap - settings.pace_s) < 0.5 for gap in gaps), gaps
    db.execute("UPDATE deliveries SET sent_at = NULL, status_at = clock_timestamp()")
    await asyncio.gather(*(sending.publish(engine, one.id) for one in posts))
    assert sum(status_of(db, one) == "published" for one in posts) == 1


async def test_publishing_what_was_cancelled_in_another_window_says_so_and_changes_nothing(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "two-tabs")
    at = datetime.now(UTC) + timedelta(days=1)
    [delivery] = scheduled(db, settings, ada, (account,), "cancelled elsewhere", at=at)
    scheduling.cancel(db, ada, delivery.post_id)
    for change in (
        lambda: scheduling.publish_now(db, ada, delivery.post_id, now=datetime.now(UTC)),
        lambda: scheduling.move(db, ada, delivery.post_id, at + timedelta(days=1), now=datetime.now(UTC)),
    ):
        with pytest.raises(Conflict, match="Nothing of this post is waiting"), db.transaction():
            change()
    assert db.execute("SELECT post_date FROM posts").fetchone() == (at,)


async def test_a_server_that_never_answers_is_given_up_with_the_reason(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "never-answers")
    [delivery] = scheduled(db, settings, ada, (account,), "into the void")
    fault = sandbox.faults.add("status", instance="mastodon", **COMMIT, status=500, commit=False, times=None)
    try:
        await lifetime.to_rest(engine, db, [delivery.id])
    finally:
        sandbox.faults.clear(fault)
    row = db.execute("SELECT status, error_code, error, attempt_no FROM deliveries").fetchone()
    assert row and row[:2] == ("attention", "never_answered")
    assert row[3] == settings.max_faults + 1
    assert f"tried {row[3]} times" in row[2]


async def test_a_part_whose_parent_was_only_seen_by_its_person_says_why_it_cannot_follow(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "seen-only")
    first, second = scheduled(db, settings, ada, (account,), "seen by a person", thread=("wants to answer it",))
    await preparing.prepare(engine, first.id)
    db.execute(
        "UPDATE deliveries SET status = 'attention', error = 'unclear', wake_at = NULL, sent_at = now(),"
        " first_sent_at = now(), attempt_no = 1 WHERE id = %s",
        [first.id],
    )
    with db.transaction():
        waiting = scheduling.settle(db, ada, first.id, published=True, now=datetime.now(UTC))
        jobs.publish_later(db, waiting)
    assert [one.id for one in waiting] == [second.id]
    await lifetime.to_rest(engine, db, [second.id])
    row = db.execute("SELECT status, error_code FROM deliveries WHERE id = %s", [second.id]).fetchone()
    assert row == ("failed", "parent_unknown")
    assert sandbox.ledger.times_published("wants to answer it") == 0


async def test_a_part_answers_to_its_parent_at_the_address_its_person_gave(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "seen-where")
    first, second = scheduled(db, settings, ada, (account,), "seen there", thread=("answers it",))
    done = await sending.publish(engine, first.id)
    assert done and done.permalink
    db.execute(
        "UPDATE deliveries SET status = 'attention', error = 'unclear', published_at = NULL, remote_id = NULL,"
        " permalink = NULL WHERE id = %s",
        [first.id],
    )
    with db.transaction():
        seen = Receipt(remote_id=done.remote_id, permalink=done.permalink)
        waiting = scheduling.settle(db, ada, first.id, published=True, now=datetime.now(UTC), seen=seen)
        jobs.publish_later(db, waiting)
    await lifetime.to_rest(engine, db, [second.id])
    [status] = sandbox.ledger.statuses(text="answers it", published=True)
    assert status.in_reply_to_id == done.remote_id


async def test_a_picture_that_ends_its_workers_ends_with_a_sentence(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "deadly")
    [delivery] = scheduled(db, settings, ada, (account,), "too heavy", media=(a_picture(db, ada),))
    for _ in range(preparing.MOST_DEATHS):
        async with engine.pool.connection() as conn:
            assert await transitions.claim_to_prepare(conn, delivery.id, "dies", 60)
        db.execute("UPDATE deliveries SET wake_at = now() - interval '1 second'")
        await sweeping.sweep(engine)
    assert await sending.publish(engine, delivery.id) is None
    row = db.execute("SELECT status, error_code FROM deliveries").fetchone()
    assert row == ("failed", "workers_end")


async def test_an_answer_that_names_another_post_of_the_account_is_looked_into_and_not_asked_for_again(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "repeated-answer")
    [other] = scheduled(db, settings, ada, (account,), "the other one")
    known = await sending.publish(engine, other.id)
    assert known and known.remote_id
    [delivery] = scheduled(db, settings, ada, (account,), "answered with the other's id")
    await preparing.prepare(engine, delivery.id)
    # A key met twice: Mastodon answers with the status that bore it first.
    db.execute("UPDATE deliveries SET key_seed = (SELECT key_seed FROM deliveries WHERE id = %s)", [other.id])
    assert await sending.publish(engine, delivery.id) is None
    assert status_of(db, delivery) == "unknown"
    assert db.execute("SELECT count(*) FROM deliveries WHERE remote_id = %s", [known.remote_id]).fetchone() == (1,)
    # The same key would be answered in the same way for ever: its person is told what is known, and no second one is there.
    long_ago = "first_sent_at = first_sent_at - interval '1 hour', sent_at = sent_at - interval '1 hour'"
    db.execute(f"UPDATE deliveries SET {long_ago}, wake_at = clock_timestamp() WHERE id = %s".encode(), [delivery.id])
    assert await reconciling.reconcile(engine, delivery.id) is None
    assert status_of(db, delivery) == "unknown"
    long_ago = "first_absent_at = first_absent_at - interval '1 hour'"
    db.execute(f"UPDATE deliveries SET {long_ago}, wake_at = clock_timestamp() WHERE id = %s".encode(), [delivery.id])
    await reconciling.reconcile(engine, delivery.id)
    asked = db.execute("SELECT status, error, attempt_no FROM deliveries WHERE id = %s", [delivery.id]).fetchone()
    assert asked == ("attention", reconciling.NAMED_ANOTHER, 1)
    # Where it is not there, "not there" sends it, by a key of its own.
    now = datetime.now(UTC)
    jobs.publish_later(db, scheduling.settle(db, ada, delivery.id, published=False, now=now))
    again = await sending.publish(engine, delivery.id)
    assert again and again.remote_id not in (None, known.remote_id)
    assert sandbox.ledger.times_published("answered with the other's id") == 1


async def test_whatever_characters_a_network_uses_its_word_is_kept(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "odd-characters")
    [delivery] = scheduled(db, settings, ada, (account,), "odd characters")
    odd = "a\x00b\ud800c"
    async with engine.pool.connection() as conn:
        assert await transitions.claim_to_prepare(conn, delivery.id, "mine", 60)
        detail = {"detail": odd, "notes": [odd]}
        moved = await transitions.mark_failed(
            conn, delivery, "mine", as_of=delivery.status_at, code="odd", sentence=odd, next_step=odd, detail=detail
        )
    assert moved and moved.error == "ab?c"
    [*_, told] = deliveries.events(db, ada, delivery.post_id)
    assert told.detail == {"detail": "ab?c", "notes": ["ab?c"]}


async def test_a_foreign_status_of_odd_shape_does_not_hide_ours(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "odd-shapes")
    [delivery] = scheduled(db, settings, ada, (account,), "beside an odd one", media=(a_picture(db, ada),))
    await preparing.prepare(engine, delivery.id)
    done = await sending.publish(engine, delivery.id)
    assert done and done.staged
    from postflow.platforms.mastodon import own_statuses, receipts  # the shapes a listing may hold

    staged = own_statuses.Staged.model_validate(done.staged)
    for shape in (None, [None], {"0": {"id": "1"}}, 7, True, "x"):
        assert not own_statuses.has_our_uploads({"id": "1", "media_attachments": shape}, staged)
        parcel = await outgoing.gather(engine.pool, done, settings, with_data=False)
        assert isinstance(receipts.receipt({"id": 1, "media_attachments": shape}, parcel), Receipt)
