"""How gunicorn serves the web side: `gunicorn --config python:web.gunicorn "web.app:create_app()"`.

Threads, not an event loop: pages are short, and the database is asked from plain functions. Requests are read whole before
a thread is taken (web/whole_requests.py).
"""

import os
import sys
from pathlib import Path

from web import startup

bind = f"0.0.0.0:{os.environ.get('PORT', '8000')}"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "web.whole_requests.Worker"
threads = int(os.environ.get("WEB_THREADS", "8"))
timeout = 60
graceful_timeout = 10  # platforms kill 10 to 30 s after SIGTERM
keepalive = 5
#: Heartbeats in memory: a slow disk must not make a worker look dead.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108
#: Headers of a proxy are believed in one place, as POSTFLOW_PROXIES says (web/app.py), and here from nobody: gunicorn would
#: take the scheme and SCRIPT_NAME from whoever comes from this machine.
forwarded_allow_ips = ""
#: gunicorn 27 would open a control socket in the home directory, which a container's user may not have.
control_socket_disable = True
accesslog = "-"
logger_class = "web.middleware.access_log.AccessLog"
errorlog = "-"
loglevel = os.environ.get("POSTFLOW_LOG_LEVEL", "info").lower()


def on_starting(_: object) -> None:
    """What keeps the app from starting is said once and in a sentence, before each of its processes fails with a traceback.

    Asked in a child: what the parent loads all its processes inherit, also those that begin after an update (HUP).
    """
    child = os.fork()
    if not child:
        refused = False  # a fault of another kind shows itself where the app is made
        try:
            refused = startup.refuses()
        finally:
            os._exit(refused)
    if os.waitpid(child, 0)[1]:
        sys.exit(1)
