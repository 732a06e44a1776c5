"""The due bell: wakes a worker exactly when the next job is due, instead of all of them at their next poll.

The stock worker learns of a job when it is inserted and then polls every five seconds; a job for 09:00:00 starts up to
five seconds late, and each insert makes every worker look. Here one of the workers that serve the same queues keeps the
bell, by an advisory lock on the connection it listens on. It alone hears of jobs for later, sleeps until the next
`scheduled_at` by the database's clock, and wakes as many workers as jobs fall due, itself first. Whoever keeps it and
stops says so, and another takes over at once; after a kill -9 the lock is free and another takes it at its next try; a
keeper that stands still (SIGSTOP, a machine that is gone) is relieved of it by the others. The poll stays as the safety
net. docs/queue.md has the figures.
"""

import asyncio
import contextlib
import math
import zlib
from typing import Any, LiteralString, NamedTuple, Protocol

import psycopg
import structlog
from procrastinate import connector
from psycopg import sql
from psycopg.rows import class_row

log = structlog.stdlib.get_logger("postflow.bell")

#: Jobs for later are announced here alone (migrations/sql/0004_queue.sql), and here that nobody keeps the bell.
BELL, FREE = "postflow_bell", "postflow_bell_free"
_WAKE = "postflow_wake_"  # and the pid of a worker's listening session
_LOCK_SPACE = 730_508_112
_QUEUE = "procrastinate_queue_v1#"

#: Whoever does not keep the bell tries to take it this often: so long a dead keeper may go unnoticed.
STAND_AGAIN_S = 2.5
#: A clock may be set and a notification may get lost: the keeper looks again at least this often.
LOOK_AGAIN_S = 5.0
#: Who keeps the bell and has missed so many of its looks stands still.
LOOKS_MISSED = 4
#: Before a job falls due the keeper looks once more: clocks that drift for seconds would ring too early.
CLOSE_S = 0.5
#: Timers may be a little early, and then there would be nothing to take yet.
MARGIN_S = 0.0003
#: Announcements come in bursts; the keeper looks no more often than this.
DEBOUNCE_S = 0.02
#: A due job that nobody takes (all are busy, or it waits for a lock) is rung for again after a pause that doubles.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.03, 4.0
#: From this ring on for the same jobs, everybody is woken.
EVERYBODY_FROM = 3
#: More due jobs than this are not counted.
MOST = 100
_ANSWER_S = 10.0


class Room(Protocol):
    def is_free(self) -> bool:
        """Has this worker a free slot?"""
        ...


class Ahead(NamedTuple):
    """What the database knows of the next moments; `at` is its clock, epoch seconds."""

    due: int
    next_in_s: float
    together: int
    at: float


class Bell:
    """One worker's listening connection, and the bell while it keeps it."""

    def __init__(
        self, conn: psycopg.AsyncConnection, channels: tuple[str, ...], tell: connector.Notify, room: Room
    ) -> None:
        self._conn = conn
        self._channels = channels
        self._queues = _queues(channels)
        self._tell = tell
        self._room = room
        self._clock = asyncio.get_running_loop().time
        self._keeps = False
        self._refused = 0
        self._next_at = math.inf  # by the database's clock
        self._looked_at = 0.0
        self._rings = 0  # for jobs that are due and that nobody takes
        self._ring_again_at = 0.0

    async def run(self) -> None:
        row = await self._ask("SELECT pg_backend_pid()", [])  # which a pooler knows and the connection does not
        assert row
        for channel in (*self._channels, FREE, f"{_WAKE}{row[0]}"):
            await self._listen(channel)
        await self._ring_here()  # for what was inserted before we listened
        try:
            while True:
                if self._keeps or await self._stands():
                    await self._turn()
                else:
                    await self._hears(STAND_AGAIN_S)
        finally:
            await self._resign()

    # -- keeping it ----------------------------------------------------------------------------------------

    async def _stands(self) -> bool:
        row = await self._ask("SELECT pg_try_advisory_lock(%s, %s)", [_LOCK_SPACE, _group(self._channels)])
        self._keeps = bool(row and row[0])
        if self._keeps:
            await self._listen(BELL)
            return True
        self._refused += 1
        if self._refused % LOOKS_MISSED == 0:  # seldom: idle workers ask little
            await self._relieve()
        return False

    async def _relieve(self) -> None:
        """Ends the session of a keeper that stands still; it listens anew should it go on. Another role's session is
        neither ours to look at nor to end: the poll stays.
        """
        asked = {"space": _LOCK_SPACE, "group": _group(self._channels), "silent_s": LOOKS_MISSED * LOOK_AGAIN_S}
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            if row := await self._ask(_END_A_SILENT_KEEPER, asked):
                log.warning("the bell's keeper stood still; another takes over", session=row[0])

    async def _resign(self) -> None:
        """The connection's end lets go of the lock; the word spares the others the wait for their next try."""
        if self._keeps:
            with contextlib.suppress(psycopg.Error, TimeoutError):
                async with asyncio.timeout(1):
                    await self._conn.execute("SELECT pg_advisory_unlock_all()")
                    await self._conn.execute("SELECT pg_notify(%s, '')", [FREE])

    async def _turn(self) -> None:
        """Look, ring for what is due, then rest until the next instant, which is rung without looking again."""
        ahead = await self._look()
        if not ahead.due:
            self._rings = 0
        elif self._clock() >= self._ring_again_at:
            await self._ring(ahead.due)
        rest_s = min(LOOK_AGAIN_S, self._ring_again_at - self._clock()) if ahead.due else LOOK_AGAIN_S
        next_in_s = ahead.next_in_s
        if next_in_s > min(rest_s, CLOSE_S):
            await self._hears(min(rest_s, next_in_s - CLOSE_S / 2) if next_in_s > CLOSE_S else rest_s)
        elif not await self._hears(next_in_s + MARGIN_S - (self._clock() - self._looked_at)):
            self._rings, self._ring_again_at = 0, 0.0
            if self._queues is None:  # else it may be for others: the next look tells
                await self._ring(ahead.together)

    async def _look(self) -> Ahead:
        async with asyncio.timeout(_ANSWER_S), self._conn.cursor(row_factory=class_row(Ahead)) as cursor:
            await cursor.execute(
                "SELECT due, next_in_s, together, extract(epoch FROM clock_timestamp())::float8 AS at"
                " FROM postflow_look_ahead(%s, %s)",
                [self._queues, MOST],
                prepare=True,
            )
            ahead = await cursor.fetchone()
        assert ahead is not None
        self._looked_at = self._clock()
        self._next_at = ahead.at + ahead.next_in_s
        return ahead

    # -- ringing -------------------------------------------------------------------------------------------

    async def _ring(self, jobs: int) -> None:
        """As many workers as there are jobs, ourselves first; everybody when that did not help."""
        self._ring_again_at = self._clock() + min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._rings, 10))
        self._rings += 1
        if self._rings >= EVERYBODY_FROM:
            for channel in self._channels:
                await self._ask("SELECT pg_notify(%s, %s)", [channel, _INSERTED])
            return
        others = jobs
        if self._room.is_free():
            await self._ring_here()
            others = jobs - 1 + (self._rings - 1)
        if others > 0:
            await self._ask(_WAKE_PEERS, {"name": name(self._channels), "count": others, "wake": _WAKE})

    async def _ring_here(self) -> None:
        await self._tell(channel=self._channels[0], payload=_INSERTED)

    # -- hearing -------------------------------------------------------------------------------------------

    async def _hears(self, rest_s: float) -> bool:
        """Rests and passes on what comes in. True, and sooner, when there is a reason to look or to stand."""
        until, called = self._clock() + rest_s, False
        while True:
            left_s = max(0.0, until - self._clock())
            async for heard in self._conn.notifies(timeout=left_s, stop_after=1):
                if heard.channel == BELL:
                    called = called or self._is_sooner(heard.payload)
                elif heard.channel == FREE:
                    called = called or not self._keeps
                elif heard.channel in self._channels:
                    await self._tell(channel=heard.channel, payload=heard.payload)
                else:  # the keeper means us
                    await self._ring_here()
            if called:
                until = min(until, self._looked_at + DEBOUNCE_S)
            if self._clock() >= until:
                return called

    def _is_sooner(self, second: str) -> bool:
        return float(second) <= self._next_at

    async def _listen(self, channel: str) -> None:
        async with asyncio.timeout(_ANSWER_S):
            await self._conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))

    async def _ask(self, query: LiteralString, values: Any) -> tuple[Any, ...] | None:
        async with asyncio.timeout(_ANSWER_S):
            return await (await self._conn.execute(query, values)).fetchone()


_INSERTED = '{"type": "job_inserted", "job_id": 0}'
#: The key's second half is a signed number here and an unsigned one there.
_END_A_SILENT_KEEPER: LiteralString = """
    SELECT pid, pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity AS holder USING (pid)
     WHERE locktype = 'advisory' AND granted AND objsubid = 2
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND classid = %(space)s::oid AND objid = (%(group)s::bigint & 4294967295)::oid
       AND holder.state = 'idle' AND holder.state_change < clock_timestamp() - make_interval(secs => %(silent_s)s)
"""
_WAKE_PEERS: LiteralString = """
    SELECT count(pg_notify(%(wake)s || pid, '')) FROM (
        SELECT pid FROM pg_stat_activity
         WHERE application_name = %(name)s AND datname = current_database() AND pid <> pg_backend_pid()
         ORDER BY random() LIMIT %(count)s) AS peers
"""


def _queues(channels: tuple[str, ...]) -> list[str] | None:
    """None where every queue is served."""
    named = [channel.removeprefix(_QUEUE) for channel in channels if channel.startswith(_QUEUE)]
    return named if len(named) == len(channels) else None


def name(channels: tuple[str, ...]) -> str:
    """Workers that serve the same queues find each other by it in pg_stat_activity."""
    return f"postflow bell {_group(channels) & 0xFFFFFFFF:08x}"


def _group(channels: tuple[str, ...]) -> int:
    """A signed 32-bit number: the second half of the lock's key."""
    return zlib.crc32("\n".join(sorted(channels)).encode()) - 2**31
