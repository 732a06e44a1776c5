"""One delivery's way, on a real database against the sandbox: outcomes confirmed, refused and unknown."""

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.publishing import outgoing, preparing, reconciling, sending, sweeping, transitions
from sandbox import Sandbox
from tests.engine.conftest import a_picture, an_account, scheduled, status_of


async def test_a_text_goes_out_once_and_keeps_its_link(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "ada")
    [delivery] = scheduled(db, settings, ada, (account,), "once and only once")
    done = await sending.publish(engine, delivery.id)
    assert done and done.permalink and done.remote_id
    await sending.publish(engine, delivery.id)  # a second wake-up finds nothing to do
    assert sandbox.ledger.times_published("once and only once") == 1


@pytest.mark.parametrize("instance", ["mastodon", "pixelfed", "gotosocial", "mastodon-4.1"])
async def test_a_picture_arrives_with_its_description(
    instance: str,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    account = await an_account(db, engine, sandbox, ada, instance, f"pic-{instance}")
    text = f"a picture on {instance}"
    [delivery] = scheduled(db, settings, ada, (account,), text, media=(a_picture(db, ada),))
    assert await sending.publish(engine, delivery.id)
    [status] = sandbox.ledger.statuses(text=text)
    assert [media.alt_text for media in status.media] == ["the sea"]


async def test_a_thread_keeps_its_order_and_its_parents(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "threader")
    first, second = scheduled(db, settings, ada, (account,), "part one", thread=("part two",))
    assert await sending.publish(engine, second.id) is None  # the first part is not out yet
    one = await sending.publish(engine, first.id)
    two = await sending.publish(engine, second.id)
    assert one and two
    [status] = sandbox.ledger.statuses(text="part two")
    assert status.in_reply_to_id == one.remote_id


async def test_a_part_gathered_before_the_part_before_it_went_out_does_not_leave_without_its_parent(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "hasty-threader")
    first, second = scheduled(db, settings, ada, (account,), "hasty one", thread=("hasty two",))
    ready = await preparing.prepare(engine, second.id)
    assert ready
    gathered = await outgoing.gather(engine.pool, ready, settings, with_data=False)
    one = await sending.publish(engine, first.id)
    assert one
    async with engine.pool.connection() as conn:
        early = await transitions.claim_to_send(
            conn, ready, "early", 30, "alike", gathered.reply_to_remote_id, pace_s=0
        )
    assert early is None
    assert await sending.publish(engine, second.id)
    [status] = sandbox.ledger.statuses(text="hasty two")
    assert status.in_reply_to_id == one.remote_id


async def test_an_answer_lost_after_the_commit_is_found_and_not_sent_again(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "loser")
    [delivery] = scheduled(db, settings, ada, (account,), "the answer gets lost")
    sandbox.faults.add("drop_after_commit", instance="mastodon", method="POST", path="/api/v1/statuses$", times=1)
    assert await sending.publish(engine, delivery.id) is None
    assert status_of(db, delivery) == "unknown"
    found = await reconciling.reconcile(engine, delivery.id)
    assert found and found.status == "published"
    assert sandbox.ledger.times_published("the answer gets lost") == 1


async def test_a_refusal_says_why_and_is_not_tried_again(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "refused")
    [delivery] = scheduled(db, settings, ada, (account,), "refused at the door")
    sandbox.faults.add(
        "status", instance="mastodon", method="POST", path="/api/v1/statuses$", times=1, status=403, body="json"
    )
    assert await sending.publish(engine, delivery.id) is None
    row = db.execute("SELECT status, error FROM deliveries WHERE id = %s", [delivery.id]).fetchone()
    assert row and row[0] == "failed" and row[1]
    assert sandbox.ledger.times_published("refused at the door") == 0


async def test_a_worker_that_died_while_sending_leaves_an_unknown(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "dying")
    [delivery] = scheduled(db, settings, ada, (account,), "its worker died")
    await preparing.prepare(engine, delivery.id)
    db.execute(
        "UPDATE deliveries SET status = 'sending', claim = 'dead', attempt_no = 1, sent_at = now(), first_sent_at = now(),"
        " wake_at = now() - interval '1 second' WHERE id = %s",
        [delivery.id],
    )
    found = await sweeping.sweep(engine)
    assert found["sending"] == 1
    assert status_of(db, delivery) == "unknown"
