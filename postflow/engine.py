"""What the stories of a delivery need, made once per worker process, and what each of them gathers for its platform."""

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
from pydantic import BaseModel, ValidationError

from postflow import net, outgoing, platforms, waking
from postflow.bulkhead import Bulkhead
from postflow.config import Settings
from postflow.errors import Misconfigured, NotFound, NotReady, Refused
from postflow.models import Delivery, Outgoing
from postflow.platforms.base import Platform

log = structlog.stdlib.get_logger("postflow.engine")

#: Between two looks at something the operator has to mend.
PUT_OFF_S = 120.0
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
        http=net.client(settings),
        commit_http=net.commit_client(settings),
        wake=waking.wake,
    )


# -- what a platform needs ---------------------------------------------------------------------------------------------


async def gathered(engine: Engine, delivery: Delivery, *, with_data: bool) -> tuple[Platform, Outgoing]:
    """Raises Refused when the account or the network is gone, NotReady when the operator has to mend something first."""
    try:
        parcel = await outgoing.gather(engine.pool, delivery, engine.settings, with_data=with_data)
        return platforms.get(parcel.login.account.platform), parcel
    except NotFound as gone:
        raise Refused(str(gone), code="network_gone", next_step="Publish it by hand.") from None
    except Misconfigured as wrong:  # a key is missing: no fault of the post's, and none of the network's
        log.error("an account cannot be opened", account=delivery.account_id, why=str(wrong))
        raise NotReady(
            "Whoever runs PostFlow has to put back a key that opens the account.", retry_in_s=PUT_OFF_S
        ) from None


def staged_state(platform: Platform, delivery: Delivery) -> BaseModel | None:
    """None where it has to be prepared anew: also what another release prepared and this one cannot read, as long as
    nothing was sent with it. After that it is the only handle on what became of the request: raises NotReady.
    """
    if delivery.staged is None:
        return None
    try:
        return platform.staged_model.model_validate(delivery.staged)
    except ValidationError:
        if delivery.first_sent_at is None:
            return None
        log.error("another release prepared it, and this one cannot read what", delivery=delivery.id)
        raise NotReady(
            "Another release of PostFlow prepared it, and this one cannot read what: it waits for one that can.",
            retry_in_s=PUT_OFF_S,
        ) from None


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
