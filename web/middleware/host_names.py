"""Which name was it asked by? Pages are given under the public address only: a name of somebody else's that leads here
(DNS rebinding) would make their page and ours one site to the browser.
"""

from urllib.parse import urlsplit

import structlog
from flask import Flask, request

from postflow import config
from postflow.http import addresses
from web.middleware import error_pages

log = structlog.stdlib.get_logger("web")
#: Probes come by whatever address the machine has, and tell nothing about anybody.
_BY_ANY_NAME = ("health.healthz", "health.readyz", "health.metrics")


def register(app: Flask, settings: config.Settings) -> None:
    """Before whatever else looks at a request."""
    ours = of(settings.public_url)

    @app.before_request
    def look() -> tuple[str, int] | None:
        if request.endpoint in _BY_ANY_NAME:
            return None
        asked = of(f"//{request.host}")
        if asked == ours or (is_loopback(asked) and is_loopback(ours)):
            return None
        if not app.extensions.setdefault("another name noticed", False):
            app.extensions["another name noticed"] = True
            log.warning("asked for by another name than that in POSTFLOW_PUBLIC_URL", host=asked[:100])
        return error_pages.page(421, f"Open it there: {settings.public_url}. {_FOR_THE_OPERATOR}")


_FOR_THE_OPERATOR = (
    "Whoever runs PostFlow sets POSTFLOW_PUBLIC_URL to the address that people type, and lets a proxy in front pass on the"
    " Host header as it came."
)


def is_loopback(host: str) -> bool:
    """A name that leads to this very machine, whoever asks for it."""
    address = addresses.literal(host)
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def of(url: str) -> str:
    """The name or address in it, without a port: proxies drop those. Empty when it is no address."""
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""
