"""What the stories of a delivery need, made once per worker process; and how what was learned is written down in the end."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ParamSpec, Protocol, TypeVar

import httpx
import psycopg
import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool, PoolClosed

from postflow import jobs
from postflow.bulkhead import Bulkhead
from postflow.config import Settings
from postflow.http import clients

log = structlog.stdlib.get_logger("postflow.engine")

#: Out of reach, full, or read-only.
DATABASE_GONE = (psycopg.OperationalError, psycopg.InternalError, psycopg.InterfaceError)

#: So long an answer is tried to be written down; between two tries; and before a stopping worker's job ends without it.
KEPT_FOR_S = 3600.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
LAST_WORD_S = 5.0

P = ParamSpec("P")
T = TypeVar("T")


class Wake(Protocol):
    """Defers a job for one delivery on the same connection: row and job commit or vanish together."""

    async def __call__(self, conn: AsyncConnection, story: str, delivery_id: int, at: datetime) -> None: ...


@dataclass(frozen=True)
class Engine:
    """What the stories need: made once per worker process."""

    pool: AsyncConnectionPool
    settings: Settings
    http: httpx.AsyncClient  # for reading and uploading
    commit_http: httpx.AsyncClient  # for the visible call: no connection is used twice
    wake: Wake
    uploads: Bulkhead = field(default_factory=Bulkhead)
    #: named steps at which a test lets the process die
    reached: Any = field(default=lambda step: None)


def engine_over(settings: Settings, pool: AsyncConnectionPool) -> Engine:
    """The stories' engine over the queue's own table, in a worker and in a command alike."""
    return Engine(
        pool=pool,
        settings=settings,
        http=clients.client(settings),
        commit_http=clients.commit_client(settings),
        wake=jobs.wake,
    )


# -- what was learned is never thrown away -----------------------------------------------------------------------------


def kept(writing: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Around what writes down an answer: it is written again on another session when the database, or the session, ends
    just then. Twice does no harm, since each arrow is guarded. After an hour, or when the process ends, the row tells that
    a request was under way, and a look finds out what became of it.
    """

    @functools.wraps(writing)
    async def patiently(*args: P.args, **options: P.kwargs) -> T:
        clock, pause_s = asyncio.get_running_loop().time, FIRST_PAUSE_S
        give_up_at = clock() + KEPT_FOR_S
        while True:
            try:
                return await writing(*args, **options)
            except DATABASE_GONE as gone:
                if clock() > give_up_at or isinstance(gone, PoolClosed):
                    raise
                log.warning(
                    "the database does not take an answer; trying again", what=writing.__name__, why=str(gone)[:120]
                )
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_PAUSE_S, pause_s * 2)

    return patiently


async def to_the_end(writing: Coroutine[Any, Any, T]) -> T:
    """What the network has answered is written down, though the worker is told to stop just then. Where that takes long
    (the database is away), it goes on beside whatever this process does next.
    """
    task = asyncio.ensure_future(writing)
    _unwritten.add(task)
    task.add_done_callback(_written)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task], timeout=LAST_WORD_S)
        raise


#: Nobody else holds on to what goes on beside.
_unwritten: set[asyncio.Future[Any]] = set()


def _written(task: asyncio.Future[Any]) -> None:
    _unwritten.discard(task)
    if not task.cancelled() and (failed := task.exception()):
        log.error("an answer could not be written down", why=f"{type(failed).__name__}: {failed}"[:200])
