"""What an operator does by hand: publish what is due, refresh tokens. The same stories as a worker's, safe beside workers.

due             unknown → looked up; scheduled, ready → published; each line says what came of it
refresh_tokens  every account in turn
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from itertools import groupby

from psycopg.rows import class_row

from postflow import db
from postflow.config import Settings
from postflow.connections import token_refresh
from postflow.engine import Engine, engine_over
from postflow.models import DeliveryStatus, Value
from postflow.publishing import reconciling, sending, sweeping

Say = Callable[[str], None]


class Due(Value):
    """A delivery whose time has come, as a line for the operator."""

    id: int
    account_id: int
    status: DeliveryStatus
    post_date: datetime
    handle: str
    text: str
    wake_at: datetime | None
    permalink: str | None
    error: str | None
    account_state: str

    @property
    def line(self) -> str:
        at = self.post_date.isoformat(timespec="seconds")
        return f"{self.id}  {at}  {self.handle}  {self.status}  {self.text!r}"

    @property
    def outcome(self) -> str:
        """After a try: what the row says now."""
        if self.permalink or self.error:
            return f"{self.status}: {self.permalink or self.error}"
        if self.account_state != "active":
            return f"{self.status}: the account must be connected again first"
        if self.wake_at:
            return f"{self.status}: goes on at {self.wake_at.isoformat(timespec='seconds')}"
        return str(self.status)


async def refresh_tokens(settings: Settings) -> token_refresh.Tally:
    async with _engine(settings) as engine:
        return await token_refresh.refresh_all(engine)


async def publish_due(settings: Settings, say: Say, *, dry_run: bool) -> int:
    """How many were not published although they were due and nothing holds them. `say` gets a line for each."""
    async with _engine(settings) as engine:
        if not dry_run:
            await sweeping.sweep(engine)  # what a dead worker held becomes free
        found = await _due(engine)
        if dry_run or not found:
            for one in found:
                say(one.line)
            return 0
        accounts = [list(rows) for _, rows in groupby(found, key=lambda one: one.account_id)]
        return sum(await asyncio.gather(*(_in_turn(engine, rows, say) for rows in accounts)))


async def _in_turn(engine: Engine, rows: list[Due], say: Say) -> int:
    """One account's posts, oldest first; a slow network holds up only its own."""
    failed = 0
    for one in rows:
        story = reconciling.reconcile if one.status is DeliveryStatus.unknown else sending.publish
        await story(engine, one.id)
        for now in await _due(engine, only=one.id):  # none: its post was deleted meanwhile
            failed += now.status in (DeliveryStatus.failed, DeliveryStatus.missed, DeliveryStatus.attention)
            say(f"{one.id}  {one.handle}  {now.outcome}")
    return failed


async def _due(engine: Engine, *, only: int | None = None) -> list[Due]:
    """By account, then by date. `only`: that one, due or not."""
    async with engine.pool.connection() as conn, conn.cursor(row_factory=class_row(Due)) as cursor:
        await cursor.execute(
            """
            SELECT d.id, d.account_id, d.status, p.post_date, a.handle, left(p.content->>'text', 40) AS text, d.wake_at,
                   d.permalink, d.error, a.state AS account_state
              FROM deliveries d JOIN posts p ON p.id = d.post_id JOIN accounts a ON a.id = d.account_id
             WHERE d.id = %(only)s::bigint
                OR (%(only)s::bigint IS NULL AND d.status IN ('scheduled', 'ready', 'unknown')
                    AND d.wake_at <= clock_timestamp())
             ORDER BY d.account_id, p.post_date, d.id
            """,
            {"only": only},
        )
        return await cursor.fetchall()


@contextlib.asynccontextmanager
async def _engine(settings: Settings) -> AsyncIterator[Engine]:
    async with db.async_pool(settings.database_url.get_secret_value()) as pool:
        engine = engine_over(settings, pool)
        async with engine.http, engine.commit_http:
            yield engine
