"""No token, code or client secret in a page, a log line, a notice or anywhere readable in the database, whatever
networks answer. Every secret that the sandbox ever gave out is looked for.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from flask import Flask
from psycopg import sql
from pydantic import SecretStr

from postflow import config, logs
from postflow import db as database
from postflow.accounts import accounts
from postflow.connections import token_refresh
from postflow.engine import Engine, engine_over
from postflow.notifications import notices, sender
from postflow.publishing import reconciling, sending
from sandbox import Sandbox
from tests.engine.conftest import a_picture, scheduled
from tests.engine.mailbox import hook, mailbox
from tests.web.conftest import Browser
from tests.web.test_accounts import app, connect, consent

__all__ = ["app"]
NETWORKS = ("mastodon", "pixelfed", "instagram", "gotosocial")


@pytest.fixture
def settings(app: Flask) -> config.Settings:
    chosen: config.Settings = app.extensions["settings"]
    return chosen.model_copy(update={"log_level": "DEBUG", "settle_s": 0, "backoff_s": 0.01, "request_timeout_s": 3})


@pytest.fixture
def log_lines(settings: config.Settings, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    logs.configure(settings)
    caplog.set_level(logging.DEBUG)
    return caplog


Story = Callable[[Engine], Coroutine[Any, Any, Any]]


def worked(settings: config.Settings, story: Story) -> Any:
    """As a worker would; the pages must not be asked from within its loop."""

    async def work() -> Any:
        async with database.async_pool(settings.database_url.get_secret_value()) as pool:
            engine = engine_over(settings, pool)
            async with engine.http, engine.commit_http:
                return await story(engine)

    return asyncio.run(work())


def secrets_of(sandbox: Sandbox) -> set[str]:
    store = sandbox.network.store
    found = {*store.tokens, *store.by_refresh, *store.codes}
    found |= {app.client_secret for app in store.apps.values()}
    return found | {"sandbox-instagram-secret"}


def readable(conn: psycopg.Connection) -> str:
    """Every row of every table, as text."""
    names = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    dumped = []
    for (name,) in names:
        query = sql.SQL("SELECT t::text FROM {} AS t").format(sql.Identifier(name))
        dumped += [row[0] for row in conn.execute(query).fetchall()]
    return "\n".join(dumped)


def echo(sandbox: Sandbox, conn: psycopg.Connection, keys: Any, *, status: int, body: str) -> None:
    """Each server answers everything with all it knows of the account there. A 401 leaves out what a server says of
    itself: one that turns away everybody is taken for a gate in front of it, and costs no account its access.
    """
    spared = r"(?!/v\d/instance)" if status == 401 else ""
    rows = conn.execute("SELECT user_id, id FROM accounts WHERE sealed IS NOT NULL ORDER BY id").fetchall()
    for network, (user_id, account_id) in zip(NETWORKS, rows, strict=True):
        held = accounts.login_of(conn, user_id, account_id, keys)
        known = (held.credentials.refresh_token, held.credentials.access_token, held.app and held.app.client_secret)
        text = "You sent " + " and ".join(one.get_secret_value() for one in known if one)
        if network == "instagram":
            sandbox.faults.add("graph_error", instance=network, path="", method="", times=None, code=100, text=text)
        else:
            path = rf"^/(api{spared}|oauth/token)"
            sandbox.faults.add("status", instance=network, path=path, times=None, status=status, body=body, text=text)


def test_what_networks_give_out_is_nowhere_to_be_read(
    app: Flask,
    ada: Browser,
    sandbox: Sandbox,
    db: psycopg.Connection,
    settings: config.Settings,
    log_lines: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pages = [connect(ada, sandbox, network).text for network in NETWORKS]
    by_hand = sandbox.add_account("mastodon", "robin", scopes="profile")
    typed = {"mastodon.token.instance": sandbox.url("mastodon"), "mastodon.token.token": by_hand.access_token}
    pages.append(ada.post("/accounts/sign-in/mastodon/token", data=typed).text)
    [user_id], *_ = db.execute("SELECT id FROM users").fetchall()
    ids = [row[0] for row in db.execute("SELECT id FROM accounts ORDER BY id").fetchall()]
    assert len(ids) == len(NETWORKS)

    worked(settings, lambda engine: everything(engine, db, sandbox, user_id, ids, "all is well"))
    for status, body in ((422, "json"), (500, "html"), (400, "text"), (401, "json")):
        echo(sandbox, db, settings.encryption_keys, status=status, body=body)
        worked(settings, lambda engine: everything(engine, db, sandbox, user_id, ids, f"echoed: {body}"))  # noqa: B023
        pages.append(ada.send("/accounts/connect", instance=sandbox.url("mastodon")).text)
        sandbox.faults.clear()
        pages += [ada.get("/").text, ada.get("/?view=attention").text, ada.get("/accounts").text]
    for (post_id,) in db.execute("SELECT id FROM posts").fetchall():
        pages.append(ada.get(f"/posts/{post_id}").text)
    told = worked(settings, everything_told)

    secrets = secrets_of(sandbox)
    assert len(secrets) >= 15
    assert db.execute("SELECT count(*) FROM accounts WHERE state = 'needs_reconnect'").fetchone() == (3,)
    assert db.execute("SELECT count(*) > 5 FROM notices").fetchone() == (True,)
    assert "needs reconnecting" in log_lines.text and "You sent …" in readable(db)
    shown = {"pages": "".join(pages), "logs": log_lines.text + "".join(capfd.readouterr()), "told": told}
    for place, text in {**shown, "database": readable(db)}.items():
        assert text and not [secret for secret in secrets if secret[:60] in text], place


@pytest.mark.parametrize("network", ["mastodon", "pixelfed", "instagram"])
def test_a_server_that_repeats_the_code_and_our_own_secret_is_not_quoted_with_them(
    network: str,
    ada: Browser,
    sandbox: Sandbox,
    db: psycopg.Connection,
    log_lines: pytest.LogCaptureFixture,
) -> None:
    if network == "instagram":
        away = ada.send("/accounts/connect/instagram/instagram-login")
    else:
        away = ada.send("/accounts/connect", instance=sandbox.url(network))
    back = consent(away, "wren")
    secrets = secrets_of(sandbox) - (set() if network == "instagram" else {"sandbox-instagram-secret"})
    text = "You sent " + " and ".join(secrets)
    for fault in ({"kind": "status", "body": "json", "status": 422}, {"kind": "graph_error", "code": 100}):
        sandbox.faults.add(**fault, instance=network, method="POST", path="oauth/(access_)?token", text=text)
    page = ada.get(back, follow_redirects=True).text
    assert "did not let you in" in page or "You sent …" in page
    assert not [secret for secret in secrets if secret[:60] in page + log_lines.text + readable(db)]


async def everything(
    engine: Engine, conn: psycopg.Connection, sandbox: Sandbox, user_id: int, ids: list[int], text: str
) -> None:
    """A post on every account, each token refreshed, each account verified."""
    for one in scheduled(conn, engine.settings, user_id, tuple(ids), text, media=(a_picture(conn, user_id),)):
        await sending.publish(engine, one.id)
        await reconciling.reconcile(engine, one.id)
    for account_id in ids:
        await refreshed(engine, conn, account_id)
        await token_refresh.verify(engine, account_id)


async def refreshed(engine: Engine, conn: psycopg.Connection, account_id: int) -> None:
    """Due now, by what we know of it."""
    keys = engine.settings.encryption_keys
    row = conn.execute("SELECT user_id, state FROM accounts WHERE id = %s", [account_id]).fetchone()
    if row is None or row[1] != "active":
        return
    held = accounts.login_of(conn, row[0], account_id, keys)
    if held.credentials.expires_at is None:
        return
    soon = {"expires_at": held.credentials.expires_at - (held.credentials.expires_at - database.now(conn)) * 0.95}
    aged = held.credentials.model_copy(update={**soon, "issued_at": database.now(conn) - timedelta(days=2)})
    async with engine.pool.connection() as conn_of_ours:
        await accounts.save_credentials(conn_of_ours, held, aged, keys)
    await token_refresh.refresh(engine, account_id)


async def everything_told(engine: Engine) -> str:
    settings = engine.settings
    async with mailbox() as box, hook() as far_end:
        ways = {
            "smtp_url": SecretStr(f"smtp://127.0.0.1:{box.port}"),
            "mail_from": "postflow@example.org",
            "webhook_url": SecretStr(f"http://127.0.0.1:{far_end.port}/"),
            "webhook_secret": SecretStr("s" * 16),
        }
        async with engine.pool.connection() as conn:
            await notices.warn_of_posts_at_risk(conn, settings, await database.async_now(conn))
        await sender.tell(engine.pool, settings.model_copy(update=ways), engine.http)
    assert box.letters and far_end.requests
    return "".join(letter.get_content() for letter in box.letters) + str(far_end.requests)
