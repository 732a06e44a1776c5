"""Writes down how each run of a periodic job went, so that `postflow doctor` and /metrics can tell."""

import functools
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import psycopg
import structlog

from postflow import db
from postflow.engine import Engine
from postflow.operations import periodic_runs
from worker import engine

log = structlog.stdlib.get_logger("postflow.periodic")

Said = Mapping[str, int] | None


def noted(name: str) -> Callable[[Callable[[], Awaitable[Said]]], Callable[[], Awaitable[None]]]:
    """Around a task that returns what it counted, or nothing. What it raises is noted and raised on."""

    def around(task: Callable[[], Awaitable[Said]]) -> Callable[[], Awaitable[None]]:
        @functools.wraps(task)
        async def run() -> None:
            ready = await engine.ready()
            async with ready.pool.connection() as conn:
                began_at = await db.async_now(conn)
            try:
                said = await task()
            except Exception as error:
                await _note(ready, name, began_at, "failed", f"{type(error).__name__}: {error}")
                raise
            await _note(ready, name, began_at, "done", _listed(said or {}))

        return run

    return around


async def _note(ready: Engine, name: str, began_at: datetime, outcome: str, said: str) -> None:
    """A database that cannot write keeps no notes; the run itself has said so already, or is done all the same."""
    try:
        async with ready.pool.connection() as conn:
            await periodic_runs.note(conn, name, began_at=began_at, outcome=outcome, said=said)
    except (psycopg.OperationalError, psycopg.InternalError) as error:
        log.warning("the run could not be noted", name=name, outcome=outcome, why=str(error).splitlines()[0][:200])


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())
