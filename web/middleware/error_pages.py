"""What a person reads when a page cannot be given: one sentence on what happened, one on what to do."""

from typing import NamedTuple

import psycopg
import structlog
from flask import Flask, current_app, render_template, request
from flask_limiter.errors import RateLimitExceeded
from flask_wtf.csrf import CSRFError
from psycopg.errors import (
    ConfigurationLimitExceeded,
    DeadlockDetected,
    DiskFull,
    LockNotAvailable,
    QueryCanceled,
    ReadOnlySqlTransaction,
)
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests
from werkzeug.exceptions import HTTPException

from postflow import errors
from web.middleware import request_ids

log = structlog.stdlib.get_logger("web")


class Words(NamedTuple):
    title: str
    sentence: str


_WORDS = {
    400: Words("That did not work", "The browser sent something PostFlow does not understand. Go back and try again."),
    403: Words("Not yours to open", "You may not do this here."),
    404: Words("Nothing here", "There is no such page, or it is not yours. It may have been deleted."),
    405: Words("That did not work", "This address cannot be used that way. Go back and use the page's buttons."),
    409: Words("It changed meanwhile", "Something moved on while you looked at it. Look again before you go on."),
    413: Words("Too large", "What you sent is larger than PostFlow takes. Use a smaller file."),
    421: Words("Not under this name", "PostFlow is reached under another address."),
    422: Words("Something needs correcting", "PostFlow could not accept this. Go back and correct it."),
    429: Words("Too many attempts", "Wait a quarter of an hour, then try again; at most it takes an hour."),
    500: Words("Something broke", "This is PostFlow's fault, not yours. It has been written to the log."),
    503: Words("The database does not answer", "Nothing is lost. Wait a minute and load the page again."),
}
BUSY = Words(
    "Somebody else is working on it",
    "What you asked for is being worked on by somebody else, perhaps by a worker. Nothing of yours was changed. Wait a"
    " moment, look at it again, and send it once more.",
)
READ_ONLY = Words(
    "The database cannot be changed right now",
    "It is read-only: nothing can be saved and nothing is published until that ends. What is scheduled stays scheduled."
    " Whoever runs PostFlow should look at the database.",
)
FULL = Words(
    "The database has no room left",
    "Nothing can be saved and nothing is published until there is room again. What is scheduled stays scheduled."
    " Whoever runs PostFlow should look at the database's disk.",
)


def register(app: Flask) -> None:
    app.register_error_handler(errors.NotFound, lambda _: page(404))
    app.register_error_handler(errors.Conflict, lambda error: page(409, str(error)))
    app.register_error_handler(errors.Invalid, lambda error: page(422, str(error)))
    app.register_error_handler(errors.ConnectError, lambda error: page(422, str(error)))
    app.register_error_handler(CSRFError, _lost_form)
    app.register_error_handler(RateLimitExceeded, lambda _: page(429))
    app.register_error_handler(psycopg.DataError, _odd)
    for gone in (psycopg.OperationalError, PoolTimeout, PoolClosed, TooManyRequests):
        app.register_error_handler(gone, _database_down)
    for waited in (LockNotAvailable, QueryCanceled, DeadlockDetected):
        app.register_error_handler(waited, _busy)
    app.register_error_handler(ReadOnlySqlTransaction, lambda error: _cannot_write(READ_ONLY, error))
    for full in (DiskFull, ConfigurationLimitExceeded):
        app.register_error_handler(full, lambda error: _cannot_write(FULL, error))
    app.register_error_handler(HTTPException, _http)  # pyright: ignore[reportArgumentType] Flask takes exceptions too
    app.register_error_handler(Exception, _broken)


def page(status: int, sentence: str | None = None, *, words: Words | None = None) -> tuple[str, int]:
    """A whole page, or for a script only the sentence."""
    words = words or _WORDS.get(status, _WORDS[500])
    said = sentence or words.sentence
    if request.accept_mimetypes.best == "application/json":
        return said, status
    if status >= 500 or status == 421:
        return _alone(words.title, said, status), status
    return render_template("errors/page.html", title=words.title, sentence=said, status=status), status


def _alone(title: str, said: str, status: int) -> str:
    """Without asking who is signed in, which is what may have broken, or is nobody's business: `render_template` would ask."""
    template = current_app.jinja_env.get_template("errors/alone.html")
    return template.render(title=title, sentence=said, status=status, number=request_ids.this())


def _http(error: HTTPException) -> HTTPException | tuple[str, int]:
    if error.code is None or error.code < 400:
        return error  # a redirect is no mishap
    return page(error.code if error.code in _WORDS else 400)


def _lost_form(error: CSRFError) -> tuple[str, int]:
    return page(400, "You signed in or out in another window meanwhile. Go back, reload the page and send it again.")


def _odd(error: psycopg.DataError) -> tuple[str, int]:
    """Characters or numbers that no form of ours sends and the database cannot keep."""
    log.info("odd data refused", why=str(error).splitlines()[0][:200])
    return page(422, "There is a character or a number in it that cannot be stored. Take it out and send it again.")


def _database_down(error: Exception) -> tuple[str, int]:
    log.error("the database does not answer", why=str(error).splitlines()[0][:200])
    return page(503)


def _busy(error: Exception) -> tuple[str, int]:
    log.warning("a page waited too long for what another session holds", why=str(error).splitlines()[0][:200])
    return page(503, words=BUSY)


def _cannot_write(words: Words, error: Exception) -> tuple[str, int]:
    log.error(words.title.lower(), why=str(error).splitlines()[0][:200])
    return page(503, words=words)


def _broken(error: Exception) -> tuple[str, int]:
    log.error("a page broke", path=request.path, endpoint=request.endpoint, exc_info=error)
    return page(500)
