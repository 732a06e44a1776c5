"""A worker that stands still between its written intent and the request (SIGSTOP, a suspended machine) and then goes on."""

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import psycopg
import pytest

from postflow import config, db, jobs
from postflow.engine import Engine
from postflow.http import clients
from postflow.publishing import preparing, sending
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of

TIMEOUT_S = 0.5


@pytest.fixture
def hasty(engine: Engine) -> Engine:
    settings = engine.settings.model_copy(update={"request_timeout_s": TIMEOUT_S})
    return dataclasses.replace(engine, settings=settings)


def standing_still(engine: Engine, meanwhile: Callable[[], None] = lambda: None) -> Engine:
    """Its whole process is still for longer than a request may take; `meanwhile` is what others do."""

    def reached(step: str) -> None:
        if step == "sending":
            time.sleep(TIMEOUT_S * 1.2)
            meanwhile()

    return dataclasses.replace(engine, reached=reached)


async def test_it_sends_nothing_any_more_and_the_post_is_tried_again(
    db: psycopg.Connection, hasty: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, hasty, sandbox, ada, "mastodon", "stood-still")
    [delivery] = scheduled(db, settings, ada, (account,), "nobody took it over")
    assert await sending.publish(standing_still(hasty), delivery.id) is None
    assert status_of(db, delivery) == "scheduled"
    assert sandbox.ledger.times_published("nobody took it over") == 0
    await lifetime.to_rest(hasty, db, [delivery.id])
    assert status_of(db, delivery) == "published"
    assert sandbox.ledger.times_published("nobody took it over") == 1


def stalling(engine: Engine, step: str, meanwhile: Callable[[], None] = lambda: None) -> Engine:
    """Its whole process is still at this step of the connection, named as httpcore names it, for longer than it has."""

    async def leaving(request: httpx.Request) -> None:
        async def trace(event: str, _: dict[str, Any]) -> None:
            if event == step:
                time.sleep(TIMEOUT_S * 1.2)  # noqa: ASYNC251
                meanwhile()

        request.extensions["trace"] = trace

    engine.commit_http.event_hooks = {"request": [leaving]}
    return engine


STEPS = [
    "connection.connect_tcp.started",
    "connection.connect_tcp.complete",
    "http11.send_request_headers.started",
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("instance", ["mastodon-4.1", "gotosocial", "akkoma", "pixelfed"])
async def test_a_process_that_stood_still_on_the_way_sends_nothing_and_nothing_has_to_be_looked_up(
    instance: str,
    step: str,
    db: psycopg.Connection,
    hasty: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    if instance not in sandbox.network.instances:
        sandbox.add_instance(instance, name=instance)
    account = await an_account(db, hasty, sandbox, ada, instance, f"stalled-{STEPS.index(step)}")
    text = f"stalled at {step} on {instance}"
    media = (a_picture(db, ada),) if instance == "pixelfed" else ()
    [delivery] = scheduled(db, settings, ada, (account,), text, media=media)
    await preparing.prepare(hasty, delivery.id)
    assert await sending.publish(stalling(hasty, step), delivery.id) is None
    assert (status_of(db, delivery), sandbox.ledger.times_published(text)) == ("scheduled", 0)
    hasty.commit_http.event_hooks = {"request": []}
    await lifetime.to_rest(hasty, db, [delivery.id])
    assert (status_of(db, delivery), sandbox.ledger.times_published(text)) == ("published", 1)
    told = db.execute("SELECT count(*) FROM delivery_events WHERE status = 'unknown'").fetchone()
    assert told == (0,)


async def test_a_worker_that_is_stopped_before_anything_has_left_hands_the_post_back(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    """No network has to be asked what became of a request that never left."""
    account = await an_account(db, engine, sandbox, ada, "gotosocial", "stopped-early")
    [delivery] = scheduled(db, settings, ada, (account,), "stopped before it left")
    await preparing.prepare(engine, delivery.id)
    connecting = asyncio.Event()

    async def leaving(_: httpx.Request) -> None:
        connecting.set()
        await asyncio.Event().wait()

    engine.commit_http.event_hooks = {"request": [leaving]}
    under_way = asyncio.ensure_future(sending.publish(engine, delivery.id))
    await connecting.wait()
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert status_of(db, delivery) == "scheduled"


#: A text that was never sent, and that nothing guards, is a person's to send: here the sweep took the sender for dead.
ENDS = {"mastodon": ("published", 1), "gotosocial": ("attention", 0), "pixelfed": ("published", 1)}


@pytest.mark.parametrize("step", ["sending", STEPS[1], STEPS[2]])
@pytest.mark.parametrize("instance", ENDS)
async def test_what_another_worker_has_sent_meanwhile_does_not_go_out_a_second_time(
    instance: str,
    step: str,
    db: psycopg.Connection,
    hasty: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    """GoToSocial knows no key and a text no uploads: only the sender itself can tell that its time is over."""
    account = await an_account(db, hasty, sandbox, ada, instance, f"overtaken-{instance}")
    text = f"overtaken at {step} on {instance}"
    media = (a_picture(db, ada),) if instance == "pixelfed" else ()
    [delivery] = scheduled(db, settings, ada, (account,), text, media=media)

    def overtake() -> None:
        other = threading.Thread(target=lambda: asyncio.run(_another_worker(settings, [delivery.id])))
        other.start()
        other.join()

    still = standing_still(hasty, overtake) if step == "sending" else stalling(hasty, step, overtake)
    assert await sending.publish(still, delivery.id) is None
    sandbox.wait_until_idle()
    assert (status_of(db, delivery), sandbox.ledger.times_published(text)) == ENDS[instance]


async def _another_worker(settings: config.Settings, delivery_ids: list[int]) -> None:
    url = settings.database_url.get_secret_value()
    async with (
        db.async_pool(url) as pool,
        clients.client(settings) as http,
        clients.commit_client(settings) as commit_http,
    ):
        engine = Engine(pool=pool, settings=settings, http=http, commit_http=commit_http, wake=jobs.wake)
        with psycopg.connect(url, autocommit=True) as conn:
            await lifetime.to_rest(engine, conn, delivery_ids)
