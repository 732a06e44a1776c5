"""A worker that stands still between its written intent and the request (SIGSTOP, a suspended machine) and then goes on."""

import asyncio
import dataclasses
import threading
import time
from collections.abc import Callable

import psycopg
import pytest

from postflow import config, db, net, publishing, waking
from postflow.engine import Engine
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
    assert await publishing.publish(standing_still(hasty), delivery.id) is None
    assert status_of(db, delivery) == "scheduled"
    assert sandbox.ledger.times_published("nobody took it over") == 0
    await lifetime.to_rest(hasty, db, [delivery.id])
    assert status_of(db, delivery) == "published"
    assert sandbox.ledger.times_published("nobody took it over") == 1


@pytest.mark.parametrize("instance", ["mastodon", "gotosocial", "pixelfed"])
async def test_what_another_worker_has_sent_meanwhile_does_not_go_out_a_second_time(
    instance: str,
    db: psycopg.Connection,
    hasty: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    """GoToSocial knows no key and a text no uploads: only the sender itself can tell that its time is over."""
    account = await an_account(db, hasty, sandbox, ada, instance, f"overtaken-{instance}")
    text = f"overtaken on {instance}"
    media = (a_picture(db, ada),) if instance == "pixelfed" else ()
    [delivery] = scheduled(db, settings, ada, (account,), text, media=media)

    def overtake() -> None:
        other = threading.Thread(target=lambda: asyncio.run(_another_worker(settings, [delivery.id])))
        other.start()
        other.join()

    assert await publishing.publish(standing_still(hasty, overtake), delivery.id) is None
    assert status_of(db, delivery) == "published"
    assert sandbox.ledger.times_published(text) == 1


async def _another_worker(settings: config.Settings, delivery_ids: list[int]) -> None:
    url = settings.database_url.get_secret_value()
    async with db.async_pool(url) as pool, net.client(settings) as http, net.commit_client(settings) as commit_http:
        engine = Engine(pool=pool, settings=settings, http=http, commit_http=commit_http, wake=waking.wake)
        with psycopg.connect(url, autocommit=True) as conn:
            await lifetime.to_rest(engine, conn, delivery_ids)
