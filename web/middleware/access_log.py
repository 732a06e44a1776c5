"""gunicorn's access log as lines of ours: no queries, no signed links, no probes that went well.

Codes and states of people who connect an account travel in queries.
"""

from collections.abc import MutableMapping
from datetime import timedelta
from typing import Any

import structlog
from gunicorn import glogging

from web.middleware import request_ids

log = structlog.stdlib.get_logger("web.access")

#: Asked every few seconds by machines; worth a line only when the answer is bad.
_PROBES = ("/healthz", "/readyz", "/metrics")


class AccessLog(glogging.Logger):
    def access(self, resp: Any, req: Any, environ: MutableMapping[str, Any], request_time: timedelta) -> None:
        """Called by gunicorn after each answer."""
        if not self.access_log_enabled:
            return
        status = int(str(resp.status).split(maxsplit=1)[0])
        path = str(environ.get("PATH_INFO", ""))
        if path in _PROBES and status < 400:
            return
        log.info(
            f"{environ.get('REQUEST_METHOD')} {shown(path)}",
            status=status,
            ms=round(request_time.total_seconds() * 1000),
            bytes=getattr(resp, "sent", None),
            address=environ.get("REMOTE_ADDR"),  # the one that POSTFLOW_PROXIES vouches for
            request=dict(resp.headers).get(request_ids.HEADER),
        )


def shown(path: str) -> str:
    """Whoever reads a signed link in the log could fetch the picture; control characters could forge a line."""
    if path.startswith("/m/"):
        return "/m/(hidden)"
    return "".join(one if one.isprintable() else "?" for one in path[:200])
