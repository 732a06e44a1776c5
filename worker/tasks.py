"""The worker's tasks: one call each.

There is no queue-level retry around any of these: what must happen again is decided and deferred by the stories
(`preparing`, `sending`, `reconciling` and `rechecking` in postflow/publishing/).
"""

from postflow.jobs import QUEUE, publish_later
from postflow.publishing import preparing, rechecking, reconciling, sending
from worker import engine
from worker.app import app

__all__ = ["prepare", "publish", "publish_later", "recheck", "reconcile"]


@app.task(name="prepare", queue=QUEUE)
async def prepare(delivery_id: int) -> None:
    await preparing.prepare(await engine.ready(), delivery_id)


@app.task(name="publish", queue=QUEUE)
async def publish(delivery_id: int) -> None:
    await sending.publish(await engine.ready(), delivery_id)


@app.task(name="reconcile", queue=QUEUE)
async def reconcile(delivery_id: int) -> None:
    await reconciling.reconcile(await engine.ready(), delivery_id)


@app.task(name="recheck", queue=QUEUE)
async def recheck(delivery_id: int) -> None:
    await rechecking.recheck(await engine.ready(), delivery_id)
