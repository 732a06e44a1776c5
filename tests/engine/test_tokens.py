"""Access that is renewed in time, and what happens when it is not. Each network against the sandbox's own tokens."""

import asyncio
import dataclasses
from collections import defaultdict
from datetime import timedelta

import psycopg
import pytest

from postflow import config, platforms
from postflow import db as database
from postflow.accounts import accounts
from postflow.connections import token_refresh
from postflow.engine import Engine
from postflow.platforms.instagram import Instagram
from postflow.publishing import preparing, sending
from sandbox import Sandbox
from tests.engine.conftest import a_picture, scheduled
from tests.engine.connected import connected, state_of, token_of

Steps = defaultdict[str, asyncio.Event]
SOON = timedelta(days=20)


@pytest.fixture(autouse=True)
def _instagram(settings: config.Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the settings of its process: these, for this test."""
    monkeypatch.setitem(platforms.REGISTRY, "instagram", Instagram(settings))


@pytest.fixture
def steps(engine: Engine) -> Steps:
    """An event for each named step, set when the engine gets there."""
    events: Steps = defaultdict(asyncio.Event)
    object.__setattr__(engine, "reached", lambda step: events[step].set())
    return events


@pytest.mark.parametrize("instance", ["pixelfed", "instagram"])
async def test_a_token_that_ends_soon_is_renewed_and_the_new_one_opens_the_account(
    instance: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    account = await connected(db, engine, sandbox, ada, instance, f"soon-{instance}", left=SOON)
    old = token_of(db, engine, account)
    sandbox.advance(2 * 86400)
    assert (await token_refresh.refresh(engine, account.id)).state == "refreshed"
    assert token_of(db, engine, account) != old
    row = db.execute("SELECT token_expires_at > now() + interval '50 days' FROM accounts").fetchone()
    assert row == (True,)
    assert (await token_refresh.refresh(engine, account.id)).state == "fresh"
    db.execute("UPDATE accounts SET verified_at = NULL")
    await token_refresh.verify(engine, account.id)
    assert db.execute("SELECT verified_at IS NOT NULL, state FROM accounts").fetchone() == (True, "active")


@pytest.mark.parametrize(
    ("instance", "left", "age"),
    [
        ("instagram", timedelta(days=40), timedelta(days=2)),  # time enough
        ("instagram", timedelta(days=20), timedelta(hours=23)),  # too young to be refreshed
        ("pixelfed", timedelta(days=40), timedelta(days=2)),
        ("mastodon", None, timedelta(days=900)),  # never ends
    ],
)
async def test_a_token_with_time_left_is_left_alone(
    instance: str,
    left: timedelta | None,
    age: timedelta,
    db: psycopg.Connection,
    engine: Engine,
    sandbox: Sandbox,
    ada: int,
) -> None:
    account = await connected(db, engine, sandbox, ada, instance, f"fresh-{instance}-{age.days}", left=left, age=age)
    asked = len(sandbox.ledger.requests(instance=instance))
    assert (await token_refresh.refresh(engine, account.id)).state == "fresh"
    assert len(sandbox.ledger.requests(instance=instance)) == asked


async def test_a_rotating_token_is_not_renewed_while_a_post_is_being_sent(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await connected(db, engine, sandbox, ada, "pixelfed", "sending", left=SOON)
    [delivery] = scheduled(db, settings, ada, (account.id,), "under way", media=(a_picture(db, ada),))
    await preparing.prepare(engine, delivery.id)
    db.execute(
        "UPDATE deliveries SET status = 'sending', claim = 'other', attempt_no = 1, sent_at = now(), first_sent_at = now()"
    )
    assert (await token_refresh.refresh(engine, account.id)).state == "busy"
    assert not sandbox.ledger.requests(instance="pixelfed", path="/oauth/token")


async def test_two_refreshes_at_once_burn_no_rotating_token(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    account = await connected(db, engine, sandbox, ada, "pixelfed", "twice", left=SOON)
    sandbox.faults.add("slow", instance="pixelfed", path="/oauth/token", seconds=0.3)
    both = await asyncio.gather(token_refresh.refresh(engine, account.id), token_refresh.refresh(engine, account.id))
    assert sorted(one.state for one in both) == ["busy", "refreshed"]
    assert state_of(db, account) == ("active", None)


async def test_a_lost_answer_that_renewed_nothing_leaves_the_account_working(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    account = await connected(db, engine, sandbox, ada, "pixelfed", "lost-before", left=SOON)
    sandbox.faults.add("drop_before", instance="pixelfed", path="/oauth/token")
    assert (await token_refresh.refresh(engine, account.id)).state == "failed"
    assert state_of(db, account)[0] == "active"
    assert (await token_refresh.refresh(engine, account.id)).state == "refreshed"
    assert state_of(db, account) == ("active", None)


async def test_a_lost_answer_that_rotated_the_pair_asks_for_connecting_again(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    account = await connected(db, engine, sandbox, ada, "pixelfed", "lost-after", left=SOON)
    sandbox.faults.add("drop_after_commit", instance="pixelfed", path="/oauth/token")
    assert (await token_refresh.refresh(engine, account.id)).state == "failed"
    state, reason = state_of(db, account)
    assert state == "needs_reconnect" and reason and "no longer works" in reason


async def test_a_refused_refresh_keeps_using_the_token_that_still_opens_the_account(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await connected(db, engine, sandbox, ada, "instagram", "stubborn", left=SOON)
    sandbox.advance(2 * 86400)
    sandbox.faults.add("graph_error", instance="instagram", path="refresh_access_token", code=190, status=400)
    outcome = await token_refresh.refresh(engine, account.id)
    assert outcome.state == "failed" and outcome.sentence
    state, reason = state_of(db, account)
    assert state == "active" and reason == outcome.sentence


async def test_a_refused_refresh_takes_one_connection_at_a_time(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    dead = await connected(db, engine, sandbox, ada, "pixelfed", "dead-alone", left=SOON)
    stubborn = await connected(db, engine, sandbox, ada, "pixelfed", "stubborn-alone", left=SOON)
    sandbox.revoke_tokens("dead-alone")
    sandbox.faults.add("drop_before", instance="pixelfed", path="/oauth/token", times=2)
    async with database.async_pool(settings.database_url.get_secret_value(), max_size=1) as narrow:
        alone = dataclasses.replace(engine, pool=narrow)
        for account, state in ((dead, "needs_reconnect"), (stubborn, "active")):
            assert (await token_refresh.refresh(alone, account.id)).state == "failed"
            assert state_of(db, account)[0] == state


@pytest.mark.parametrize("instance", ["pixelfed", "instagram"])
async def test_a_refused_refresh_of_a_dead_token_says_so_on_the_account(
    instance: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    account = await connected(db, engine, sandbox, ada, instance, f"dead-{instance}", left=SOON)
    sandbox.revoke_tokens(f"dead-{instance}")
    outcome = await token_refresh.refresh(engine, account.id)
    assert outcome.state == "failed"
    state, reason = state_of(db, account)
    assert state == "needs_reconnect" and reason and outcome.sentence in reason


async def test_a_worker_that_dies_between_answer_and_saving_is_noticed_at_the_next_refresh(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    account = await connected(db, engine, sandbox, ada, "pixelfed", "crashed", left=SOON)

    class Died(BaseException):
        pass

    def die(step: str) -> None:
        if step == "renewed":
            raise Died

    object.__setattr__(engine, "reached", die)
    with pytest.raises(Died):
        await token_refresh.refresh(engine, account.id)
    object.__setattr__(engine, "reached", lambda step: None)
    assert state_of(db, account)[0] == "active"
    assert (await token_refresh.refresh(engine, account.id)).state == "failed"
    assert state_of(db, account)[0] == "needs_reconnect"


async def test_a_refresh_that_is_told_to_stop_still_stores_what_it_was_given(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, steps: Steps
) -> None:
    account = await connected(db, engine, sandbox, ada, "pixelfed", "stopped", left=SOON)
    old = token_of(db, engine, account)
    sandbox.faults.add("slow", instance="pixelfed", path="/oauth/token", seconds=0.3, when="after")
    refreshing = asyncio.create_task(token_refresh.refresh(engine, account.id))
    await steps["refreshing"].wait()
    refreshing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await refreshing
    assert token_of(db, engine, account) != old


async def test_a_401_of_a_former_token_says_nothing_of_the_one_stored_now(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    steps: Steps,
) -> None:
    account = await connected(db, engine, sandbox, ada, "pixelfed", "overtaken", left=SOON)
    [delivery] = scheduled(db, settings, ada, (account.id,), "with yesterday's token", media=(a_picture(db, ada),))
    await preparing.prepare(engine, delivery.id)
    sandbox.faults.add("slow", instance="pixelfed", path="/api/v1/statuses$", seconds=0.5, when="before")
    under_way = asyncio.create_task(sending.publish(engine, delivery.id))
    await steps["sending"].wait()
    db.execute("UPDATE deliveries SET status = 'ready' WHERE id = %s", [delivery.id])  # the lock looks away for once
    assert (await token_refresh.refresh(engine, account.id)).state == "refreshed"
    db.execute("UPDATE deliveries SET status = 'sending' WHERE id = %s", [delivery.id])
    assert await under_way is None
    assert state_of(db, account) == ("active", None)
    db.execute("UPDATE deliveries SET not_before = NULL")
    assert await sending.publish(engine, delivery.id)
    assert sandbox.ledger.times_published("with yesterday's token") == 1


async def test_a_renewal_brings_back_what_a_401_of_the_dying_token_took_away(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await connected(db, engine, sandbox, ada, "pixelfed", "in-between", left=SOON)
    [delivery] = scheduled(db, settings, ada, (account.id,), "waits a moment", media=(a_picture(db, ada),))
    db.execute("DELETE FROM procrastinate_jobs")

    def reached(step: str) -> None:
        if step == "renewed":
            db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'withdrawn'")

    assert (await token_refresh.refresh(dataclasses.replace(engine, reached=reached), account.id)).state == "refreshed"
    assert state_of(db, account) == ("active", None)
    jobs = db.execute("SELECT task_name, (args->>'delivery_id')::bigint FROM procrastinate_jobs").fetchall()
    assert jobs == [("publish", delivery.id)]
    assert await sending.publish(engine, delivery.id)


async def test_an_account_whose_server_refused_everybody_for_a_while_comes_back_by_itself(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await connected(db, engine, sandbox, ada, "mastodon", "outage")
    [delivery] = scheduled(db, settings, ada, (account.id,), "through the outage")
    theirs = "^/api/v1/(accounts|media|statuses)"  # the server itself answers, or it would be a gateway's word
    outage = sandbox.faults.add("status", instance="mastodon", path=theirs, times=None, status=401, body="json")
    await sending.publish(engine, delivery.id)
    await token_refresh.verify(engine, account.id)
    assert state_of(db, account)[0] == "needs_reconnect"
    sandbox.faults.clear(outage)
    db.execute("DELETE FROM procrastinate_jobs")
    async with engine.pool.connection() as conn:
        assert await token_refresh.active_accounts(conn) == []
        assert await token_refresh.accounts_in_use(conn) == [account.id]
    await token_refresh.verify(engine, account.id)
    assert state_of(db, account) == ("active", None)
    jobs = db.execute("SELECT task_name, (args->>'delivery_id')::bigint FROM procrastinate_jobs").fetchall()
    assert jobs == [("publish", delivery.id)]
    assert await sending.publish(engine, delivery.id)
    assert sandbox.ledger.times_published("through the outage") == 1


async def test_a_former_token_that_answers_does_not_speak_for_the_one_stored_now(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    account = await connected(db, engine, sandbox, ada, "mastodon", "not-mine")
    async with engine.pool.connection() as conn:
        old = await accounts.login(conn, account.id, engine.settings.encryption_keys)
        await connected(db, engine, sandbox, ada, "mastodon", "not-mine")
        db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Dead.'")
        assert not await accounts.note_verified(conn, old)
    assert state_of(db, account) == ("needs_reconnect", "Dead.")
