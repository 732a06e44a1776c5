"""Where a server's files lie, and as whom it runs: PostgreSQL refuses to run as root."""

import fcntl
import hashlib
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import IO, Any

from postflow import errors
from postflow.dev.embedded_postgres import binaries

#: For root, whose home nobody else may enter: data directories and copied binaries.
ROOT_SHELF = Path("/var/lib/postflow")


class Place:
    """The directories of one server, and the lock that makes them ours until `release` or our end."""

    def __init__(self, home: Path) -> None:
        self._lock = _take_lock(home)
        base = _base(home).resolve()
        self.data = base / "data"
        self.log = base / "postgres.log"
        self.as_user = _owner_of(base)
        self.socket_dir = socket_dir(self.data)

    def release(self) -> None:
        self._lock.close()

    def make_socket_dir(self) -> None:
        """Only its owner may enter: that is all the authentication. An old one is stale: we hold the lock."""
        uid = self.as_user.get("user", os.geteuid())
        shutil.rmtree(self.socket_dir, ignore_errors=True)
        try:
            self.socket_dir.mkdir(mode=0o700)
            if uid != os.geteuid():
                os.chown(self.socket_dir, uid, -1)
        except FileExistsError:
            raise errors.Misconfigured(
                f"{self.socket_dir} is in the way and belongs to somebody else; have it removed."
            ) from None

    def fresh_directory(self) -> Path:
        """A new directory beside the data that the server's user may write to."""
        path = Path(tempfile.mkdtemp(prefix="unfinished-", dir=self.data.parent))
        if self.as_user:
            os.chown(path, self.as_user["user"], self.as_user["group"])
        return path


def prepare(home: Path) -> Place:
    try:
        home.mkdir(parents=True, exist_ok=True)
        return Place(home)
    except BlockingIOError:
        raise errors.Misconfigured(
            f"The local database in {home} is in use by another PostFlow. Stop that one first, or give this "
            "one a directory of its own with POSTFLOW_DATA_DIR."
        ) from None
    except PermissionError as refused:
        raise errors.Misconfigured(
            f"The data directory {home} belongs to another user (no permission for {refused.filename}). "
            "Run as that user, delete it, or name another one in POSTFLOW_DATA_DIR."
        ) from None


def socket_dir(data: Path) -> Path:
    """Short, as a socket's path may have about 100 bytes, and the same at every start on the same data."""
    return Path("/tmp", f"postflow-{hashlib.sha256(bytes(data)).hexdigest()[:16]}")  # noqa: S108


def root_shelf() -> Path:
    ROOT_SHELF.mkdir(mode=0o755, parents=True, exist_ok=True)
    return ROOT_SHELF


def _take_lock(home: Path) -> IO[bytes]:
    lock = (home / "postgres.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        lock.close()
        raise
    return lock


def _base(home: Path) -> Path:
    """`home/postgres`, or a link of that name where root's data must lie outside.

    The link is the only thing that knows the way, so a deleted home is a fresh start for root too.
    """
    base = home / "postgres"
    if base.exists():
        return base
    if os.geteuid() or binaries.reachable_by_others(home):
        base.mkdir(exist_ok=True)
    else:
        name = hashlib.sha256(bytes(home)).hexdigest()[:12]
        elsewhere = tempfile.mkdtemp(prefix=f"{name}-", dir=root_shelf())
        base.unlink(missing_ok=True)  # a link that leads nowhere
        base.symlink_to(elsewhere)
    if not os.geteuid():
        _give_to_nobody(base)
    base.chmod(0o700)
    return base


def _give_to_nobody(base: Path) -> None:
    try:
        nobody = pwd.getpwnam("nobody")
        os.chown(base, nobody.pw_uid, nobody.pw_gid)
    except (KeyError, OSError):
        raise errors.Misconfigured(
            "PostgreSQL refuses to run as root, and here root cannot become the user `nobody`. Run as an ordinary "
            "user, or set DATABASE_URL to a running server."
        ) from None


def _owner_of(base: Path) -> dict[str, Any]:
    """Popen's arguments for root to become the owner of the data; nothing for everybody else."""
    if os.geteuid():
        return {}
    owner = base.stat()
    if not owner.st_uid:
        raise errors.Misconfigured(f"{base} belongs to root, as whom PostgreSQL refuses to run; delete it.")
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
