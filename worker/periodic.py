"""The tasks of the periodic jobs. A new one is a line in `schedule.JOBS` and a task of that name here.

Every worker runs the same minute tick; Procrastinate defers each tick once however many workers there are. The tick
then defers the jobs whose next run, kept in the periodic_runs table, has come by the database's clock, and writes down
the one after. So a run that nobody was there for is made up for, several missed ones of a job by one, and each schedule
follows its zone through daylight saving.
"""

import contextlib
import functools
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import psycopg
import structlog
from procrastinate import exceptions
from psycopg import AsyncConnection

from postflow import db
from postflow.config import Settings
from postflow.connections import limit_refresh, token_refresh
from postflow.notifications import notices, sender
from postflow.operations import periodic_runs, retention, totals
from postflow.publishing import sweeping
from worker import engine, run_records, schedule
from worker.app import app

log = structlog.stdlib.get_logger("postflow.periodic")

QUEUE = "periodic"
#: Accounts of one worker process that are refreshed or verified side by side, at most.
UPKEEP_AT_ONCE = 4
_at_work: set[str] = set()
_running: set[str] = set()


def _periodic(name: str) -> Callable[[Callable[[], Awaitable[run_records.Said]]], object]:
    """The task of a job in `schedule.JOBS`: what it returns, or raises, is noted. One that takes longer than its schedule
    allows piles up neither in the queue nor here.
    """
    [job] = [job for job in schedule.JOBS if job.name == name]
    in_the_queue = app.task(name=name, queue=QUEUE, queueing_lock=name, priority=job.priority)
    return lambda task: in_the_queue(_alone(name, run_records.noted(name)(task)))


def _alone(name: str, task: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    @functools.wraps(task)
    async def run() -> None:
        if name in _running:
            return log.info("the run before it is not over yet", name=name)
        _running.add(name)
        try:
            await task()
        finally:
            _running.discard(name)

    return run


@app.periodic(cron="* * * * *", periodic_id="tick")
@app.task(name="tick", queue=QUEUE, queueing_lock="tick", priority=schedule.FIRST, pass_context=False)
async def tick(timestamp: int) -> None:
    """A tick that gets lost loses nothing: the next one finds what was due. Each job goes by the schedule that was planned
    last, whatever this worker's own settings say: it must not depend on who gets the tick.
    """
    async with (await engine.ready()).pool.connection() as conn:
        now = await db.async_now(conn)
        for last in await periodic_runs.schedules(conn, [job.name for job in schedule.JOBS]):
            job = last.model_copy(update={"next_at": schedule.following(last.cron, ZoneInfo(last.time_zone), now)})
            async with conn.transaction():  # the note and the job, or neither
                if await periodic_runs.take(conn, job):
                    await _defer(conn, job.name)


async def _defer(conn: AsyncConnection, name: str) -> None:
    with contextlib.suppress(exceptions.AlreadyEnqueued):  # nobody has begun the one before: they are one run
        async with conn.transaction():
            await app.configure_task(name, connection=conn).defer_async()


@_periodic("sweep")
async def sweep() -> dict[str, int]:
    found = await sweeping.sweep(await engine.ready())
    for job in await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=30):
        log.warning("freeing a job of a dead worker", job=job.id, task=job.task_name)
        try:
            await app.job_manager.retry_job(
                job, retry_at=datetime.fromtimestamp(0, UTC)
            )  # now, whatever our clock says
        except exceptions.ConnectorException as refused:
            if isinstance(refused.__cause__, psycopg.OperationalError):
                raise  # the others would fare no better
            # Somebody else has freed or ended it, or another one waits under its lock: then its turn comes after that.
            log.warning("it cannot be freed now", job=job.id, why=str(refused.__cause__ or refused).strip()[:200])
    async with (await engine.ready()).pool.connection() as conn:
        await totals.fold(conn)
    return found


@_periodic("refresh_tokens")
async def refresh_tokens() -> dict[str, int]:
    """One job per account: a slow network holds up nobody else."""
    return await _for_each_account("refresh_token", token_refresh.active_accounts)


@_periodic("verify_accounts")
async def verify_accounts() -> dict[str, int]:
    return await _for_each_account("verify_account", token_refresh.accounts_in_use)


@app.task(name="refresh_token", queue=QUEUE)
async def refresh_token(account_id: int) -> None:
    """A token that is at work right now gets its turn a minute later, not at the next round."""

    async def work() -> bool:
        return (await token_refresh.refresh(await engine.ready(), account_id)).state != "busy"

    await _upkeep("refresh_token", account_id, work)


@app.task(name="verify_account", queue=QUEUE)
async def verify_account(account_id: int) -> None:
    async def work() -> bool:
        await token_refresh.verify(await engine.ready(), account_id)
        return True

    await _upkeep("verify_account", account_id, work)


async def _upkeep(task: str, account_id: int, work: Callable[[], Awaitable[bool]]) -> None:
    """Accounts on a slow server must not take the slots of posts that are due: a few at once, the others soon again."""
    name, done = f"{task}:{account_id}", False
    if len(_at_work) < _most_at_once((await engine.ready()).settings):
        _at_work.add(name)
        try:
            done = await work()
        finally:
            _at_work.discard(name)
    if not done:
        await _for_account(task, account_id, in_s=random.randint(30, 60))  # noqa: S311 spreads load


def _most_at_once(settings: Settings) -> int:
    """A refresh keeps a connection for as long as a network takes to answer: most of them are for posts."""
    return min(UPKEEP_AT_ONCE, max(1, settings.database_connections // 4))


@_periodic("survey_servers")
async def survey_servers() -> dict[str, int]:
    ready = await engine.ready()
    return await limit_refresh.daily(ready.pool, ready.settings, ready.http)


@_periodic("warn_of_risks")
async def warn_of_risks() -> dict[str, int]:
    ready = await engine.ready()
    async with db.async_transaction(ready.pool) as conn:
        return {"notices": await notices.warn_of_posts_at_risk(conn, ready.settings, await db.async_now(conn))}


@_periodic("tell_people")
async def tell_people() -> dict[str, int]:
    ready = await engine.ready()
    return {"told": await sender.tell(ready.pool, ready.settings, ready.http)}


@_periodic("purge")
async def purge() -> dict[str, int]:
    ready = await engine.ready()
    async with ready.pool.connection() as conn:
        removed = await retention.purge(conn, ready.settings)
    log.info("purged", **{name.replace(" ", "_"): count for name, count in removed.items()})
    return removed


async def _for_each_account(task: str, whose: Callable[[AsyncConnection], Awaitable[list[int]]]) -> dict[str, int]:
    async with (await engine.ready()).pool.connection() as conn:
        ids = await whose(conn)
    for account_id in ids:
        await _for_account(task, account_id)
    return {"accounts": len(ids)}


async def _for_account(task: str, account_id: int, in_s: int = 0) -> None:
    """One waiting job per account is enough."""
    lock, later = f"{task}:{account_id}", {"seconds": in_s} if in_s else None
    job = app.configure_task(task, queue=QUEUE, queueing_lock=lock, schedule_in=later)
    with contextlib.suppress(exceptions.AlreadyEnqueued):
        await job.defer_async(account_id=account_id)
