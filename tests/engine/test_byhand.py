"""The commands an operator runs by hand, as they are met: by their output and exit code, on a real database."""

import asyncio
import re
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from click.testing import CliRunner, Result

from postflow import cli, config
from postflow.engine import Engine
from postflow.publishing import sending
from sandbox import Sandbox
from tests.engine.conftest import an_account, scheduled, status_of
from tests.engine.connected import connected


async def run(*args: str) -> Result:
    """In a thread: the command has an event loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, cli.main, args)


async def test_due_publishes_what_is_due_without_any_worker_and_says_where(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "by-hand")
    [due] = scheduled(db, settings, ada, (account,), "sent by hand")
    [later] = scheduled(db, settings, ada, (account,), "not yet", at=datetime.now(UTC) + timedelta(hours=1))
    result = await run("due")
    assert result.exit_code == 0, result.output
    assert re.fullmatch(rf"{due.id}  @by-hand  published: http://\S+\n", result.stdout)
    assert (status_of(db, due), status_of(db, later)) == ("published", "scheduled")
    assert (await run("due")).stdout == "Nothing is due.\n"
    assert sandbox.ledger.times_published("sent by hand") == 1


async def test_due_only_lists_when_asked_to(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "dry")
    [due] = scheduled(db, settings, ada, (account,), "only listed")
    result = await run("due", "--dry-run")
    assert "@dry  scheduled  'only listed'" in result.stdout
    assert status_of(db, due) == "scheduled"
    assert sandbox.ledger.times_published("only listed") == 0


async def test_two_commands_and_a_worker_at_once_send_once(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "crowded")
    [due] = scheduled(db, settings, ada, (account,), "three at once")
    sandbox.faults.add("slow", instance="mastodon", path="/api/v1/statuses$", seconds=0.2)
    await asyncio.gather(sending.publish(engine, due.id), run("due"), run("due"))
    assert sandbox.ledger.times_published("three at once") == 1
    assert status_of(db, due) == "published"


async def test_due_takes_up_what_a_dead_worker_was_sending(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "orphaned")
    [due] = scheduled(db, settings, ada, (account,), "its worker is gone")
    sandbox.faults.add("drop_after_commit", instance="mastodon", method="POST", path="/api/v1/statuses$")
    await sending.publish(engine, due.id)
    assert status_of(db, due) == "unknown"
    assert "published: http" in (await run("due")).stdout
    assert sandbox.ledger.times_published("its worker is gone") == 1


async def test_due_ends_with_1_and_the_reason_when_a_network_refuses(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "refused-by-hand")
    scheduled(db, settings, ada, (account,), "refused by hand")
    sandbox.faults.add("status", instance="mastodon", method="POST", path="/api/v1/statuses$", status=403, body="json")
    result = await run("due")
    assert result.exit_code == 1
    assert "@refused-by-hand  failed: The server refused it" in result.stdout


async def test_due_says_which_account_holds_a_post(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "held-by-hand")
    scheduled(db, settings, ada, (account,), "held")
    db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Gone.'")
    result = await run("due")
    assert (result.exit_code, "must be connected again first" in result.stdout) == (0, True)


async def test_refresh_tokens_counts_and_names_each_account_that_failed(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    soon = timedelta(days=20)
    await connected(db, engine, sandbox, ada, "pixelfed", "renewed", left=soon)
    await connected(db, engine, sandbox, ada, "pixelfed", "withdrawn", left=soon)
    await connected(db, engine, sandbox, ada, "mastodon", "endless")
    sandbox.revoke_tokens("withdrawn")
    result = await run("refresh-tokens")
    first, *failures = result.stdout.splitlines()
    assert (result.exit_code, first) == (1, "checked 3, refreshed 1, failed 1")
    assert failures == ["@withdrawn: The account's access was withdrawn."]
    assert (await run("refresh-tokens")).stdout == "checked 2, refreshed 0, failed 0\n"


@pytest.mark.parametrize("command", ["due", "refresh-tokens"])
async def test_an_old_schema_is_a_sentence(
    command: str, settings: config.Settings, empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    result = await run(command)
    assert (result.exit_code, result.stderr) == (
        1,
        "Error: The database has no PostFlow tables yet; run: postflow migrate\n",
    )
