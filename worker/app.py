"""The Procrastinate App and nothing else: `procrastinate --app=worker.app.app worker`.

Importing reads the database's address and connects to nothing; opening checks the settings.
"""

import asyncio
import functools
from typing import Any

from procrastinate import App, utils

from postflow import config, db
from postflow.operations import heartbeat
from worker import database_outages, engine, schema_wait, startup, tick_watch
from worker.connector import PunctualConnector, Room


class PostFlowApp(App):
    def open_async(self, pool: Any = None) -> utils.AwaitableContext[App]:
        """As stock, for every command. Raises Misconfigured, which the command says as a sentence."""
        config.load()
        return super().open_async(pool)

    async def run_worker_async(self, **options: Any) -> None:
        """As stock, after a look at schema and surroundings, and through whatever becomes of the database meanwhile.

        Raises Misconfigured, SchemaBehind.
        """
        settings = config.load()
        options = {"concurrency": settings.concurrency, "shutdown_graceful_timeout": settings.stop_s, **options}
        engine.slots = options["concurrency"]

        async def begin() -> None:
            await asyncio.to_thread(startup.begin, settings, options)

        if not options.get("wait", True):
            await begin()
            return await super().run_worker_async(**options)

        async def live() -> None:
            async with tick_watch.watched(self._tick):
                await super(PostFlowApp, self).run_worker_async(**options)

        options["install_signal_handlers"] = False  # they are ours: a signal ends all lives, not only the present one
        begun = functools.partial(schema_wait.Patience(settings.schema_patience_s).through, begin)
        async with heartbeat.beating():
            await database_outages.until_told_to_stop(begun, live)

    async def _tick(self) -> None:
        """The task of that name, here and now: known by then, since a worker that runs has imported its tasks."""
        await self.tasks["tick"](timestamp=0)


_room = Room()

app = PostFlowApp(
    connector=PunctualConnector(conninfo=config.unchecked("DATABASE_URL"), room=_room, pool_factory=db.queue_pool),
    import_paths=["worker.tasks", "worker.periodic"],
    worker_defaults={
        "update_heartbeat_interval": 5,
        "stalled_worker_timeout": 30,
        "worker_middleware": [_room.counted],
    },
)
