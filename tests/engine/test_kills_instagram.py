"""A worker killed at every single step on Instagram: containers are made, fetched and published once, whatever step it was."""

from collections.abc import Awaitable, Callable, Iterator
from itertools import count

import psycopg
import pytest

from postflow import config, platforms
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.platforms.instagram import Instagram
from postflow.publishing import sending
from sandbox import Sandbox
from tests.engine import kills
from tests.engine.conftest import a_picture, scheduled, status_of
from tests.engine.test_instagram import connected, settings
from tests.postflow.test_uploads import mp4

__all__ = ["settings"]

Account = Callable[[], Awaitable[int]]

COMMIT = {"method": "POST", "path": "media_publish$"}
STORY: dict[str, dict[str, object]] = {"instagram": {"kind": "story"}}
ON_THE_WAY = {
    "committed: transitions.claim_to_prepare",
    "committed: transitions.checkpoint",
    "committed: transitions.claim_to_send",
    "committed: outcomes._write_published",
    "committed: due.add_permalink",
}

#: A hundred lives take their time on a busy machine.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def workers() -> Iterator[kills.Workers]:
    with kills.workers() as forked:
        yield forked


@pytest.fixture
def loop(workers: kills.Workers, db: psycopg.Connection, engine: Engine, sandbox: Sandbox) -> kills.Loop:
    sandbox.configure("instagram", carousel_processing_s=0.0)
    return kills.Loop(workers, db, engine, sandbox)


@pytest.fixture
def account(db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int) -> Account:
    """One that has published nothing: what else an account sends meanwhile makes Instagram's counts tell nothing."""
    numbers = count()
    return lambda: connected(db, engine, sandbox, ada, f"wren{next(numbers)}")


def calls(steps: list[str], path: str) -> int:
    return sum(step.startswith("leaving: POST") and step.endswith(path) for step in steps)


@pytest.mark.parametrize("pictures", [1, 2])
async def test_pictures_go_out_exactly_once_whichever_step_their_worker_dies_at(
    pictures: int, loop: kills.Loop, account: Account, db: psycopg.Connection, settings: config.Settings, ada: int
) -> None:
    media = tuple(a_picture(db, ada) for _ in range(pictures))

    async def post(text: str) -> list[Delivery]:
        return scheduled(db, settings, ada, (await account(),), text, media=media)

    steps = await loop.at_every_step(post, f"{pictures} on Instagram")
    assert set(steps) >= ON_THE_WAY
    assert calls(steps, "/media") == (1 if pictures == 1 else pictures + 1)
    assert calls(steps, "/media_publish") == 1


async def test_a_reel_goes_out_exactly_once_whichever_step_its_worker_dies_at(
    loop: kills.Loop,
    account: Account,
    db: psycopg.Connection,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    sandbox.configure("instagram", media_processing_s=30.0)
    media = (a_video(db, ada),)
    loop.clock_moves = True

    async def post(text: str) -> list[Delivery]:
        return scheduled(db, settings, ada, (await account(),), text, media=media)

    steps = await loop.at_every_step(post, "a reel")
    assert set(steps) >= ON_THE_WAY
    assert steps.count("committed: transitions.claim_to_prepare") == 2  # once more after Meta has processed it


@pytest.mark.parametrize("fault", ["drop_after_commit", "drop_before"])
async def test_a_lost_answer_is_looked_up_whichever_step_the_looking_worker_dies_at(
    fault: str,
    loop: kills.Loop,
    account: Account,
    db: psycopg.Connection,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    media = (a_picture(db, ada),)
    loop.stride_s = 610  # what is absent for ten minutes did not go out

    async def post(text: str) -> list[Delivery]:
        [delivery] = scheduled(db, settings, ada, (await account(),), text, media=media)
        sandbox.faults.add(fault, instance="instagram", **COMMIT)
        await sending.publish(loop.engine, delivery.id)
        assert status_of(db, delivery) == "unknown"
        return [delivery]

    steps = await loop.at_every_step(post, fault)
    assert "committed: transitions.claim_to_look" in steps
    assert ("committed: transitions.claim_to_send" in steps) == (fault == "drop_before")


async def test_a_story_goes_out_exactly_once_whichever_step_its_worker_dies_at(
    loop: kills.Loop, account: Account, db: psycopg.Connection, settings: config.Settings, ada: int
) -> None:
    """It comes back without any words, so nothing but its container tells that it is out."""
    media = (a_picture(db, ada),)
    loop.shows_texts = False

    async def post(text: str) -> list[Delivery]:
        return scheduled(db, settings, ada, (await account(),), "", media=media, options=STORY)

    steps = await loop.at_every_step(post, "a story")
    assert set(steps) >= ON_THE_WAY
    assert (calls(steps, "/media"), calls(steps, "/media_publish")) == (1, 1)


async def test_a_lost_answer_to_a_story_is_looked_up_whichever_step_the_looking_worker_dies_at(
    loop: kills.Loop,
    account: Account,
    db: psycopg.Connection,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    media = (a_picture(db, ada),)
    loop.shows_texts = False

    async def post(text: str) -> list[Delivery]:
        [delivery] = scheduled(db, settings, ada, (await account(),), "", media=media, options=STORY)
        sandbox.faults.add("drop_after_commit", instance="instagram", **COMMIT)
        await sending.publish(loop.engine, delivery.id)
        assert status_of(db, delivery) == "unknown"
        return [delivery]

    steps = await loop.at_every_step(post, "a lost story")
    assert "committed: transitions.claim_to_look" in steps
    assert calls(steps, "/media_publish") == 0


@pytest.fixture
def asking(settings: config.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is shipped: what is absent is not sent again, a person is asked."""
    monkeypatch.setenv("POSTFLOW_INSTAGRAM_REPUBLISH", "ask")
    monkeypatch.setitem(platforms.REGISTRY, "instagram", Instagram(config.load()))


async def test_where_a_person_is_asked_nothing_is_sent_again_whichever_step_the_looking_worker_dies_at(
    asking: None,
    loop: kills.Loop,
    account: Account,
    db: psycopg.Connection,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    media = (a_picture(db, ada),)
    loop.stride_s = 610
    loop.ends = {"attention": 0}

    async def post(text: str) -> list[Delivery]:
        [delivery] = scheduled(db, settings, ada, (await account(),), text, media=media)
        sandbox.faults.add("drop_before", instance="instagram", **COMMIT)
        await sending.publish(loop.engine, delivery.id)
        assert status_of(db, delivery) == "unknown"
        return [delivery]

    steps = await loop.at_every_step(post, "ask")
    assert calls(steps, "/media_publish") == 0
    assert "in transaction: transitions.mark_attention" in steps


async def test_where_a_person_is_asked_a_picture_is_out_once_or_a_question_whichever_step_its_worker_dies_at(
    asking: None, loop: kills.Loop, account: Account, db: psycopg.Connection, settings: config.Settings, ada: int
) -> None:
    """A question only where the worker died between writing down that it sends and sending."""
    media = (a_picture(db, ada),)
    loop.stride_s = 610
    loop.ends = {"published": 1, "attention": 0}

    async def post(text: str) -> list[Delivery]:
        return scheduled(db, settings, ada, (await account(),), text, media=media)

    steps = await loop.at_every_step(post, "asked about")
    [gone] = [number for number, step in enumerate(steps) if step.startswith("all out") and "/media_publish" in step]
    between = gone - steps.index("committed: transitions.claim_to_send")
    assert db.execute("SELECT count(*) FROM deliveries WHERE status = 'attention'").fetchone() == (between,)


def a_video(conn: psycopg.Connection, user_id: int) -> int:
    data = mp4(720, 1280)
    row = conn.execute(
        "INSERT INTO media (user_id, filename, kind, mime, size_bytes, width, height, duration_s, sha256)"
        " VALUES (%s, 'waves.mp4', 'video', 'video/mp4', %s, 720, 1280, 12.5, 'x') RETURNING id",
        [user_id, len(data)],
    ).fetchone()
    assert row
    conn.execute("INSERT INTO media_files VALUES (%s, '', 'video/mp4', 720, 1280, %s)", [row[0], data])
    return row[0]
