"""The due bell: wakes this worker exactly when the next job is due, instead of at the next poll.

The stock worker learns of a job when it is inserted and then polls every five seconds; a job for 09:00:00 starts up to
five seconds late. The bell is a side task beside the listener: it asks for the next `scheduled_at`, sleeps exactly until
then by the database's clock, and hands the worker the same notification an insert would. Inserts re-arm it. The poll
stays as the safety net.
"""

import asyncio
import contextlib
import random
from collections.abc import Iterable

import structlog
from procrastinate import PsycopgConnector, connector, exceptions

log = structlog.stdlib.get_logger("postflow.bell")

#: Jobs for later are announced here alone (migrations/sql/0004_queue.sql).
BELL = "postflow_bell"
#: A clock may jump and a notification may get lost: look again at least this often.
LONGEST_SLEEP_S = 4.0
#: Inserts come in bursts; one look serves them all.
DEBOUNCE_S = 0.02
#: A due job that nobody takes (all busy, or locked) is rung for again after a growing pause.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 2.0

_NEXT = """
    SELECT extract(epoch FROM min(scheduled_at) - clock_timestamp())::float8 AS in_s
      FROM procrastinate_jobs WHERE status = 'todo' AND scheduled_at IS NOT NULL
"""


class PunctualConnector(PsycopgConnector):
    """Under the stock command: whoever listens for inserts hears the bell as well."""

    async def listen_notify(self, on_notification: connector.Notify, channels: Iterable[str]) -> None:
        channel = next(iter(channels))
        inserted = asyncio.Event()

        async def heard(*, channel: str, payload: str) -> None:
            inserted.set()
            if channel != BELL:
                await on_notification(channel=channel, payload=payload)

        ringing = asyncio.create_task(self._ring(on_notification, channel, inserted), name="due-bell")
        try:
            while True:
                try:
                    await super().listen_notify(heard, [channel, BELL])
                except exceptions.ConnectorException as gone:  # the database restarts: listen again when it is back
                    log.warning("the database does not answer; listening again in a second", why=str(gone)[:120])
                    await asyncio.sleep(1)
        finally:
            ringing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ringing

    async def _ring(self, on_notification: connector.Notify, channel: str, inserted: asyncio.Event) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            in_s = await self._next_in_s()
            if in_s is not None and in_s <= 0:
                await on_notification(channel=channel, payload='{"type": "job_inserted", "job_id": 0}')
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.5))  # noqa: S311 spreads load
                pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
                continue
            pause_s = FIRST_PAUSE_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(inserted.wait(), min(LONGEST_SLEEP_S, in_s or LONGEST_SLEEP_S))
                await asyncio.sleep(DEBOUNCE_S)
                inserted.clear()

    async def _next_in_s(self) -> float | None:
        """Seconds until the next scheduled job by the database's clock; None when there is none or no answer."""
        try:
            row = await self.execute_query_one_async(_NEXT)
        except exceptions.ConnectorException:
            return None
        return row["in_s"]
