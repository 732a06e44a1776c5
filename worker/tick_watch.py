"""Periodic jobs go on whatever becomes of a worker's clock.

Procrastinate's deferrer reads the wall's clock of its machine, and after one that was set back by an hour it is silent until
the hour has come again. So each worker looks once a minute, by a clock that is never set, whether runs are being taken,
and makes the tick itself when none is.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import structlog

from postflow.engine import DATABASE_GONE
from postflow.operations import periodic_runs
from worker import engine

log = structlog.stdlib.get_logger("postflow.periodic")

LOOK_EVERY_S = 60.0
#: Something runs every minute: after so long the tick is missing.
QUIET_S = 150.0

Tick = Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def watched(tick: Tick) -> AsyncIterator[None]:
    """Around a worker's life."""
    watching = asyncio.create_task(_watch(tick))
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _watch(tick: Tick) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            await tick_if_quiet(tick)
        except DATABASE_GONE as gone:  # the next look comes in a minute
            log.warning("no look for missing ticks: the database does not answer", why=str(gone)[:120])
        except Exception:
            log.exception("the look for missing ticks failed")


async def tick_if_quiet(tick: Tick) -> None:
    async with (await engine.ready()).pool.connection() as conn:
        quiet = await periodic_runs.are_quiet(conn, QUIET_S)
    if quiet:
        log.warning("no periodic job was due for a while, which a clock that was set back would explain; ticking")
        await tick()
