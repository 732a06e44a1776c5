"""Whether the web side can start at all."""

import contextlib
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postflow.config import Settings


def check(settings: "Settings") -> None:
    """Raises Misconfigured: better not to start than to fail at the first page. For tables that are still to be made the
    gate waits.
    """
    from postflow import db, errors

    with db.connect(settings.database_url.get_secret_value()) as conn, contextlib.suppress(errors.SchemaBehind):
        db.check_schema(conn)


def refuses() -> bool:
    """Whether it does; the reason goes to standard error."""
    from postflow import config, errors

    try:
        check(config.load())
    except errors.Misconfigured as wrong:
        sys.stderr.write(f"{wrong}\n")
        sys.stderr.flush()
        return True
    return False
