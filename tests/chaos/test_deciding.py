"""What a person sees on an account where posts say the same."""

import re

import httpx
import psycopg

from chaos.decisions import seen
from chaos.rows import rows_of
from postflow import config
from postflow.engine import Engine
from postflow.publishing import sending
from sandbox import Sandbox
from tests.engine.conftest import *  # noqa: F403 their fixtures
from tests.engine.conftest import an_account, scheduled

TEXT = "Chaos post 00007.0, version 1"


async def test_a_status_that_another_post_is_known_to_be_somewhere_by_is_not_taken_for_this_one(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "gotosocial", "seen")
    first, second = (scheduled(db, settings, ada, (account,), TEXT)[0] for _ in range(2))
    mine = next(row for row in rows_of(db, {}) if row.id == second.id)
    assert seen(db, sandbox, mine) is None
    token = sandbox.add_account("gotosocial", "seen").access_token
    async with httpx.AsyncClient(base_url=sandbox.url("gotosocial")) as http:
        said = await http.post("/api/v1/statuses", headers={"Authorization": f"Bearer {token}"}, data={"status": TEXT})
    assert said.is_success
    there = seen(db, sandbox, mine)
    assert there
    db.execute(
        "UPDATE deliveries SET status = 'published', wake_at = NULL, published_at = now() WHERE id = %s", [first.id]
    )
    assert seen(db, sandbox, mine) is None, "it is out, and nobody knows where"
    db.execute("UPDATE deliveries SET remote_id = %s WHERE id = %s", [there.id, first.id])
    assert seen(db, sandbox, mine) is None


async def test_a_row_tells_how_its_last_attempt_ended(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "ended")
    [made] = scheduled(db, settings, ada, (account,), TEXT)
    assert [row.last_end for row in rows_of(db, {})] == [None]
    sandbox.faults.add("drop_before", method="POST", path="/statuses$")
    assert await sending.publish(engine, made.id) is None
    [told] = [row.last_end for row in rows_of(db, {})]
    assert told and re.fullmatch(r"answer_lost, \w+Error, after \d+\.\d s", told)
