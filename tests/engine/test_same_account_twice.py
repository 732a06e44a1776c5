"""Two people have connected the same account of a network, and posts with the same words: each status has one owner, and
none is found twice, however answers get lost.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.posts import deliveries
from postflow.publishing import preparing, reconciling, sending
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import an_account, scheduled, status_of

COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}
NETWORKS = ["mastodon", "mastodon-4.1"]

pytestmark = pytest.mark.parametrize("network", NETWORKS)


@pytest.fixture
async def shared(
    network: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, bob: int
) -> tuple[int, int]:
    """The same account there, connected by Ada and by Bob."""
    handle = f"shared-{network}"
    hers = await an_account(db, engine, sandbox, ada, network, handle)
    return hers, await an_account(db, engine, sandbox, bob, network, handle)


def remote_ids(conn: psycopg.Connection, *deliveries: Delivery) -> list[str | None]:
    rows = conn.execute(
        "SELECT remote_id FROM deliveries WHERE id = ANY(%s) ORDER BY id", [[one.id for one in deliveries]]
    )
    return [row[0] for row in rows.fetchall()]


async def test_what_is_one_persons_is_never_found_to_be_the_others(
    network: str,
    shared: tuple[int, int],
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    bob: int,
) -> None:
    """Hers is out. His never arrived, and has the same words."""
    text = f"the same words of two people on {network}"
    [his] = scheduled(db, settings, bob, (shared[1],), text)
    assert await preparing.prepare(engine, his.id)
    [hers] = scheduled(db, settings, ada, (shared[0],), text)
    assert await sending.publish(engine, hers.id)
    sandbox.faults.add("drop_before", instance=network, **COMMIT)
    assert await sending.publish(engine, his.id) is None
    await lifetime.to_rest(engine, db, [hers.id, his.id])
    assert [status_of(db, one) for one in (hers, his)] == ["published", "published"]
    assert sandbox.ledger.times_published(text) == 2
    assert len(set(remote_ids(db, hers, his))) == 2


@pytest.mark.parametrize("lost", [("drop_before", "drop_after_commit"), ("drop_after_commit", "drop_before")])
@pytest.mark.parametrize("people", ["one", "two"])
async def test_two_posts_with_the_same_words_are_not_in_doubt_at_once(
    network: str,
    people: str,
    lost: tuple[str, str],
    shared: tuple[int, int],
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    bob: int,
) -> None:
    text = f"twice the same {network} {people} {lost[0]}"
    [first] = scheduled(db, settings, ada, (shared[0],), text)
    other = (ada, shared[0]) if people == "one" else (bob, shared[1])
    [second] = scheduled(db, settings, other[0], (other[1],), f" {text.upper()}!")
    assert await preparing.prepare(engine, second.id)
    for kind in lost:
        sandbox.faults.add(kind, instance=network, **COMMIT)
    assert await sending.publish(engine, first.id) is None
    assert await sending.publish(engine, second.id) is None
    assert [status_of(db, one) for one in (first, second)] == ["unknown", "ready"], "the second waits for the first"
    await lifetime.to_rest(engine, db, [first.id, second.id])
    sandbox.faults.clear()
    assert [status_of(db, one) for one in (first, second)] == ["published", "published"]
    out = sandbox.ledger.times_published(text) + sandbox.ledger.times_published(f"{text.upper()}!")
    assert out == 2
    assert len(set(remote_ids(db, first, second))) == 2


async def test_of_two_workers_with_posts_of_the_same_words_one_sends_at_a_time(
    network: str,
    shared: tuple[int, int],
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    bob: int,
) -> None:
    text = f"at the same instant {network}"
    [hers] = scheduled(db, settings, ada, (shared[0],), text)
    [his] = scheduled(db, settings, bob, (shared[1],), text)
    for one in (hers, his):
        assert await preparing.prepare(engine, one.id)
    sandbox.faults.add("slow", instance=network, seconds=0.4, when="after", times=2, **COMMIT)
    sent = await asyncio.gather(sending.publish(engine, hers.id), sending.publish(engine, his.id))
    assert sum(one is not None for one in sent) == 1
    assert sorted(status_of(db, one) for one in (hers, his)) == ["published", "ready"]
    await lifetime.to_rest(engine, db, [hers.id, his.id])
    assert sandbox.ledger.times_published(text) == 2


async def test_beside_one_that_waits_for_its_person_words_alone_tell_nothing(
    network: str,
    shared: tuple[int, int],
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    bob: int,
) -> None:
    """Which of the two is out? Both are shown to their persons."""
    text = f"whose is it {network}"
    [hers] = scheduled(db, settings, ada, (shared[0],), text)
    [his] = scheduled(db, settings, bob, (shared[1],), text)
    sandbox.faults.add("drop_before", instance=network, **COMMIT)
    assert await sending.publish(engine, hers.id) is None
    db.execute("UPDATE deliveries SET status = 'attention', wake_at = NULL WHERE id = %s", [hers.id])
    sandbox.faults.add("drop_after_commit", instance=network, **COMMIT)
    assert await sending.publish(engine, his.id) is None
    await reconciling.reconcile(engine, his.id)
    assert [status_of(db, one) for one in (hers, his)] == ["attention", "attention"]
    assert sandbox.ledger.times_published(text) == 1


async def test_one_that_failed_and_is_asked_for_again_is_no_rival_of_one_in_doubt_with_the_same_words(
    network: str,
    shared: tuple[int, int],
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    """It keeps its likeness, which the claim writes anew; what it was sent before was refused, so nothing of it is out."""
    text = f"failed and asked for again {network}"
    [failed] = scheduled(db, settings, ada, (shared[0],), text)
    refused = sandbox.faults.add("status", instance=network, status=422, body="json", text="No.", times=None, **COMMIT)
    assert await sending.publish(engine, failed.id) is None
    assert status_of(db, failed) == "failed"
    sandbox.faults.clear(refused)
    [doubted] = scheduled(db, settings, ada, (shared[0],), text)
    sandbox.faults.add("drop_after_commit", instance=network, **COMMIT)
    assert await sending.publish(engine, doubted.id) is None
    later = datetime.now(UTC) + timedelta(hours=1)
    [again] = deliveries.ask_again(db, failed.id, later, "Again.")
    assert (again.status, again.sent_at, again.first_sent_at) == ("scheduled", None, None)
    assert await reconciling.reconcile(engine, doubted.id)
    assert status_of(db, doubted) == "published"


async def test_a_post_with_other_words_does_not_wait(
    network: str,
    shared: tuple[int, int],
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    [first] = scheduled(db, settings, ada, (shared[0],), f"in doubt {network}")
    [second] = scheduled(db, settings, ada, (shared[0],), f"not in doubt {network}")
    sandbox.faults.add("drop_before", instance=network, **COMMIT)
    assert await sending.publish(engine, first.id) is None
    assert await sending.publish(engine, second.id)
