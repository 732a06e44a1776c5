"""A network added in one file and one registry line goes through the engine: pictures made to fit, threads, lost answers."""

import psycopg
import pytest

from postflow import config, platforms
from postflow.engine import Engine
from postflow.publishing import reconciling, sending
from sandbox import Sandbox
from tests.engine.conftest import a_picture, an_account, scheduled, status_of
from tests.platforms.fourth import server
from tests.platforms.fourth.bluesky import Bluesky


@pytest.fixture
async def account(
    db: psycopg.Connection,
    engine: Engine,
    sandbox: Sandbox,
    ada: int,
    monkeypatch: pytest.MonkeyPatch,
) -> int:
    monkeypatch.setitem(platforms.REGISTRY, "bluesky", Bluesky())  # the registry line
    if "bluesky" not in sandbox.network.instances:
        server.teach(sandbox)
        sandbox.add_instance("bluesky", name="bluesky", family="bluesky", counting="clusters")
    return await an_account(db, engine, sandbox, ada, "bluesky", "ada.example")


async def test_a_picture_and_a_thread_go_out_in_order(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    account: int,
) -> None:
    picture = a_picture(db, ada)
    first, second = scheduled(db, settings, ada, (account,), "sky one", media=(picture,), thread=("sky two",))
    one = await sending.publish(engine, first.id)
    two = await sending.publish(engine, second.id)
    assert one and two
    [status] = sandbox.ledger.statuses(text="sky one")
    assert (status.id, [media.alt_text for media in status.media]) == (one.remote_id, ["the sea"])
    [reply] = sandbox.ledger.statuses(text="sky two")
    assert reply.in_reply_to_id == one.remote_id


async def test_a_lost_answer_is_found_by_the_key_chosen_ahead(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    account: int,
) -> None:
    [delivery] = scheduled(db, settings, ada, (account,), "lost in the sky")
    sandbox.faults.add("drop_after_commit", instance="bluesky", method="POST", path="putRecord$", times=1)
    assert await sending.publish(engine, delivery.id) is None
    assert status_of(db, delivery) == "unknown"
    assert await reconciling.reconcile(engine, delivery.id)
    assert status_of(db, delivery) == "published"
    assert sandbox.ledger.times_published("lost in the sky") == 1
