"""The story of what servers accept: their limits are asked anew each day, and before a post is accepted or refused.

A server that does not answer keeps what was known. One that runs other software now is told to the person: access to the
old software opens nothing there.
"""

import asyncio
import time
from collections.abc import Sequence

import httpx
import structlog
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from postflow import platforms
from postflow.accounts import accounts, servers
from postflow.config import Settings
from postflow.errors import PostFlowError
from postflow.http import clients
from postflow.models import Server
from postflow.notifications import notices

log = structlog.stdlib.get_logger("postflow.connections.limit_refresh")

#: Nobody waits longer than this to have a post accepted.
PATIENCE_S = 3.0
#: A server that kept somebody waiting for so long keeps nobody waiting again for this while.
SPARED_S = 60.0
#: Until when (time.monotonic) a server is not asked by this process, so that a slow one holds up one page and not each.
_spared: dict[str, float] = {}
#: Servers asked side by side.
AT_ONCE = 10


async def before_accepting(
    source: ConnectionPool, settings: Settings, user_id: int, account_ids: Sequence[int]
) -> None:
    """Asks the servers behind these accounts what they take today, for `PATIENCE_S` at most; else what is known counts."""
    with source.connection() as conn:
        stale = [
            one for one in servers.stale(conn, user_id, account_ids) if _spared.get(one.base_url, 0) < time.monotonic()
        ]
    if not stale:
        return
    for one in stale:  # while this one is asked, others do not wait for it as well
        _spared[one.base_url] = time.monotonic() + SPARED_S
    async with clients.client(settings) as http:
        asking = [asyncio.create_task(_asked(http, one)) for one in stale]
        done, late = await asyncio.wait(asking, timeout=PATIENCE_S)
        for one in late:
            one.cancel()
        await asyncio.gather(*late, return_exceptions=True)
    fresh = [found for one in done if (found := one.result())]
    with source.connection() as conn:
        for found in fresh:
            servers.save(conn, found)
    for found in fresh:
        _spared.pop(found.base_url, None)


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
