"""An account connected the whole way: its app registered, its pair of tokens with their real dates, sealed."""

from datetime import UTC, datetime, timedelta

import psycopg
from pydantic import SecretStr

from postflow import crypto, platforms
from postflow.accounts import accounts, servers
from postflow.engine import Engine
from postflow.models import Account, AppRegistration, Credentials, Profile, utc_now
from sandbox import Sandbox
from sandbox.core import accounts as people

PLATFORMS = {"gotosocial": "mastodon", "mastodon-4.1": "mastodon"}


async def connected(
    conn: psycopg.Connection,
    engine: Engine,
    sandbox: Sandbox,
    user_id: int,
    instance: str,
    handle: str,
    *,
    left: timedelta | None = None,
    age: timedelta = timedelta(days=2),
) -> Account:
    """`left`: the token ends so soon, as we know it; None: as the network says, counted from now."""
    given = sandbox.add_account(instance, handle)
    name = PLATFORMS.get(instance, instance)
    base_url = "" if name == "instagram" else sandbox.url(instance)
    server = await platforms.get(name).server(engine.http, base_url)
    servers.save(conn, server)
    keys = engine.settings.encryption_keys
    app = AppRegistration(
        client_id=given.client_id,
        client_secret=SecretStr(given.client_secret),
        redirect_uri="http://127.0.0.1/callback",
    )
    servers.save_app(conn, keys, app, platform=name, base_url=base_url, option="instance")
    return accounts.connect(
        conn,
        user_id,
        platform=name,
        base_url=base_url,
        option="instance",
        profile=Profile(remote_id=given.account_id, handle=f"@{handle}"),
        credentials=_credentials(given, sandbox, left, age),
        keys=keys,
    )


def _credentials(given: people.Credentials, sandbox: Sandbox, left: timedelta | None, age: timedelta) -> Credentials:
    ends = None
    if given.expires_at:
        ends = datetime.fromtimestamp(given.expires_at - sandbox.now() + utc_now().timestamp(), UTC)
    return Credentials(
        access_token=SecretStr(given.access_token),
        refresh_token=SecretStr(given.refresh_token) if given.refresh_token else None,
        issued_at=utc_now() - age,
        expires_at=utc_now() + left if left is not None else ends,
    )


def token_of(conn: psycopg.Connection, engine: Engine, account: Account) -> str:
    """What is stored now, opened."""
    login = accounts.login_of(conn, account.user_id, account.id, engine.settings.encryption_keys)
    return login.credentials.access_token.get_secret_value()


def state_of(conn: psycopg.Connection, account: Account) -> tuple[str, str | None]:
    row = conn.execute("SELECT state, state_reason FROM accounts WHERE id = %s", [account.id]).fetchone()
    assert row
    return row[0], row[1]


def age(conn: psycopg.Connection, account: Account, keys: accounts.Keys, *, left: timedelta) -> None:
    """As if so much of its token's life were left, by what is stored here."""
    held = accounts.login_of(conn, account.user_id, account.id, keys).credentials
    older = held.model_copy(update={"expires_at": utc_now() + left, "issued_at": utc_now() - timedelta(days=2)})
    conn.execute(
        "UPDATE accounts SET sealed = %s, token_expires_at = %s WHERE id = %s",
        [crypto.seal(keys, older), older.expires_at, account.id],
    )
