"""Pages opened over http although PostFlow's address is https: the browser keeps no cookie there, so nobody can sign in."""

import structlog
from flask import Flask, current_app, request

from postflow import config

log = structlog.stdlib.get_logger("web")
#: A proxy that nobody told us of, and that speaks https to the browser, says so in one of these.
_SAID_BY_A_PROXY = ("X-Forwarded-Proto", "X-Forwarded-Ssl", "Forwarded")


def register(app: Flask, settings: config.Settings) -> None:
    app.add_template_global(opened_over_http)
    app.extensions["said over http"] = not settings.is_https


def opened_over_http() -> str | None:
    """The address to open instead; None when all is well. The first time it is told to the log as well."""
    settings: config.Settings = current_app.extensions["settings"]
    if not settings.is_https or request.is_secure or any(name in request.headers for name in _SAID_BY_A_PROXY):
        return None
    if not current_app.extensions["said over http"]:
        current_app.extensions["said over http"] = True
        log.warning("opened over http, but POSTFLOW_PUBLIC_URL is https: nobody can sign in there", host=request.host)
    return settings.public_url
