"""Procrastinate's connector with the due bell (worker/bell.py) in place of the stock listener, under the stock command."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import psycopg
import structlog
from procrastinate import PsycopgConnector, connector

from worker import bell

log = structlog.stdlib.get_logger("postflow.bell")

_AGAIN_S = 1.0


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

    async def listen_notify(self, on_notification: connector.Notify, channels: Iterable[str]) -> None:
        """Until cancelled; whatever happens to the connection, it listens again as soon as it can."""
        channels = tuple(channels)
        while True:
            try:
                async with await _connect(self._conninfo, channels) as conn:
                    await bell.Bell(conn, channels, on_notification, self._room).run()
            except (psycopg.Error, TimeoutError) as gone:
                log.warning("the database does not answer; listening again in a second", why=str(gone)[:120])
            await asyncio.sleep(_AGAIN_S)


async def _connect(conninfo: str, channels: tuple[str, ...]) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(conninfo, autocommit=True, application_name=bell.name(channels))
