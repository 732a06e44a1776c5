"""The same engine on Procrastinate as it ships: `procrastinate --app=benchmarks.stock_worker.app worker`."""

import os

from procrastinate import App, PsycopgConnector

from postflow.publishing import preparing, sending
from worker import engine

app = App(connector=PsycopgConnector(conninfo=os.environ.get("DATABASE_URL", "")))


@app.task(name="prepare", queue="posts")
async def prepare(delivery_id: int) -> None:
    await preparing.prepare(await engine.ready(), delivery_id)


@app.task(name="publish", queue="posts")
async def publish(delivery_id: int) -> None:
    await sending.publish(await engine.ready(), delivery_id)
