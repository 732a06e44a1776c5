"""A person and a worker want the same post in the same instant: what the person was told is what became of it.

Either the person came first, and nothing else than they wanted happens; or the worker did, the post is out once, and the
person is told that it is too late.
"""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from postflow import config, jobs
from postflow.engine import Engine
from postflow.errors import Conflict, PostFlowError
from postflow.models import Content, NewPost
from postflow.posts import scheduling
from postflow.publishing import preparing, sending
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import an_account, scheduled

Deed = Callable[[psycopg.Connection], object]

ROUNDS = 30


@pytest.fixture
def window(database_url: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database_url, autocommit=True) as conn:
        yield conn


class Post:
    """One post on one account, and what a person may do to it, each as the web does it: one transaction."""

    def __init__(self, conn: psycopg.Connection, settings: config.Settings, ada: int, account: int, text: str) -> None:
        self.conn, self.settings, self.ada, self.account, self.text = conn, settings, ada, account, text
        [self.delivery] = scheduled(conn, settings, ada, (account,), text)

    @property
    def id(self) -> int:
        return self.delivery.id

    def cancel(self, conn: psycopg.Connection) -> None:
        scheduling.cancel(conn, self.ada, self.delivery.post_id)

    def move(self, conn: psycopg.Connection) -> None:
        now = datetime.now(UTC)
        at = now + timedelta(days=1)
        moved = scheduling.move(conn, self.ada, self.delivery.post_id, at, now=now)
        jobs.publish_later(conn, moved)

    def publish_now(self, conn: psycopg.Connection) -> None:
        moved = scheduling.publish_now(conn, self.ada, self.delivery.post_id, now=datetime.now(UTC))
        jobs.publish_later(conn, moved)

    def edit(self, conn: psycopg.Connection) -> None:
        now = datetime.now(UTC)
        new = NewPost(
            content=Content(text=f"{self.text} edited", language="en"),
            account_ids=(self.account,),
            post_date=now,
            time_zone="UTC",
        )
        made = scheduling.edit(conn, self.ada, self.delivery.post_id, new, revision=1, now=now)
        jobs.publish_later(conn, made.deliveries)

    def delete(self, conn: psycopg.Connection) -> None:
        scheduling.delete(conn, self.ada, self.delivery.post_id)

    def retry(self, conn: psycopg.Connection) -> None:
        jobs.publish_later(conn, scheduling.retry(conn, self.ada, self.id, now=datetime.now(UTC)))

    @property
    def status(self) -> str:
        row = self.conn.execute("SELECT status FROM deliveries WHERE id = %s", [self.id]).fetchone()
        return row[0] if row else "deleted"


def done(window: psycopg.Connection, deed: Deed, pause_s: float = 0) -> PostFlowError | None:
    """What the person was refused with; any other error is one."""
    threading.Event().wait(pause_s)
    try:
        with window.transaction():
            deed(window)
    except PostFlowError as refusal:
        return refusal
    return None


# -- in the same instant, over and over ----------------------------------------------------------------------


class Rounds:
    """A fresh post each time; the person comes a little earlier or later each time, and half of the posts are ready."""

    def __init__(
        self,
        engine: Engine,
        sandbox: Sandbox,
        window: psycopg.Connection,
        a_post: Callable[[int], Post],
    ) -> None:
        self.engine, self.sandbox, self.window, self.a_post = engine, sandbox, window, a_post
        self.random = random.Random(7)

    async def posts(self) -> AsyncIterator[Post]:
        """Due, one after the other."""
        for number in range(ROUNDS):
            post = self.a_post(number)
            if number % 2:
                assert await preparing.prepare(self.engine, post.id)
            yield post

    async def both(self, post: Post, deed: Deed) -> tuple[PostFlowError | None, bool]:
        """The person's refusal, and whether this worker published it."""
        refused, published, again = await asyncio.gather(
            asyncio.to_thread(done, self.window, deed, self.random.uniform(0, 0.03)),
            sending.publish(self.engine, post.id),
            sending.publish(self.engine, post.id),  # two workers are woken
        )
        assert refused is None or isinstance(refused, Conflict), refused
        assert not (published and again)
        return refused, bool(published or again)

    def out(self, post: Post) -> list[str]:
        return [one.text for one in self.sandbox.ledger.statuses(text=post.text, published=True)]

    async def end(self, post: Post) -> None:
        await lifetime.to_rest(self.engine, post.conn, [post.id])


@pytest.fixture
async def rounds(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    window: psycopg.Connection,
    ada: int,
    request: pytest.FixtureRequest,
) -> Rounds:
    handle = request.node.name[-30:]
    account = await an_account(db, engine, sandbox, ada, "mastodon", handle)
    return Rounds(engine, sandbox, window, lambda number: Post(db, settings, ada, account, f"{handle} {number:02}."))


async def test_what_is_cancelled_is_not_out_and_what_is_out_was_too_late_to_cancel(rounds: Rounds) -> None:
    async for post in rounds.posts():
        refused, _ = await rounds.both(post, post.cancel)
        await rounds.end(post)
        assert (post.status, len(rounds.out(post))) == (("published", 1) if refused else ("cancelled", 0))


async def test_what_is_moved_to_tomorrow_is_not_out_today(rounds: Rounds) -> None:
    async for post in rounds.posts():
        refused, _ = await rounds.both(post, post.move)
        await lifetime.run_due(rounds.engine, post.conn)
        if refused:
            assert (post.status, len(rounds.out(post))) == ("published", 1)
        else:
            assert post.status in ("scheduled", "ready")
            assert rounds.out(post) == []
            wakes = post.conn.execute(
                "SELECT d.wake_at = p.post_date FROM deliveries d JOIN posts p ON p.id = d.post_id WHERE d.id = %s",
                [post.id],
            ).fetchone()
            assert wakes == (True,)


async def test_what_is_to_go_now_goes_once_whoever_comes_first(rounds: Rounds) -> None:
    async for post in rounds.posts():
        await rounds.both(post, post.publish_now)
        await rounds.end(post)
        assert (post.status, len(rounds.out(post))) == ("published", 1)


async def test_what_waits_for_tomorrow_and_is_to_go_now_goes_once(rounds: Rounds) -> None:
    """The workers come for the old date and find it in the future, or not."""
    async for post in rounds.posts():
        assert done(post.conn, post.move) is None
        refused, _ = await rounds.both(post, post.publish_now)
        assert refused is None or rounds.out(post)
        await rounds.end(post)
        assert (post.status, len(rounds.out(post))) == ("published", 1)


async def test_what_is_edited_is_out_as_it_was_edited_or_was_out_before(rounds: Rounds) -> None:
    async for post in rounds.posts():
        refused, _ = await rounds.both(post, post.edit)
        await rounds.end(post)
        assert post.status == "published"
        assert rounds.out(post) == ([post.text] if refused else [f"{post.text} edited"])


async def test_what_is_deleted_is_not_sent_afterwards(rounds: Rounds) -> None:
    async for post in rounds.posts():
        refused, published = await rounds.both(post, post.delete)
        await lifetime.run_due(rounds.engine, post.conn)
        assert len(rounds.out(post)) == (1 if published else 0)
        assert post.status == ("published" if refused else "deleted")
        assert published or not refused


async def test_what_is_tried_again_in_two_windows_goes_once(rounds: Rounds, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as second:
        async for post in rounds.posts():
            assert done(post.conn, post.cancel) is None
            other = asyncio.create_task(asyncio.to_thread(done, second, post.retry))
            refused, _ = await rounds.both(post, post.retry)
            refusals = [refused, await other]
            await rounds.end(post)
            assert (post.status, len(rounds.out(post))) == ("published", 1)
            assert [type(one) for one in refusals if one] == [Conflict], "one counts, the other is told"


# -- the person's transaction is open when the worker's statement comes ------------------------------------------


async def overtaken(conn: psycopg.Connection, deed: Deed, story: Awaitable[Any]) -> None:
    """The worker has read the post as it was and waits for the row; then the person's deed is committed."""
    with conn.transaction():
        deed(conn)
        worker = asyncio.ensure_future(story)
        while not conn.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone():
            assert not worker.done(), "the worker did not wait for the person"
            await asyncio.sleep(0.01)
    await worker


@pytest.fixture
async def due(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int, name: str
) -> Post:
    account = await an_account(db, engine, sandbox, ada, "mastodon", name)
    return Post(db, settings, ada, account, f"{name}.")


def texts(sandbox: Sandbox, post: Post) -> list[str]:
    return [one.text for one in sandbox.ledger.statuses(text=post.text, published=True)]


@pytest.mark.parametrize("name", ["overtaken-by-a-move"])
async def test_a_claim_that_waited_for_a_move_to_tomorrow_sends_nothing_today(
    due: Post, engine: Engine, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    assert await preparing.prepare(engine, due.id)
    await overtaken(db, due.move, sending.publish(engine, due.id))
    await lifetime.run_due(engine, db)
    assert texts(sandbox, due) == []
    assert due.status in ("scheduled", "ready")


@pytest.mark.parametrize("name", ["overtaken-by-an-edit"])
async def test_a_claim_that_waited_for_an_edit_sends_only_the_new_version(
    due: Post, engine: Engine, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    assert await preparing.prepare(engine, due.id)
    await overtaken(db, due.edit, sending.publish(engine, due.id))
    await lifetime.to_rest(engine, db, [due.id])
    assert texts(sandbox, due) == [f"{due.text} edited"]


@pytest.mark.parametrize(
    ("name", "becomes"), [("overtaken-by-a-cancel", "cancelled"), ("overtaken-by-a-delete", "deleted")]
)
async def test_a_claim_that_waited_for_the_end_of_its_post_sends_nothing(
    name: str, becomes: str, due: Post, engine: Engine, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    assert await preparing.prepare(engine, due.id)
    deed = due.cancel if becomes == "cancelled" else due.delete
    await overtaken(db, deed, sending.publish(engine, due.id))
    await lifetime.run_due(engine, db)
    assert (due.status, texts(sandbox, due)) == (becomes, [])


@pytest.mark.parametrize("name", ["overtaken-by-now"])
async def test_a_claim_that_waited_for_publish_now_goes_once(
    due: Post, engine: Engine, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    assert await preparing.prepare(engine, due.id)
    await overtaken(db, due.publish_now, sending.publish(engine, due.id))
    await lifetime.to_rest(engine, db, [due.id])
    assert (due.status, texts(sandbox, due)) == ("published", [due.text])


@pytest.mark.parametrize(
    ("name", "deed", "becomes"),
    [
        ("too-late-and-moved", Post.move, ("scheduled", "ready")),
        ("too-late-and-now", Post.publish_now, ("published",)),
        ("too-late-and-edited", Post.edit, ("published",)),
    ],
)
async def test_what_a_person_gives_a_new_date_in_the_last_moment_is_not_missed(
    name: str,
    deed: Callable[[Post, psycopg.Connection], None],
    becomes: tuple[str, ...],
    due: Post,
    engine: Engine,
    sandbox: Sandbox,
    db: psycopg.Connection,
) -> None:
    """A worker finds it too late and is about to say so, just as the person makes it timely again."""
    db.execute("UPDATE posts SET post_date = now() - interval '7 hours'")
    await overtaken(db, lambda conn: deed(due, conn), sending.publish(engine, due.id))
    await lifetime.run_due(engine, db)
    assert due.status in becomes
    assert len(texts(sandbox, due)) == (1 if due.status == "published" else 0)


@pytest.mark.parametrize("name", ["now-after-all"])
async def test_what_is_to_go_now_is_not_put_off_by_a_worker_that_saw_the_date_before(
    due: Post, engine: Engine, db: psycopg.Connection
) -> None:
    """The row's own alarm must stand at now: it is what counts when the job is lost or has to wait for its account."""
    assert done(db, due.move) is None
    await overtaken(db, due.publish_now, sending.publish(engine, due.id))
    assert db.execute("SELECT wake_at <= now() FROM deliveries").fetchone() == (True,)
