"""Tokens that do not die: refreshed well ahead, one account at a time; what cannot be refreshed is said plainly."""

from dataclasses import dataclass

import structlog
from psycopg import AsyncConnection

from postflow import accounts, platforms
from postflow.errors import NotFound, OutcomeUnknown, PublishError, Unauthorized
from postflow.models import Login, utc_now
from postflow.publishing import Engine

log = structlog.stdlib.get_logger("postflow.tokens")


@dataclass
class Tally:
    checked: int = 0
    refreshed: int = 0
    failed: int = 0

    def __str__(self) -> str:
        return f"checked {self.checked}, refreshed {self.refreshed}, failed {self.failed}"


async def active_accounts(conn: AsyncConnection) -> list[int]:
    rows = await conn.execute("SELECT id FROM accounts WHERE state = 'active' ORDER BY id")
    return [row[0] for row in await rows.fetchall()]


async def refresh_all(engine: Engine) -> Tally:
    """By hand: every account in turn. The periodic job fans out one job per account instead."""
    tally = Tally()
    async with engine.pool.connection() as conn:
        ids = await active_accounts(conn)
    for account_id in ids:
        tally.checked += 1
        outcome = await refresh(engine, account_id)
        tally.refreshed += outcome == "refreshed"
        tally.failed += outcome == "failed"
    log.info("token refresh complete", checked=tally.checked, refreshed=tally.refreshed, failed=tally.failed)
    return tally


async def refresh(engine: Engine, account_id: int) -> str:
    """ "refreshed", "fresh", "busy" or "failed".

    A lock of the session, not of a transaction, so that no transaction waits for a network: refreshing one account
    twice at once would burn a rotating refresh token.
    """
    async with engine.pool.connection() as conn:
        key = {"key": account_id}
        locked = await (await conn.execute("SELECT pg_try_advisory_lock(7411, %(key)s::int)", key)).fetchone()
        if not (locked and locked[0]):
            return "busy"
        try:
            return await _refresh(engine, conn, account_id)
        finally:
            await conn.execute("SELECT pg_advisory_unlock(7411, %(key)s::int)", key)


async def _refresh(engine: Engine, conn: AsyncConnection, account_id: int) -> str:
    login = await accounts.login(conn, account_id, engine.settings.encryption_keys)
    try:
        platform = platforms.get(login.account.platform)
    except NotFound:
        return "failed"
    if not platform.refresh_due(login, now=utc_now()):
        return "fresh"
    if await _is_sending(conn, account_id):
        return "busy"
    try:
        renewed = await platform.refresh(engine.http, login)
    except (Unauthorized, OutcomeUnknown) as error:
        await accounts.mark_needs_reconnect(conn, account_id, error.sentence)
        log.warning("needs reconnecting", account=account_id, why=error.sentence)
        return "failed"
    except PublishError as error:
        log.warning("not refreshed this time", account=account_id, why=error.sentence)
        return "failed"
    await accounts.save_credentials(conn, account_id, renewed, engine.settings.encryption_keys)
    log.info("refreshed", account=account_id, expires_at=str(renewed.expires_at))
    return "refreshed"


async def verify(engine: Engine, account_id: int) -> None:
    """Does the token still open the account? A dead one is noticed here and not at the next post."""
    async with engine.pool.connection() as conn:
        login: Login = await accounts.login(conn, account_id, engine.settings.encryption_keys)
    try:
        await platforms.get(login.account.platform).verify(engine.http, login)
    except Unauthorized as error:
        async with engine.pool.connection() as conn:
            await accounts.mark_needs_reconnect(conn, account_id, error.sentence)
    except (PublishError, NotFound) as error:
        log.info("not verified this time", account=account_id, why=str(error))
    else:
        async with engine.pool.connection() as conn:
            await conn.execute("UPDATE accounts SET verified_at = now() WHERE id = %(id)s", {"id": account_id})


async def _is_sending(conn: AsyncConnection, account_id: int) -> bool:
    row = await (
        await conn.execute(
            "SELECT EXISTS (SELECT FROM deliveries WHERE account_id = %(id)s AND status IN ('preparing', 'sending'))",
            {"id": account_id},
        )
    ).fetchone()
    return bool(row and row[0])
