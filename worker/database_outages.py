"""Keeps a worker through a database that is away, full or read-only: a platform that sees it crash waits longer and longer
before it starts it again, and posts would be late long after the database is back.

The stock worker ends on the first statement that fails, and in the same way when a side task of its does. Here it is begun
anew after a pause, until somebody asks it to stop; what ran meanwhile was finished or handed back. What no waiting mends,
such as a function or a right that is missing, ends the process.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import psycopg
import structlog
from procrastinate import exceptions, signals

from postflow import db
from postflow.errors import Misconfigured

log = structlog.stdlib.get_logger("postflow.worker")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 5.0

Step = Callable[[], Awaitable[None]]


async def until_told_to_stop(begin: Step, run: Step) -> None:
    """`begin` comes once before the first life; `run` is one life of a worker, and cancelling it stops it gracefully.

    A second signal ends the process at once. Raises Misconfigured for what waiting does not mend.
    """
    told, has_begun = asyncio.Event(), False

    async def life() -> None:
        nonlocal has_begun
        if not has_begun:
            await begin()
            has_begun = True
        await run()

    with signals.on_stop(told.set):
        pause_s = FIRST_PAUSE_S
        while not told.is_set():
            begun = asyncio.get_running_loop().time()
            await _one(life, told)
            if told.is_set():
                return
            if asyncio.get_running_loop().time() - begun > LONGEST_PAUSE_S:
                pause_s = FIRST_PAUSE_S
            log.warning("the worker begins anew", in_s=pause_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(told.wait(), pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)


async def _one(life: Step, told: asyncio.Event) -> None:
    living, stop = asyncio.ensure_future(life()), asyncio.ensure_future(told.wait())
    try:
        await asyncio.wait({living, stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
        living.cancel()
        try:
            await living
        except asyncio.CancelledError:
            pass
        except (exceptions.ConnectorException, db.Unreachable) as gone:
            if isinstance(gone.__cause__, psycopg.ProgrammingError):
                raise Misconfigured(
                    f"The database refuses what a worker asks of it: {_first_line(gone)}. Run `postflow migrate`, or give"
                    " the user in DATABASE_URL its rights on PostFlow's tables back."
                ) from None
            log.warning("the database does not do what is asked of it", why=_first_line(gone))


def _first_line(gone: BaseException) -> str:
    said = str(gone.__cause__ or gone).strip() or type(gone).__name__
    return said.splitlines()[0][:200]
