"""The Procrastinate App and nothing else: `procrastinate --app=worker.app.app worker`.

Importing reads the environment and connects to nothing.
"""

import asyncio
import functools
import os
import sys
from typing import Any

from procrastinate import App

from postflow import db
from postflow.errors import Misconfigured
from worker import startup, staying
from worker.listening import PunctualConnector, Room


def _number(name: str, usual: float) -> float:
    """Nonsense is refused at the start, with a sentence, and not here with a traceback."""
    try:
        return float(os.environ.get(name) or usual)
    except ValueError:
        return usual


CONCURRENCY = int(_number("POSTFLOW_CONCURRENCY", 20))
#: Under Heroku's 30 s between SIGTERM and SIGKILL.
STOP_S = _number("POSTFLOW_STOP_S", 20)


class PostFlowApp(App):
    async def run_worker_async(self, **options: Any) -> None:
        """As stock, after a look at settings and schema, and begun anew when the database comes back."""
        try:
            await asyncio.to_thread(
                startup.begin,
                options.get("queues"),
                options.get("concurrency") or CONCURRENCY,
                options.get("shutdown_graceful_timeout") or STOP_S,
            )
        except Misconfigured as wrong:
            sys.exit(str(wrong))
        if not options.get("wait", True):
            return await super().run_worker_async(**options)
        options["install_signal_handlers"] = False  # they are ours: a signal ends all lives, not only the present one
        return await staying.until_told_to_stop(functools.partial(super().run_worker_async, **options))


_room = Room()

app = PostFlowApp(
    connector=PunctualConnector(conninfo=os.environ.get("DATABASE_URL", ""), room=_room, pool_factory=db.queue_pool),
    import_paths=["worker.tasks", "worker.periodic"],
    worker_defaults={
        "concurrency": CONCURRENCY,
        "shutdown_graceful_timeout": STOP_S,
        "update_heartbeat_interval": 5,
        "stalled_worker_timeout": 30,
        "worker_middleware": [_room.counted],
    },
)
