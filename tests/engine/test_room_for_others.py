"""Slow uploads take neither the last slot of a worker nor the whole of it for one server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace

import psycopg
import pytest

from postflow import config
from postflow.bulkhead import Bulkhead
from postflow.engine import Engine
from postflow.models import Delivery
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of

UPLOAD = {"method": "POST", "path": "/api/v[12]/media$"}
HANGS_S = 15.0


@pytest.fixture
def sandbox(sandbox: Sandbox) -> Iterator[Sandbox]:
    yield sandbox
    sandbox.faults.clear()


@asynccontextmanager
async def a_worker(engine: Engine, db: psycopg.Connection, slots: int) -> AsyncIterator[None]:
    """So many jobs at a time, as they fall due; stopped in the end."""

    async def slot() -> None:
        while True:
            if job := lifetime.due_job(db):
                await lifetime.STORIES[job[0]](engine, job[1])
            await asyncio.sleep(0.02)

    running = [asyncio.create_task(slot()) for _ in range(slots)]
    try:
        yield
    finally:
        for one in running:
            one.cancel()
            with suppress(asyncio.CancelledError):
                await one


async def until_published(db: psycopg.Connection, delivery: Delivery) -> None:
    while status_of(db, delivery) != "published":  # noqa: ASYNC110
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("servers", [["mastodon"] * 3, ["mastodon", "pixelfed", "mastodon-4.1"]], ids=["one", "three"])
async def test_what_is_due_on_another_network_goes_out_while_uploads_hang_that_could_fill_the_worker(
    servers: list[str], db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    slow = list[Delivery]()
    for number, instance in enumerate(servers):
        handle = f"hangs-{len(set(servers))}-{number}"
        account = await an_account(db, engine, sandbox, ada, instance, handle)
        sandbox.faults.add("slow", account=handle, **UPLOAD, seconds=HANGS_S, times=None)
        slow += scheduled(db, settings, ada, (account,), handle, media=(a_picture(db, ada),))
    other = await an_account(db, engine, sandbox, ada, "gotosocial", f"is-due-{len(set(servers))}")
    few = replace(engine, settings=settings.model_copy(update={"concurrency": 3}))
    async with a_worker(few, db, slots=3):
        while not sandbox.ledger.requests(path="/media", account=f"hangs-{len(set(servers))}-0"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        [text] = scheduled(db, settings, ada, (other,), "due elsewhere")
        await until_published(db, text)
        states = [status_of(db, one) for one in slow]
        assert "ready" not in states and "published" not in states, "no upload had come to its end"
        assert states.count("preparing") == (1 if len(set(servers)) == 1 else 2)


async def test_what_found_no_room_comes_back_by_itself_before_and_after_its_date(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "comes-back")
    [one] = scheduled(db, settings, ada, (account,), "comes back", media=(a_picture(db, ada),))
    few = replace(engine, settings=settings.model_copy(update={"concurrency": 2}))
    with few.uploads.admitted("https://elsewhere.example", 2):
        await lifetime.run_due(few, db)
        assert status_of(db, one) == "scheduled"
        assert db.execute("SELECT DISTINCT task_name FROM procrastinate_jobs").fetchall() == [("publish",)]
        db.execute("UPDATE posts SET post_date = now() + interval '5 minutes'")
        db.execute("DELETE FROM procrastinate_jobs")
        await lifetime.STORIES["prepare"](few, one.id)
        rows = db.execute("SELECT task_name, scheduled_at < now() + interval '30 s' FROM procrastinate_jobs").fetchall()
        assert rows == [("prepare", True)]
    db.execute("UPDATE posts SET post_date = now()")
    lifetime.pass_time(db, 30)
    await lifetime.run_due(few, db)
    assert sandbox.ledger.requests(account="comes-back", path="/media")


@pytest.mark.parametrize(("slots", "of_one", "in_all"), [(1, 1, 1), (2, 1, 1), (3, 1, 2), (8, 4, 6), (20, 10, 15)])
def test_a_quarter_of_the_slots_stays_free_and_half_of_them_is_the_most_for_one_server(
    slots: int, of_one: int, in_all: int
) -> None:
    for server, most in ((lambda _: "one", of_one), (str, in_all)):
        uploads = Bulkhead()
        with ExitStack() as held:
            admitted = [held.enter_context(uploads.admitted(server(number), slots)) for number in range(30)]
            assert admitted == [True] * most + [False] * (30 - most)
            assert held.enter_context(uploads.admitted(None, slots)), "what uploads nothing has its room"
        with uploads.admitted("one", slots) as again:
            assert again, "whoever has ended makes room"
