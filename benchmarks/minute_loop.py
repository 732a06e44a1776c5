"""A scheduler as most are written: once a minute APScheduler looks for what is due and publishes it, one after another.

`python -m benchmarks.minute_loop`, until it is killed. No queue, nothing prepared ahead.
"""

import asyncio
from datetime import UTC, datetime
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from postflow.engine import Engine
from postflow.publishing import sending
from worker import engine

_DUE = """
    SELECT d.id FROM deliveries d JOIN posts p ON p.id = d.post_id
     WHERE d.status IN ('scheduled', 'ready') AND d.wake_at <= now() AND p.post_date <= now() ORDER BY p.post_date
"""


async def main() -> None:
    ready = await engine.ready()
    scheduler: Any = AsyncIOScheduler(timezone=UTC)
    # As a programme that was started at any moment: its minute is not the clock's.
    scheduler.add_job(publish_what_is_due, "interval", [ready], minutes=1, next_run_time=datetime.now(UTC))
    scheduler.start()
    await asyncio.Event().wait()


async def publish_what_is_due(ready: Engine) -> None:
    async with ready.pool.connection() as conn:
        due = await (await conn.execute(_DUE)).fetchall()
    for (delivery_id,) in due:
        await sending.publish(ready, delivery_id)


if __name__ == "__main__":
    asyncio.run(main())
