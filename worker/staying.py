"""Keeps a worker through a database that is away, full or read-only: a platform that sees it crash waits longer and longer
before it starts it again, and posts would be late long after the database is back.

The stock worker ends on the first statement that fails, and in the same way when a side task of its does. Here it is begun
anew after a pause, until somebody asks it to stop; what ran meanwhile was finished or handed back.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog
from procrastinate import exceptions, signals

log = structlog.stdlib.get_logger("postflow.worker")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 10.0


async def until_told_to_stop(run: Callable[[], Awaitable[None]]) -> None:
    """`run` is one life of a worker; cancelling it stops it gracefully. A second signal ends the process at once."""
    told = asyncio.Event()
    with signals.on_stop(told.set):
        pause_s = FIRST_PAUSE_S
        while not told.is_set():
            begun = asyncio.get_running_loop().time()
            await _one_life(run, told)
            if told.is_set():
                return
            if asyncio.get_running_loop().time() - begun > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            log.warning("the worker begins anew", in_s=pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)


async def _one_life(run: Callable[[], Awaitable[None]], told: asyncio.Event) -> None:
    living, stop = asyncio.ensure_future(run()), asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait({living, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        living.cancel()
        try:
            await living
        except asyncio.CancelledError:
            pass
        except exceptions.ConnectorException as gone:
            log.warning("the database does not do what is asked of it", why=_first_line(gone))


def _first_line(gone: BaseException) -> str:
    said = str(gone.__cause__ or gone).strip() or type(gone).__name__
    return said.splitlines()[0][:200]
