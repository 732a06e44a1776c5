"""Procrastinate's connector with the due bell (worker/notifier.py) in place of the stock listener, under the stock command."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, LiteralString

import psycopg
import structlog
from procrastinate import PsycopgConnector, connector, exceptions, sql

from postflow import db
from worker import notifier

log = structlog.stdlib.get_logger("postflow.bell")

_AGAIN_S = 1.0
#: So long a claim is tried again when its connection breaks, before the worker ends this life: which waits for the jobs
#: it runs, and claims nothing meanwhile.
CLAIM_PATIENCE_S, CLAIM_AGAIN_S = 5.0, 0.5


class Room:
    """Whether this worker has a free slot, seen by a middleware around each of its jobs."""

    def __init__(self) -> None:
        self._running = 0
        self._slots: int | None = None

    def is_free(self) -> bool:
        return self._slots is None or self._running < self._slots

    async def counted(self, call_next: Callable[[], Awaitable[Any]], _context: Any, worker: Any) -> Any:
        self._slots = worker.concurrency
        self._running += 1
        try:
            return await call_next()
        finally:
            self._running -= 1


class PunctualConnector(PsycopgConnector):
    """Under the stock command: whoever listens for inserts keeps the bell, or stands by to keep it."""

    def __init__(self, *, conninfo: str, room: Room | None = None, **options: Any) -> None:
        super().__init__(conninfo=conninfo, **options)
        self._conninfo = conninfo
        self._room = room or Room()

    async def open_async(self, pool: Any = None) -> None:
        """As stock, but it does not wait for the database: who asks something of it does, and a worker for as long as it
        takes.
        """
        if pool or self._async_pool or self._sync_connector:
            return await super().open_async(pool)
        made = self._async_pool = await self._create_pool(self._pool_args)
        await made.open()

    async def execute_query_one_async(self, query: LiteralString, **arguments: Any) -> dict[str, Any]:
        """A claim that came through although its answer was lost leaves a job to nobody until this life ends; if it was
        a post's, the sweep wakes the post within a minute and a half.
        """
        clock = asyncio.get_running_loop().time
        give_up_at = clock() + (CLAIM_PATIENCE_S if query == sql.queries["fetch_job"] else 0)
        while True:
            try:
                return await super().execute_query_one_async(query, **arguments)
            except exceptions.ConnectorException as broken:
                if clock() >= give_up_at or not isinstance(broken.__cause__, psycopg.OperationalError):
                    raise
            await asyncio.sleep(CLAIM_AGAIN_S)

    async def listen_notify(self, on_notification: connector.Notify, channels: Iterable[str]) -> None:
        """Until cancelled; whatever happens to the connection, it listens again as soon as it can."""
        channels = tuple(channels)
        while True:
            try:
                async with db.listening(self._conninfo, notifier.name(channels)) as conn:
                    await notifier.Bell(conn, channels, on_notification, self._room).run()
            except (psycopg.Error, TimeoutError) as gone:
                log.warning("the database does not answer; listening again in a second", why=str(gone)[:120])
            await asyncio.sleep(_AGAIN_S)
