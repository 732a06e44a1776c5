"""Tokens that do not die: refreshed well ahead, one account at a time; what cannot be refreshed is said plainly.

refreshed   the new pair is stored before anything uses it
refused     does the old token still open the account? Then it is used up to its end, and the person is told in
            time; if not, the account needs reconnecting
lost        (no answer to the request) the same: the old token tells what happened
"""

import asyncio
import contextlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import structlog
from psycopg import AsyncConnection

from postflow import db, jobs, platforms
from postflow.accounts import accounts
from postflow.connections import access
from postflow.engine import DATABASE_GONE, Engine
from postflow.errors import ConnectError, NotFound, OutcomeUnknown, PublishError, Unauthorized
from postflow.models import AccountState, Login, utc_now
from postflow.operations import totals
from postflow.platforms.base import Platform

log = structlog.stdlib.get_logger("postflow.connections.token_refresh")

#: Namespace of the advisory locks that keep one account from being refreshed twice at once.
LOCKS = 7411


class Outcome(NamedTuple):
    """What came of one account. `sentence` says why, when it failed."""

    state: Literal["refreshed", "fresh", "busy", "failed"]
    handle: str = ""
    sentence: str = ""


@dataclass
class Tally:
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.counts[outcome.state] += 1
        if outcome.state == "failed":
            self.failures.append(outcome)

    def __str__(self) -> str:
        checked, refreshed = self.counts.total(), self.counts["refreshed"]
        return f"checked {checked}, refreshed {refreshed}, failed {len(self.failures)}"


class _NotRenewed(Exception):
    def __init__(self, platform: Platform, login: Login, sentence: str) -> None:
        super().__init__(sentence)
        self.platform, self.login, self.sentence = platform, login, sentence


async def active_accounts(conn: AsyncConnection) -> list[int]:
    rows = await conn.execute("SELECT id FROM accounts WHERE state = 'active' ORDER BY id")
    return [row[0] for row in await rows.fetchall()]


async def accounts_in_use(conn: AsyncConnection) -> list[int]:
    """Those that need reconnecting as well: a server may have refused everybody for a while."""
    rows = await conn.execute("SELECT id FROM accounts WHERE state <> 'disconnected' ORDER BY id")
    return [row[0] for row in await rows.fetchall()]


async def refresh_all(engine: Engine) -> Tally:
    """By hand: every account in turn. The periodic job fans out one job per account instead."""
    tally = Tally()
    async with engine.pool.connection() as conn:
        ids = await active_accounts(conn)
    for account_id in ids:
        tally.add(await refresh(engine, account_id))
    log.info("token refresh complete", **tally.counts)
    return tally


async def refresh(engine: Engine, account_id: int) -> Outcome:
    """Carried through even when the worker is told to stop: an answer thrown away may hold the only living token."""
    refreshing = asyncio.create_task(_refresh(engine, account_id))
    try:
        return await asyncio.shield(refreshing)
    except asyncio.CancelledError:
        await asyncio.wait([refreshing])  # the client's own time limits end it
        raise


async def _refresh(engine: Engine, account_id: int) -> Outcome:
    """With one connection at a time: what a refusal asks for comes after the lock's own was given back."""
    try:
        outcome = await _alone(engine, account_id)
    except _NotRenewed as refusal:
        outcome = await _not_renewed(engine, refusal)
    if outcome.state in ("refreshed", "failed"):
        with contextlib.suppress(*DATABASE_GONE):  # what is stored is stored, counted or not
            async with engine.pool.connection() as conn:
                await totals.refreshed(conn, account_id, outcome.state)
    return outcome


async def _alone(engine: Engine, account_id: int) -> Outcome:
    """A lock of the session, not of a transaction, so that no transaction waits for a network: refreshing one account
    twice at once would burn a rotating refresh token. Raises _NotRenewed.
    """
    async with engine.pool.connection() as conn:
        key = {"space": LOCKS, "key": account_id}
        locked = await (await conn.execute("SELECT pg_try_advisory_lock(%(space)s, %(key)s::int)", key)).fetchone()
        if not (locked and locked[0]):
            return Outcome("busy")
        try:
            return await _renew(engine, conn, account_id)
        finally:
            await conn.execute("SELECT pg_advisory_unlock(%(space)s, %(key)s::int)", key)


async def _renew(engine: Engine, conn: AsyncConnection, account_id: int) -> Outcome:
    try:
        login = await accounts.login(conn, account_id, engine.settings.encryption_keys)
        platform = platforms.get(login.account.platform)
    except (NotFound, Unauthorized) as gone:
        return Outcome("failed", f"account {account_id}", str(gone))
    handle = login.account.handle
    if not platform.refresh_due(login, now=utc_now()):
        return Outcome("fresh", handle)
    if await _is_sending(conn, account_id):
        return Outcome("busy", handle)
    engine.reached("refreshing")
    try:
        with access.discreetly(login):
            renewed = await platform.refresh(engine.http, login)
    except (Unauthorized, OutcomeUnknown, ConnectError) as refused:
        raise _NotRenewed(platform, login, str(refused)) from None
    except PublishError as passing:
        log.warning("not refreshed this time", account=account_id, why=passing.sentence)
        return Outcome("failed", handle, passing.sentence)
    engine.reached("renewed")
    before = await accounts.save_credentials(conn, login, renewed, engine.settings.encryption_keys)
    if before is None:
        return Outcome("fresh", handle)  # connected anew meanwhile: that access is the newer one
    engine.reached("saved")
    if before is AccountState.needs_reconnect:
        await jobs.async_resume(conn, account_id)
    log.info("refreshed", account=account_id, expires_at=str(renewed.expires_at))
    return Outcome("refreshed", handle)


async def _not_renewed(engine: Engine, refusal: _NotRenewed) -> Outcome:
    """The old token may well live on: it is asked before the account is given up."""
    platform, login, sentence = refusal.platform, refusal.login, refusal.sentence
    ended = login.account.token_expires_at is not None and login.account.token_expires_at <= utc_now()
    try:
        if ended:
            raise Unauthorized(sentence)
        with access.discreetly(login):
            await platform.verify(engine.http, login)
    except Unauthorized as dead:
        if not ended and not await access.is_the_network(engine, login):
            return Outcome("failed", login.account.handle, access.turned_away(dead).sentence)
        await access.end(engine.pool, engine.settings, login, f"{sentence} The former access no longer works.")
    except PublishError as passing:
        log.warning("neither refreshed nor verified", account=login.account.id, why=passing.sentence)
    else:
        async with engine.pool.connection() as conn:
            await accounts.note_trouble(conn, login, sentence)
    log.warning("not renewed", account=login.account.id, why=sentence)
    return Outcome("failed", login.account.handle, sentence)


async def verify(engine: Engine, account_id: int) -> None:
    """Does the token still open the account? A dead one is noticed here and not at the next post; one that lives
    although it was held to be dead brings its account back, and what waited goes on.
    """
    async with engine.pool.connection() as conn:
        login = await accounts.login(conn, account_id, engine.settings.encryption_keys)
    try:
        async with access.watched(engine, login):
            await platforms.get(login.account.platform).verify(engine.http, login)
    except (PublishError, NotFound) as error:
        log.info("not verified this time", account=account_id, why=str(error))
        return
    async with db.async_transaction(engine.pool) as conn:
        if await accounts.note_verified(conn, login):
            resumed = await jobs.async_resume(conn, account_id)
            log.info("the account answers again", account=account_id, resumed=resumed)


async def _is_sending(conn: AsyncConnection, account_id: int) -> bool:
    row = await (
        await conn.execute(
            "SELECT EXISTS (SELECT FROM deliveries WHERE account_id = %(id)s AND status IN ('preparing', 'sending'))",
            {"id": account_id},
        )
    ).fetchone()
    return bool(row and row[0])
