"""A worker killed at every single step of a post's path, on the networks of the Mastodon family: once, whatever step it was."""

from collections.abc import Iterator

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.publishing import sending
from sandbox import Sandbox
from tests.engine import kills
from tests.engine.conftest import a_picture, an_account, scheduled, status_of
from tests.engine.test_kills_instagram import a_video

FAMILY = ["mastodon", "gotosocial", "pixelfed"]
COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}
ON_THE_WAY = {
    "committed: transitions.claim_to_prepare",
    "committed: transitions.checkpoint",
    "reached: checkpoint",
    "in transaction: transitions.mark_ready",
    "committed: preparing._ready",
    "committed: transitions.claim_to_send",
    "leaving: POST /api/v1/statuses",
    "all out: POST /api/v1/statuses",
    "answer in: POST /api/v1/statuses",
    "in transaction: transitions.mark_published",
    "committed: outcomes._write_published",
}
LOOKING = {"committed: transitions.claim_to_look", "reached: looked"}

#: A hundred lives take their time on a busy machine.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def workers() -> Iterator[kills.Workers]:
    with kills.workers() as forked:
        yield forked


@pytest.fixture
def loop(workers: kills.Workers, db: psycopg.Connection, engine: Engine, sandbox: Sandbox) -> kills.Loop:
    return kills.Loop(workers, db, engine, sandbox)


@pytest.mark.parametrize("instance", FAMILY)
async def test_pictures_go_out_exactly_once_whichever_step_their_worker_dies_at(
    instance: str,
    loop: kills.Loop,
    db: psycopg.Connection,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    account = await an_account(db, loop.engine, sandbox, ada, instance, "killed-with-pictures")
    media = (a_picture(db, ada), a_picture(db, ada))

    async def post(text: str) -> list[Delivery]:
        return scheduled(db, settings, ada, (account,), text, media=media)

    steps = await loop.at_every_step(post, f"pictures, {instance}")
    assert set(steps) >= ON_THE_WAY
    assert sum(step.startswith("leaving: POST") and step.endswith("/media") for step in steps) == len(media)


async def test_a_thread_goes_out_once_and_in_order_whichever_step_its_worker_dies_at(
    loop: kills.Loop, db: psycopg.Connection, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, loop.engine, sandbox, ada, "mastodon", "killed-in-a-thread")

    async def post(text: str) -> list[Delivery]:
        return scheduled(db, settings, ada, (account,), f"{text} one", thread=(f"{text} two",))

    steps = await loop.at_every_step(post, "a thread")
    assert steps.count("leaving: POST /api/v1/statuses") == 2


@pytest.mark.parametrize("fault", ["drop_after_commit", "drop_before"])
@pytest.mark.parametrize("instance", FAMILY)
async def test_a_lost_answer_is_looked_up_whichever_step_the_looking_worker_dies_at(
    instance: str,
    fault: str,
    loop: kills.Loop,
    db: psycopg.Connection,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    account = await an_account(db, loop.engine, sandbox, ada, instance, f"killed-looking-{fault}")
    media = (a_picture(db, ada),)

    async def post(text: str) -> list[Delivery]:
        [delivery] = scheduled(db, settings, ada, (account,), text, media=media)
        sandbox.faults.add(fault, instance=instance, **COMMIT)
        await sending.publish(loop.engine, delivery.id)
        assert status_of(db, delivery) == "unknown"
        return [delivery]

    steps = await loop.at_every_step(post, f"{fault}, {instance}")
    assert set(steps) >= LOOKING
    assert ("committed: transitions.claim_to_send" in steps) == (fault == "drop_before")


@pytest.mark.parametrize("fault", ["drop_after_commit", "drop_before"])
@pytest.mark.parametrize("instance", ["mastodon", "gotosocial"])
async def test_a_lost_text_is_looked_up_by_its_words_whichever_step_the_looking_worker_dies_at(
    instance: str,
    fault: str,
    loop: kills.Loop,
    db: psycopg.Connection,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    account = await an_account(db, loop.engine, sandbox, ada, instance, f"killed-reading-{fault}")
    unguarded = instance == "gotosocial" and fault == "drop_before"  # knows no key, and a text has no uploads
    if unguarded:
        loop.ends, loop.stride_s = kills.LEFT_OPEN, 160  # it is looked for during five minutes

    async def post(text: str) -> list[Delivery]:
        [delivery] = scheduled(db, settings, ada, (account,), text)
        sandbox.faults.add(fault, instance=instance, **COMMIT)
        await sending.publish(loop.engine, delivery.id)
        assert status_of(db, delivery) == "unknown"
        return [delivery]

    steps = await loop.at_every_step(post, f"words and {fault}, {instance}")
    assert set(steps) >= LOOKING
    assert ("committed: transitions.claim_to_send" in steps) == (fault == "drop_before" and not unguarded)


async def test_a_video_goes_out_exactly_once_whichever_step_its_worker_dies_at(
    loop: kills.Loop, db: psycopg.Connection, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    """Taken with 202, told to be under way with 206, then ready."""
    account = await an_account(db, loop.engine, sandbox, ada, "mastodon", "killed-with-a-video")
    media = (a_video(db, ada),)
    sandbox.faults.add("still_processing", account="killed-with-a-video", polls=1, times=None)

    async def post(text: str) -> list[Delivery]:
        return scheduled(db, settings, ada, (account,), text, media=media)

    sandbox.configure("mastodon", media_processing_s=0.0)
    steps = await loop.at_every_step(post, "a video")
    sandbox.configure("mastodon", media_processing_s=1.0)
    assert set(steps) >= ON_THE_WAY
    assert steps.count("leaving: GET /api/v1/media/…") == 2
    assert steps.count("committed: transitions.claim_to_prepare") == 2  # once more after the server has processed it


@pytest.mark.parametrize("status", [403, 422])
async def test_what_is_refused_has_failed_once_and_is_never_out_whichever_step_its_worker_dies_at(
    status: int, loop: kills.Loop, db: psycopg.Connection, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, loop.engine, sandbox, ada, "mastodon", f"killed-{status}")
    fault = {"status": status, "body": "json", "text": "We do not want this here."}
    sandbox.faults.add("status", account=f"killed-{status}", **COMMIT, **fault, times=None)
    loop.ends = kills.FAILED

    async def post(text: str) -> list[Delivery]:
        return scheduled(db, settings, ada, (account,), text)

    steps = await loop.at_every_step(post, f"refused with {status}")
    assert "in transaction: transitions.mark_failed" in steps
    assert steps.count("leaving: POST /api/v1/statuses") == 1
