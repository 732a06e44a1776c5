"""The story of connecting: an address becomes a server, a person allows us there, an account is stored.

begin    address -> software -> platform -> registered app -> the consent page's URL
finish   back from the consent page: state, code -> accounts, new or in place; what waited for them goes on
sign_in  instead of a consent page: a form, such as for a token made there by hand

No transaction is open while a network is asked.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import structlog
from psycopg import Connection
from psycopg_pool import ConnectionPool

from postflow import db, jobs, platforms
from postflow.accounts import accounts, servers
from postflow.config import Settings
from postflow.connections import oauth_attempts
from postflow.errors import AppForgotten, ConnectError, Invalid, NotFound, PublishError
from postflow.http import addresses
from postflow.models import Account, AppRegistration, Server
from postflow.platforms import software, split_domains
from postflow.platforms.base import Connected, ConnectOption, Platform

log = structlog.stdlib.get_logger("postflow.connections.connecting")


class Way(NamedTuple):
    """One way to connect, as the page offers it."""

    platform: Platform
    option: ConnectOption


class Finished(NamedTuple):
    """`away`: not connected yet, the consent page has to be seen once more. `notes` are sentences for the person."""

    accounts: list[Account]
    notes: list[str]
    away: str | None = None


class ByForm(ConnectError):
    """This account came by a form, since the consent page did not work there or was not wanted: the form again."""

    def __init__(self, way: Way, account: Account) -> None:
        super().__init__(f"{account.handle} was connected with a form. Fill it in again.")
        self.way = way
        self.account = account

    @property
    def filled(self) -> dict[str, str]:
        return {"instance": self.account.base_url}


def ways() -> list[Way]:
    return [Way(platform, option) for platform in platforms.REGISTRY.values() for option in platform.connect_options()]


def redirect_uri(settings: Settings, base_url: str) -> str:
    """A path for each server, so that the answer of one is never taken for another's and its code given to that one. Meta
    has the plain one, which its operators enter there.
    """
    return "/".join(filter(None, [f"{settings.public_url}/accounts/callback", server_key(base_url)]))


def server_key(base_url: str) -> str:
    """Of a server, in an address; empty for networks that are one place."""
    return hashlib.sha256(base_url.encode()).hexdigest()[:16] if base_url else ""


# -- there ---------------------------------------------------------------------------------------------------


async def begin_at(
    source: ConnectionPool, settings: Settings, http: httpx.AsyncClient, user_id: int, address: str
) -> str:
    """Where to send the person who typed `address`. Raises Invalid({"instance": …}), ConnectError."""
    base_url = await _home(settings, http, address)
    platform = await _platform_of(http, base_url)
    option = next((one.key for one in platform.connect_options() if one.asks_for == "instance"), None)
    if option is None:
        raise ConnectError(f"{platform.label} is not connected by an address: use its own button.")
    with source.connection() as conn:
        here = [one for one in accounts.of_user(conn, user_id) if one.base_url == base_url]
    url = await _begin(source, settings, http, user_id, platform, base_url, option)
    if here and all(one.state == "active" for one in here):
        url += "&force_login=true"  # nothing to mend here: it is another account, so ask who it is
    return url


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


async def begin_again(
    source: ConnectionPool, settings: Settings, http: httpx.AsyncClient, user_id: int, account_id: int
) -> str:
    """For an account that is here already, the way it came. Raises NotFound, ByForm, ConnectError."""
    with source.connection() as conn:
        account = accounts.get(conn, user_id, account_id)
        came_by = accounts.option_of(conn, account_id)
    platform = platforms.get(account.platform)
    if account.base_url and (now := await _platform_of(http, account.base_url)).name != platform.name:
        raise ConnectError(
            f"{account.base_url} runs {now.label} now, no longer {platform.label}. Connect it as a new account below."
        )
    if (form := _form(platform, came_by)) is not None:
        raise ByForm(form, account)
    ways_in = [one for one in platform.connect_options() if one.asks_for != "fields" and one.available]
    option = next((one.key for one in ways_in if one.key == came_by), ways_in[0].key if ways_in else None)
    if option is None:
        raise ConnectError(f"Connect {account.handle} again with the form of {platform.label} below.")
    return await _begin(source, settings, http, user_id, platform, account.base_url, option, account_id=account_id)


def form_of(conn: Connection, user_id: int, account_id: int) -> ByForm | None:
    """None for an account that came by a consent page. Raises NotFound."""
    account = accounts.get(conn, user_id, account_id)
    form = _form(platforms.get(account.platform), accounts.option_of(conn, account_id))
    return ByForm(form, account) if form else None


def _form(platform: Platform, came_by: str) -> Way | None:
    """One form may serve several networks that speak alike."""
    forms = [way for way in ways() if way.option.asks_for == "fields" and way.option.key == came_by]
    own = [way for way in forms if way.platform.name == platform.name]
    return next(iter([*own, *(way for way in forms if way.platform.software)]), None)


async def _home(settings: Settings, http: httpx.AsyncClient, address: str) -> str:
    """The server's own address, also when a person typed the domain of their handle."""
    typed = addresses.instance_url(address, settings.allowed_private)
    plain = addresses.plain_url(address, settings.allowed_private)
    if plain and not await split_domains.answers_there(http, typed):
        typed = plain
    found = await split_domains.home(http, typed)
    return typed if found == typed else addresses.instance_url(found, settings.allowed_private)


async def _begin(
    source: ConnectionPool,
    settings: Settings,
    http: httpx.AsyncClient,
    user_id: int,
    platform: Platform,
    base_url: str,
    option: str,
    *,
    account_id: int | None = None,
) -> str:
    try:
        server = await platform.server(http, base_url)
        with source.connection() as conn:
            servers.save(conn, server)
        app = _known_app(source, settings, server, option)
        if app is None or not await platform.knows_app(http, server, app):
            app = await _register(source, settings, http, platform, server, option, replace=app is not None)
        return await _away(source, settings, user_id, platform, server, app, option, account_id=account_id)
    except PublishError as error:
        raise ConnectError(error.sentence) from error


async def _away(
    source: ConnectionPool,
    settings: Settings,
    user_id: int,
    platform: Platform,
    server: Server,
    app: AppRegistration,
    option: str,
    *,
    account_id: int | None,
    registered_anew: bool = False,
) -> str:
    """The consent page's URL; what is to be remembered until the person comes back is stored sealed."""
    state = secrets.token_urlsafe(32)
    away = await platform.authorize(server, app, state=state, option=option)
    kept = {"memo": away.memo, "account_id": account_id, "registered_anew": registered_anew}
    with source.connection() as conn:
        oauth_attempts.remember(conn, settings.encryption_keys, state, user_id, server, option, kept)
    return away.url


async def _platform_of(http: httpx.AsyncClient, base_url: str) -> Platform:
    """By what the server says it runs. Software nobody named is tried as the most widely spoken API, Mastodon's."""
    name, _ = await software.detect(http, base_url)
    for platform in platforms.REGISTRY.values():
        if name in platform.software:
            return platform
    return platforms.get("mastodon")


def _known_app(source: ConnectionPool, settings: Settings, server: Server, option: str) -> AppRegistration | None:
    with source.connection() as conn:
        return servers.app(
            conn,
            settings.encryption_keys,
            platform=server.platform,
            base_url=server.base_url,
            option=option,
            redirect_uri=redirect_uri(settings, server.base_url),
        )


async def _register(
    source: ConnectionPool,
    settings: Settings,
    http: httpx.AsyncClient,
    platform: Platform,
    server: Server,
    option: str,
    *,
    replace: bool,
) -> AppRegistration:
    """Once per instance, redirect address and way; `replace` when the server forgot the former one."""
    made = await platform.register(http, server, redirect_uri(settings, server.base_url), option)
    with source.connection() as conn:
        return servers.save_app(
            conn,
            settings.encryption_keys,
            made,
            platform=platform.name,
            base_url=server.base_url,
            option=option,
            replace=replace,
        )


# -- and back ------------------------------------------------------------------------------------------------


async def finish(
    source: ConnectionPool,
    settings: Settings,
    http: httpx.AsyncClient,
    user_id: int,
    answer: Mapping[str, str],
    came_to: str = "",
) -> Finished:
    """`answer` is the query the consent page sent the person back with, `came_to` the `server_key` in the address. Raises
    ConnectError.
    """
    with source.connection() as conn:
        attempt = oauth_attempts.recall(conn, settings.encryption_keys, answer.get("state", ""), user_id)
    platform = platforms.get(attempt.platform)
    _check_who_answers(attempt, answer, came_to)
    if answer.get("error") or not answer.get("code"):
        raise ConnectError(_refusal(answer, platform.label))
    with source.connection() as conn:
        server = servers.get(conn, attempt.platform, attempt.base_url)
    app = _known_app(source, settings, server, attempt.option) if server else None
    if server is None or app is None:
        raise ConnectError("This server is not known here any more. Start connecting again.")
    try:
        opened = await platform.exchange(http, server, app, answer["code"], attempt.memo)
    except AppForgotten:
        if attempt.registered_anew:
            raise
        return await _once_more(source, settings, http, user_id, platform, server, attempt)
    except PublishError as error:
        raise ConnectError(error.sentence) from error
    with db.transaction(source) as conn:
        stored = [_store(conn, settings, user_id, server, attempt.option, one) for one in opened]
        notes = [*_said(opened), *_another(conn, user_id, attempt.account_id, stored)]
    return Finished(stored, notes)


async def _once_more(
    source: ConnectionPool,
    settings: Settings,
    http: httpx.AsyncClient,
    user_id: int,
    platform: Platform,
    server: Server,
    attempt: oauth_attempts.Attempt,
) -> Finished:
    """The code was given to a client the server has forgotten since: register anew, and to the consent page again."""
    app = await _register(source, settings, http, platform, server, attempt.option, replace=True)
    away = await _away(
        source,
        settings,
        user_id,
        platform,
        server,
        app,
        attempt.option,
        account_id=attempt.account_id,
        registered_anew=True,
    )
    return Finished([], [], away)


def _store(conn: Connection, settings: Settings, user_id: int, server: Server, option: str, one: Connected) -> Account:
    account = accounts.connect(
        conn,
        user_id,
        platform=server.platform,
        base_url=server.base_url,
        option=option,
        profile=one.profile,
        credentials=one.credentials,
        keys=settings.encryption_keys,
    )
    resumed = jobs.resume(conn, account.id)
    log.info("connected", account=account.id, network=account.platform, handle=account.handle, resumed=resumed)
    return account


def _said(opened: Sequence[Connected]) -> list[str]:
    return [f"{one.profile.handle}: {note}" for one in opened for note in one.notes]


def _another(conn: Connection, user_id: int, account_id: int | None, stored: Sequence[Account]) -> list[str]:
    """The person set out to mend one account and came back with another."""
    if account_id is None or account_id in [one.id for one in stored]:
        return []
    meant = accounts.get(conn, user_id, account_id).handle
    return [
        f"{meant} still has to be connected again: this was another account. Be {meant} there first, then press its button"
        " here once more."
    ]


def _check_who_answers(attempt: oauth_attempts.Attempt, answer: Mapping[str, str], came_to: str) -> None:
    """A code of one server is never shown to another (RFC 9700, section 4.4): neither when the answer came to the address
    of another one, nor when it names another one (`iss`, RFC 9207).
    """
    elsewhere = "iss" in answer and attempt.base_url and _origin(answer["iss"]) != _origin(attempt.base_url)
    if came_to != server_key(attempt.base_url) or elsewhere:
        log.warning("an answer of another server", server=attempt.base_url, said=answer.get("iss", "")[:200])
        raise ConnectError("Another server answered than the one you set out for. Start connecting again.")


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or ''}".lower()
    except ValueError:
        return ""


def _refusal(answer: Mapping[str, str], network: str) -> str:
    if answer.get("error") == "access_denied":
        return f"You did not allow PostFlow to use your {network} account, so nothing was connected."
    return f"{network} did not let you connect. Start again; if it happens once more, ask its administrators."


# -- without a consent page ------------------------------------------------------------------------------------


async def sign_in(
    source: ConnectionPool,
    settings: Settings,
    http: httpx.AsyncClient,
    user_id: int,
    name: str,
    option: str,
    typed: Mapping[str, str],
    *,
    account_id: int | None = None,
) -> Finished:
    """By an option that asks for fields; `account_id` is the account of theirs that it is meant to mend. Raises NotFound,
    Invalid({field: …}), ConnectError.
    """
    platform = platforms.get(name)
    chosen = next((one for one in platform.connect_options() if one.key == option and one.asks_for == "fields"), None)
    if chosen is None:
        raise NotFound("There is no such way to connect.")
    given = _typed(chosen, typed)
    base_url = ""
    if "instance" in given:
        base_url = await _home(settings, http, given["instance"])
        if platform.software:  # one form serves all that speak alike
            platform = await _platform_of(http, base_url)
    try:
        server = await platform.server(http, base_url)
        opened = await platform.sign_in(http, server, given)
    except PublishError as error:
        raise ConnectError(error.sentence) from error
    with db.transaction(source) as conn:
        servers.save(conn, server)
        stored = [_store(conn, settings, user_id, server, option, one) for one in opened]
        notes = [*_said(opened), *_another(conn, user_id, account_id, stored)]
    return Finished(stored, notes)


def _typed(option: ConnectOption, typed: Mapping[str, str]) -> dict[str, str]:
    """Without the blanks that copying brings along. Raises Invalid."""
    given = {field.name: typed.get(field.name, "").strip() for field in option.fields}
    wrong = {}
    for field in option.fields:
        value = given[field.name]
        if not value:
            wrong[field.name] = f"{field.label}: fill this in."
        elif field.secret and not (value.isascii() and value.isprintable()):
            wrong[field.name] = f"{field.label}: this has characters that do not belong in one. Copy it once more."
    if wrong:
        raise Invalid(wrong)
    return given
