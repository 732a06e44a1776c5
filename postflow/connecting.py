"""The story of connecting: an address becomes a server, a person allows us there, an account is stored.

begin       address -> software -> platform -> registered app -> the consent page's URL
finish      back from the consent page: state, code -> accounts, new or in place
sign_in     where there is no consent page: what the person typed -> accounts
disconnect  what waits is cancelled, credentials forgotten, the token revoked when nobody else stands on it

No transaction is open while a network is asked.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import httpx
import structlog
from psycopg import Connection
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from postflow import accounts, crypto, db, deliveries, net, platforms, servers, waking
from postflow.config import Settings
from postflow.errors import Conflict, ConnectError, Invalid, NotFound, PublishError
from postflow.models import Account, AppRegistration, Server
from postflow.platforms import software
from postflow.platforms.base import Connected, ConnectOption, Platform

log = structlog.stdlib.get_logger("postflow.connecting")


class Way(NamedTuple):
    """One way to connect, as the page offers it."""

    platform: Platform
    option: ConnectOption


class Finished(NamedTuple):
    accounts: list[Account]
    notes: list[str]  # sentences: connected, but


class Attempt(NamedTuple):
    """Sent off to a consent page and come back."""

    platform: str
    base_url: str
    option: str
    memo: dict[str, Any]


def ways() -> list[Way]:
    return [Way(platform, option) for platform in platforms.REGISTRY.values() for option in platform.connect_options()]


def redirect_uri(settings: Settings) -> str:
    return f"{settings.public_url}/accounts/callback"


# -- there ---------------------------------------------------------------------------------------------------


async def begin_at(
    source: ConnectionPool, settings: Settings, http: httpx.AsyncClient, user_id: int, address: str
) -> str:
    """Where to send the person who typed `address`. Raises Invalid({"instance": …}), ConnectError."""
    base_url = net.instance_url(address, settings.allowed_private)
    platform = await _platform_of(http, base_url)
    option = next((one.key for one in platform.connect_options() if one.asks_for == "instance"), None)
    if option is None:
        raise ConnectError(f"{platform.label} is not connected by an address: use its own button.")
    return await _begin(source, settings, http, user_id, platform, base_url, option)


async def begin_with(
    source: ConnectionPool, settings: Settings, http: httpx.AsyncClient, user_id: int, name: str, option: str
) -> str:
    """For networks that are one place, such as Instagram. Raises NotFound, ConnectError."""
    platform = platforms.get(name)
    chosen = next((one for one in platform.connect_options() if one.key == option and one.asks_for == "nothing"), None)
    if chosen is None:
        raise NotFound("There is no such way to connect.")
    if not chosen.available:
        raise ConnectError(chosen.unavailable_because)
    return await _begin(source, settings, http, user_id, platform, "", option)


async def _begin(
    source: ConnectionPool,
    settings: Settings,
    http: httpx.AsyncClient,
    user_id: int,
    platform: Platform,
    base_url: str,
    option: str,
) -> str:
    state = secrets.token_urlsafe(32)
    try:
        server = await platform.server(http, base_url)
        with source.connection() as conn:
            servers.save(conn, server)
        app = await _app(source, settings, http, platform, server, option)
        away = await platform.authorize(server, app, state=state, option=option)
    except PublishError as error:
        raise ConnectError(error.sentence) from error
    sealed = crypto.seal_bytes(settings.encryption_keys, json.dumps(away.memo).encode())
    with source.connection() as conn:
        _remember(conn, state, user_id, server, option, sealed)
    return away.url


async def _platform_of(http: httpx.AsyncClient, base_url: str) -> Platform:
    """By what the server says it runs. Software nobody named is tried as the most widely spoken API, Mastodon's."""
    name, _ = await software.detect(http, base_url)
    for platform in platforms.REGISTRY.values():
        if name in platform.software:
            return platform
    return platforms.get("mastodon")


async def _app(
    source: ConnectionPool,
    settings: Settings,
    http: httpx.AsyncClient,
    platform: Platform,
    server: Server,
    option: str,
) -> AppRegistration:
    """Registered once per instance, redirect address and way."""
    with source.connection() as conn:
        known = servers.app(
            conn,
            settings.encryption_keys,
            platform=platform.name,
            base_url=server.base_url,
            option=option,
            redirect_uri=redirect_uri(settings),
        )
    if known is not None and await platform.knows_app(http, server, known):
        return known
    made = await platform.register(http, server, redirect_uri(settings), option)
    with source.connection() as conn:
        return servers.save_app(
            conn,
            settings.encryption_keys,
            made,
            platform=platform.name,
            base_url=server.base_url,
            option=option,
            replace=known is not None,
        )


# -- and back ------------------------------------------------------------------------------------------------


async def finish(
    source: ConnectionPool, settings: Settings, http: httpx.AsyncClient, user_id: int, answer: Mapping[str, str]
) -> Finished:
    """`answer` is the query the consent page sent the person back with. Raises ConnectError."""
    with source.connection() as conn:
        attempt = _recall(conn, settings, answer.get("state", ""), user_id)
    platform = platforms.get(attempt.platform)
    if answer.get("error") or not answer.get("code"):
        raise ConnectError(_refusal(answer, platform.label))
    with source.connection() as conn:
        server = servers.get(conn, attempt.platform, attempt.base_url)
        app = servers.app(
            conn,
            settings.encryption_keys,
            platform=attempt.platform,
            base_url=attempt.base_url,
            option=attempt.option,
            redirect_uri=redirect_uri(settings),
        )
    if server is None or app is None:
        raise ConnectError("This server is not known here any more. Start connecting again.")
    try:
        opened = await platform.exchange(http, server, app, answer["code"], attempt.memo)
    except PublishError as error:
        raise ConnectError(error.sentence) from error
    return _stored(source, settings, user_id, attempt, opened)


async def sign_in(
    source: ConnectionPool,
    settings: Settings,
    http: httpx.AsyncClient,
    user_id: int,
    name: str,
    option: str,
    typed: Mapping[str, str],
) -> Finished:
    """For networks without a consent page: what the person typed opens the account. Raises NotFound, Invalid, ConnectError."""
    platform = platforms.get(name)
    chosen = next((one for one in platform.connect_options() if one.key == option and one.asks_for == "fields"), None)
    if chosen is None:
        raise NotFound("There is no such way to connect.")
    fields = {field.name: typed.get(field.name, "").strip() for field in chosen.fields}
    empty = {field.name: f"Type the {field.label.lower()}." for field in chosen.fields if not fields[field.name]}
    if empty:
        raise Invalid(empty)
    base_url = net.instance_url(fields.get("instance", ""), settings.allowed_private) if "instance" in fields else ""
    try:
        server = await platform.server(http, base_url)
        opened = await platform.sign_in(http, server, fields)
    except PublishError as error:
        raise ConnectError(error.sentence) from error
    with source.connection() as conn:
        servers.save(conn, server)
    return _stored(source, settings, user_id, Attempt(platform.name, server.base_url, option, {}), opened)


def _stored(
    source: ConnectionPool, settings: Settings, user_id: int, attempt: Attempt, opened: Sequence[Connected]
) -> Finished:
    with db.transaction(source) as conn:
        made = [_store(conn, settings, user_id, attempt, one) for one in opened]
    return Finished(made, list(dict.fromkeys(note for one in opened for note in one.notes)))


def _store(conn: Connection, settings: Settings, user_id: int, attempt: Attempt, one: Connected) -> Account:
    account = accounts.connect(
        conn,
        user_id,
        platform=attempt.platform,
        base_url=attempt.base_url,
        option=attempt.option,
        profile=one.profile,
        credentials=one.credentials,
        keys=settings.encryption_keys,
    )
    resumed = waking.resume(conn, account.id)
    log.info("connected", account=account.id, network=account.platform, handle=account.handle, resumed=resumed)
    return account


def _refusal(answer: Mapping[str, str], network: str) -> str:
    if answer.get("error") == "access_denied":
        return f"You did not allow PostFlow to use your {network} account, so nothing was connected."
    return f"{network} did not let you connect. Start again; if it happens once more, ask its administrators."


def _remember(conn: Connection, state: str, user_id: int, server: Server, option: str, sealed: bytes) -> None:
    conn.execute(
        """
        INSERT INTO connect_attempts (state_hash, user_id, platform, base_url, option, sealed)
        VALUES (%(state_hash)s, %(user_id)s, %(platform)s, %(base_url)s, %(option)s, %(sealed)s)
        """,
        {
            "state_hash": _hash(state),
            "user_id": user_id,
            "platform": server.platform,
            "base_url": server.base_url,
            "option": option,
            "sealed": sealed,
        },
    )


def _recall(conn: Connection, settings: Settings, state: str, user_id: int) -> Attempt:
    """Once: the row is gone afterwards, whatever comes of it."""
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            """
            DELETE FROM connect_attempts
             WHERE state_hash = %(state_hash)s AND user_id = %(user_id)s AND created_at > now() - interval '30 minutes'
            RETURNING platform, base_url, option, sealed
            """,
            {"state_hash": _hash(state), "user_id": user_id},
        ).fetchone()
    if row is None:
        raise ConnectError(
            "This answer does not belong to a connection you began here in the last half hour. Start connecting again."
        )
    memo = json.loads(crypto.unseal_bytes(settings.encryption_keys, row.pop("sealed")))
    return Attempt(**row, memo=memo)


def _hash(state: str) -> bytes:
    return hashlib.sha256(state.encode()).digest()


# -- no more -------------------------------------------------------------------------------------------------


class Disconnected(NamedTuple):
    account: Account
    cancelled: int
    revoked: bool  # False: the network still lists PostFlow


async def disconnect(
    source: ConnectionPool, settings: Settings, http: httpx.AsyncClient, user_id: int, account_id: int
) -> Disconnected:
    """Raises NotFound; Conflict while a post is being sent through it."""
    with db.transaction(source) as conn:
        account = accounts.get(conn, user_id, account_id)
        waiting = accounts.waiting(conn, user_id, account_id, lock=True)
        if waiting.in_flight:
            raise Conflict(
                f"A post is being sent through {account.handle} right now. Disconnect when its outcome is known."
            )
        login = None
        if account.state != "disconnected":
            login = accounts.login_of(conn, user_id, account_id, settings.encryption_keys)
        shared = login is not None and accounts.shares_token(conn, login, settings.encryption_keys)
        cancelled = deliveries.cancel(conn, waiting.delivery_ids, "You disconnected this account.")
        accounts.disconnect(conn, user_id, account_id)
    if login is None or shared:
        return Disconnected(account, len(cancelled), True)
    try:
        await platforms.get(account.platform).revoke(http, login)
    except (PublishError, ConnectError, NotFound, Invalid) as error:
        log.warning("not revoked", account=account.id, why=str(error))
        return Disconnected(account, len(cancelled), False)
    return Disconnected(account, len(cancelled), True)
