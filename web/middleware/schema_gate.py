"""No page before the tables are there: a web process that is started before `postflow migrate` is done answers for itself
(/healthz), tells the reason (/readyz), and opens by itself.
"""

import structlog
from flask import Flask, request

from postflow import config, db, errors
from web.middleware import database, error_pages

log = structlog.stdlib.get_logger("web")
_OPEN_ANYWAY = ("health.healthz", "health.readyz")


def register(app: Flask, settings: config.Settings) -> None:
    """Before whatever else looks at a request. Raises Unreachable."""
    is_open = _looked(settings)

    @app.before_request
    def look() -> tuple[str, int] | None:
        nonlocal is_open
        if is_open or request.endpoint in _OPEN_ANYWAY:
            return None
        try:
            with database.connection() as conn:
                db.check_schema(conn)
        except errors.SchemaBehind as behind:
            return error_pages.page(503, words=error_pages.Words("PostFlow is being set up", f"{behind}. {_NEXT}"))
        is_open = True
        log.info("the tables are up to date")
        return None


_NEXT = "Where that is being done already, wait a minute and load the page again."


def _looked(settings: config.Settings) -> bool:
    with db.connect(settings.database_url.get_secret_value()) as conn:
        try:
            db.check_schema(conn)
        except errors.SchemaBehind as behind:
            log.warning("waiting for the tables", why=str(behind))
            return False
    return True
