"""How gunicorn serves the web side: `gunicorn --config python:web.gunicorn "web.app:create_app()"`.

Threads, not an event loop: pages are short, and the database is asked from plain functions.
"""

import os
from pathlib import Path

from gunicorn.errors import AppImportError

from postflow import errors

bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "gthread"
threads = int(os.environ.get("WEB_THREADS", "8"))
timeout = 60
graceful_timeout = 10  # platforms kill 10 to 30 s after SIGTERM
keepalive = 5
#: Heartbeats in memory: a slow disk must not make a worker look dead.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
#: gunicorn 27 would open a control socket in the home directory, which a container's user may not have.
control_socket_disable = True
accesslog = "-"
logger_class = "web.accesslog.AccessLog"
errorlog = "-"
loglevel = os.environ.get("POSTFLOW_LOG_LEVEL", "info").lower()


def post_fork(_server: object, _worker: object) -> None:
    """What keeps the app from starting is said in a sentence, before it fails with a traceback. Here and not in the
    parent, which would hand the code that it has loaded to all processes to come.
    """
    from web import app

    try:
        app.refuse_a_start()
    except errors.Misconfigured as wrong:
        raise AppImportError(str(wrong)) from None
