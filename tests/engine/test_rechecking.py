"""The look after a second send, on its own: when it comes, what it takes for a double, and when it is left."""

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from postflow import db as database
from postflow.engine import Engine
from postflow.models import Delivery, Receipt
from postflow.publishing import rechecking, sending
from sandbox import Sandbox
from tests.engine.conftest import an_account, scheduled
from tests.engine.test_outcomes import row

LISTS = {"method": "GET", "path": "/statuses$"}
TEXT = "is it out twice?"


@pytest.fixture
async def account(db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int) -> int:
    return await an_account(db, engine, sandbox, ada, "mastodon-4.1", "twice")


@pytest.fixture
async def out(db: psycopg.Connection, engine: Engine, ada: int, account: int) -> Delivery:
    """Published now, first sent some minutes ago, and to be looked at."""
    for text in ("out before it", TEXT):
        [made] = scheduled(db, engine.settings, ada, (account,), text)
        done = await sending.publish(engine, made.id)
    assert done
    db.execute("INSERT INTO rechecks VALUES (%s, now(), now() - interval '5 minutes')", [done.id])
    return done


async def is_out_twice(db: psycopg.Connection, engine: Engine, ada: int, account: int) -> tuple[str, str]:
    """(id, address) of the other one, of which no row of ours knows."""
    [made] = scheduled(db, engine.settings, ada, (account,), TEXT)
    other = await sending.publish(engine, made.id)
    assert other and other.remote_id and other.permalink
    db.execute("DELETE FROM posts WHERE id = %s", [made.post_id])
    return other.remote_id, other.permalink


def planned(db: psycopg.Connection) -> list[tuple[Any, ...]]:
    """(looks, seconds until the next one)"""
    rows = db.execute("SELECT looks, extract(epoch FROM look_at - clock_timestamp())::float8 FROM rechecks").fetchall()
    return [(looks, round(in_s, -2)) for looks, in_s in rows]


async def test_nothing_is_found_twice_and_it_is_left_after_a_second_look(
    db: psycopg.Connection, engine: Engine, out: Delivery
) -> None:
    before = row(db, out)
    await rechecking.recheck(engine, out.id)
    assert planned(db) == [(1, rechecking.LAST_LOOK_S)]
    await rechecking.recheck(engine, out.id)
    assert planned(db) == []
    assert row(db, out) == before
    assert db.execute("SELECT count(*) FROM notices").fetchone() == (0,)


async def test_a_double_is_told_with_both_addresses_and_looked_for_no_more(
    db: psycopg.Connection, engine: Engine, ada: int, account: int, out: Delivery
) -> None:
    _, theirs = await is_out_twice(db, engine, ada, account)
    await rechecking.recheck(engine, out.id)
    told = f"It seems to be on the account twice: {out.permalink} and {theirs}. Delete one of them there."
    now = row(db, out)
    assert (now.status, now.notes, now.error_code) == ("published", (told,), "out_twice")
    [(kind, body)] = db.execute("SELECT kind, body FROM notices").fetchall()
    assert (kind, told in body) == ("delivery-twice", True)
    assert planned(db) == []
    await rechecking.recheck(engine, out.id)
    assert row(db, out) == now


@pytest.mark.parametrize("known", [True, False])
async def test_one_whose_address_nobody_knows_is_told_by_its_id(
    known: bool, db: psycopg.Connection, engine: Engine, out: Delivery
) -> None:
    async with engine.pool.connection() as conn:
        plan = await rechecking._planned(conn, out.id)
    assert plan
    nowhere = out.model_copy(update={"permalink": None})
    await rechecking._done(
        engine,
        plan,
        out if known else nowhere,
        Receipt(remote_id="2", permalink="https://b" if known else None),
        last=True,
    )
    both = f"{out.permalink} and https://b" if known else f"{out.remote_id} and 2"
    assert f"twice: {both}. " in row(db, out).notes[0]


@pytest.mark.parametrize("what", ["no plan", "no longer published", "no id"])
async def test_what_is_not_to_be_looked_at_is_not_asked_for(
    what: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, out: Delivery
) -> None:
    change = {
        "no plan": "DELETE FROM rechecks",
        "no longer published": "UPDATE deliveries SET status = 'failed', error = 'No.', published_at = NULL",
        "no id": "UPDATE deliveries SET remote_id = NULL",
    }[what]
    db.execute(change.encode())
    before, asked = planned(db), len(sandbox.ledger.requests())
    await rechecking.recheck(engine, out.id)
    assert len(sandbox.ledger.requests()) == asked
    assert planned(db) == before


@pytest.mark.parametrize("what", ["nothing prepared", "no words", "no such network"])
async def test_what_cannot_be_told_from_others_is_left_as_it_is(
    what: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, out: Delivery
) -> None:
    change = {
        "nothing prepared": "UPDATE deliveries SET staged = NULL, staged_at = NULL",
        "no words": """UPDATE posts SET content = jsonb_set(content, '{text}', '" "')""",
        "no such network": "UPDATE accounts SET platform = 'gone'",
    }[what]
    db.execute(change.encode())
    before, asked = row(db, out), len(sandbox.ledger.requests())
    await rechecking.recheck(engine, out.id)
    assert len(sandbox.ledger.requests()) == asked
    assert (planned(db), row(db, out)) == ([], before)


@pytest.mark.parametrize("trouble", ["a fault", "half a list"])
async def test_who_could_not_look_has_not_looked(
    trouble: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, out: Delivery
) -> None:
    before = planned(db)
    if trouble == "a fault":
        sandbox.faults.add("status", **LISTS, status=502, times=None)
    else:
        sandbox.faults.add("short_list", **LISTS, times=None)
    await rechecking.recheck(engine, out.id)
    assert planned(db) == before


async def test_a_look_has_its_end(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, out: Delivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rechecking, "LOOK_S", 0.1)
    sandbox.faults.add("slow", **LISTS, seconds=1.5)
    before = planned(db)
    await rechecking.recheck(engine, out.id)
    assert planned(db) == before


# -- by turns ----------------------------------------------------------------------------------------------


async def test_each_comes_again_while_nobody_has_looked_and_is_left_after_a_day(
    db: psycopg.Connection, engine: Engine, out: Delivery
) -> None:
    async with engine.pool.connection() as conn:
        assert await rechecking.due(conn) == [out.id]
        assert planned(db) == [(0, rechecking.AGAIN_S)]
        assert await rechecking.due(conn) == [], "somebody has just been told"
        db.execute("UPDATE rechecks SET look_at = now(), since = now() - interval '23 hours'")
        assert await rechecking.due(conn) == [out.id]
        db.execute("UPDATE rechecks SET look_at = now(), since = now() - interval '25 hours'")
        assert await rechecking.due(conn) == []
    assert planned(db) == []


async def test_of_two_that_look_at_once_one_tells(db: psycopg.Connection, engine: Engine, out: Delivery) -> None:
    async with engine.pool.connection() as conn:
        [plan] = [await rechecking._planned(conn, out.id)]
    assert plan
    double = Receipt(remote_id="2", permalink="https://social.example/2")
    for _ in range(2):
        await rechecking._done(engine, plan, out, double, last=False)
    assert len(row(db, out).notes) == 1
    assert db.execute("SELECT count(*) FROM notices").fetchone() == (1,)


async def test_of_what_is_published_no_more_nobody_is_told(
    db: psycopg.Connection, engine: Engine, out: Delivery
) -> None:
    async with engine.pool.connection() as conn:
        plan = await rechecking._planned(conn, out.id)
    assert plan
    db.execute("UPDATE deliveries SET status = 'failed', error = 'No.', published_at = NULL")
    await rechecking._done(engine, plan, out, Receipt(remote_id="2"), last=True)
    assert row(db, out).notes == ()
    assert db.execute("SELECT count(*) FROM notices").fetchone() == (0,)


async def test_a_first_look_is_planned_some_minutes_after_the_second_send(
    db: psycopg.Connection, engine: Engine, out: Delivery
) -> None:
    db.execute("DELETE FROM rechecks")
    db.execute("INSERT INTO delivery_events (delivery_id, status, sentence) VALUES (%s, 'unknown', '?')", [out.id])
    db.execute("INSERT INTO delivery_events (delivery_id, status, sentence) VALUES (%s, 'sending', '!')", [out.id])
    before = database.now(db)
    async with engine.pool.connection() as conn:
        await rechecking.plan(conn, out)
    [(look_at,)] = db.execute("SELECT look_at FROM rechecks").fetchall()
    assert before <= look_at - timedelta(seconds=300) <= database.now(db)
