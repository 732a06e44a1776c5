"""The Procrastinate App and nothing else: `procrastinate --app=worker.app.app worker`.

Importing reads the environment and connects to nothing.
"""

import os

from procrastinate import App

from worker.bell import PunctualConnector

#: Under Heroku's 30 s between SIGTERM and SIGKILL.
STOP_S = float(os.environ.get("POSTFLOW_STOP_S", "20"))

app = App(
    connector=PunctualConnector(conninfo=os.environ.get("DATABASE_URL", "")),
    import_paths=["worker.tasks", "worker.periodic"],
    worker_defaults={
        "concurrency": int(os.environ.get("POSTFLOW_CONCURRENCY", "20")),
        "shutdown_graceful_timeout": STOP_S,
        "update_heartbeat_interval": 5,
        "stalled_worker_timeout": 30,
    },
)
