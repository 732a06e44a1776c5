"""The story of what servers accept: their limits are asked anew each day, and before a post is accepted when older.

A server that does not answer keeps what was known. One that runs other software now is told to the person: access to the
old software opens nothing there.
"""

import asyncio
from collections.abc import Sequence

import httpx
import structlog
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from postflow import accounts, net, notices, platforms, servers
from postflow.config import Settings
from postflow.errors import PostFlowError
from postflow.models import Server

log = structlog.stdlib.get_logger("postflow.surveying")

#: Nobody waits longer than this to have a post accepted.
PATIENCE_S = 5.0
#: Servers asked side by side.
AT_ONCE = 10


async def before_accepting(
    source: ConnectionPool, settings: Settings, user_id: int, account_ids: Sequence[int]
) -> None:
    """Asks the stale servers behind these accounts, for `PATIENCE_S` at most."""
    with source.connection() as conn:
        stale = servers.stale(conn, user_id, account_ids)
    if not stale:
        return
    try:
        async with asyncio.timeout(PATIENCE_S), net.client(settings) as http:
            fresh = await asyncio.gather(*(_asked(http, one) for one in stale))
    except TimeoutError:
        return
    with source.connection() as conn:
        for one in fresh:
            if one is not None:
                servers.save(conn, one)


async def daily(pool: AsyncConnectionPool, settings: Settings, http: httpx.AsyncClient) -> dict[str, int]:
    """Every stale server of an account in use; {"servers": asked, "answered": how many}."""
    async with pool.connection() as conn:
        stale = await servers.stale_anywhere(conn)
    several = asyncio.Semaphore(AT_ONCE)

    async def survey(known: Server) -> bool:
        async with several:
            fresh = await _asked(http, known)
        if fresh is None:
            return False
        async with pool.connection() as conn, conn.transaction():
            await servers.async_save(conn, fresh)
            if said := _speaks_otherwise(fresh):
                for account in await accounts.mark_server_changed(conn, fresh, said):
                    await notices.access_ended(conn, settings, account, said, episode=f"{fresh.fetched_at:%Y-%m-%d}")
        return True

    answered = sum(await asyncio.gather(*(survey(one) for one in stale)))
    log.info("surveyed", servers=len(stale), answered=answered)
    return {"servers": len(stale), "answered": answered}


async def _asked(http: httpx.AsyncClient, known: Server) -> Server | None:
    try:
        return await platforms.get(known.platform).server(http, known.base_url)
    except PostFlowError as error:
        log.info("a server does not say what it accepts", server=known.base_url, why=str(error))
        return None


def _speaks_otherwise(server: Server) -> str:
    """The sentence for the person when another network's software runs there now."""
    for platform in platforms.REGISTRY.values():
        if server.software in platform.software and platform.name != server.platform:
            return f"{server.base_url} runs {platform.label} now, so the access given before opens nothing there."
    return ""
