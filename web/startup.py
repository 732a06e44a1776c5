"""Whether the web side can start at all."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from postflow.config import Settings


def check(settings: "Settings") -> None:
    """Raises Misconfigured, SchemaBehind: better not to start than to fail at the first page."""
    from postflow import db

    with db.connect(settings.database_url.get_secret_value()) as conn:
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
