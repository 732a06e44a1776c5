"""Each request has a number: on its log lines, in the answer's header, and on the page when something broke."""

import re
import uuid

import structlog
from flask import Flask, Response, g, request

#: A router in front (Heroku's, for one) has numbered it already; what else comes under that name is not believed.
_NUMBER = re.compile(r"[A-Za-z0-9-]{8,64}")
HEADER = "X-Request-ID"


def register(app: Flask) -> None:
    """Before anything else that may write to the log."""

    @app.before_request
    def number() -> None:
        given = request.headers.get(HEADER, "")
        g.request_number = given if _NUMBER.fullmatch(given) else uuid.uuid4().hex
        structlog.contextvars.clear_contextvars()  # threads serve one request after another
        structlog.contextvars.bind_contextvars(request=g.request_number)

    @app.after_request
    def say(response: Response) -> Response:
        response.headers[HEADER] = this()
        return response


def this() -> str:
    """The number of the request being answered."""
    return g.get("request_number", "")
