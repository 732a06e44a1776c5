"""Do the workers of this machine, or of this container, live? Each beats into a file of its own while its event loop turns.

So one that stands still (stopped, or its loop blocked) is noticed, those of other machines count for nothing, and a
database that is away makes no worker look dead. A lock tells a living worker's file from one that was left behind: the
kernel lets go of it however the process ends, while process ids are soon used again.
"""

import asyncio
import contextlib
import fcntl
import os
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import structlog

log = structlog.stdlib.get_logger("postflow.worker")

EVERY_S = 5.0
#: Who was silent for so long stands still.
SILENT_S = 30.0
_PREFIX = "worker-"
_LEFT_BEHIND_S = 60.0


class Heart(NamedTuple):
    pid: int
    silent_s: float


class Sign(NamedTuple):
    well: bool
    sentence: str


# -- the worker's side ---------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def beating() -> AsyncIterator[None]:
    """Around a worker's life. Where no file can be kept it lives all the same, and nobody hears its heart."""
    try:
        path, file = _own_file()
    except OSError as refused:
        log.warning("no heartbeat can be kept; `postflow health worker` will not find this worker", why=str(refused))
        yield
        return
    task = asyncio.create_task(_beat(file))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(file)


async def _beat(file: int) -> None:
    while True:
        with contextlib.suppress(OSError):  # a full disk: what stands there is written over, and soon again
            os.pwrite(file, b"%020.3f" % time.monotonic(), 0)
        await asyncio.sleep(EVERY_S)


def _own_file() -> tuple[Path, int]:
    folder = _folder()
    folder.mkdir(mode=0o700, exist_ok=True)
    _refuse_a_strangers(folder)
    for path, beat_at in _files(folder):
        with contextlib.suppress(OSError):
            if beat_at is None and time.time() - path.stat().st_mtime > _LEFT_BEHIND_S:  # not one that is just begun
                path.unlink()
    file, name = tempfile.mkstemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=folder)
    os.pwrite(file, b"%020.3f" % time.monotonic(), 0)
    fcntl.flock(file, fcntl.LOCK_EX)
    return Path(name), file


# -- whoever asks --------------------------------------------------------------------------------------------


def sign(now: float | None = None) -> Sign:
    """For a health check: well when every worker here beats, and there is one."""
    found = hearts(time.monotonic() if now is None else now)
    if not found:
        start = "procrastinate --app=worker.app.app worker"
        return Sign(False, f"no worker runs here; start one: {start}")
    still = [one for one in found if one.silent_s > SILENT_S]
    if still:
        named = ", ".join(f"the worker with process id {one.pid} for {one.silent_s:.0f} s" for one in still)
        return Sign(False, f"standing still: {named}; restart it")
    return Sign(True, f"{len(found)} running here, last heard of {max(one.silent_s for one in found):.0f} s ago")


def hearts(now: float) -> list[Heart]:
    """Of the living workers of this user on this machine; `now` is the machine's monotonic clock."""
    try:
        _refuse_a_strangers(_folder())
    except OSError:
        return []
    return [Heart(_pid(path), max(0.0, now - beat_at)) for path, beat_at in _files(_folder()) if beat_at is not None]


def _files(folder: Path) -> Iterator[tuple[Path, float | None]]:
    """Each with its last beat; None for one that nobody keeps any more."""
    for path in sorted(folder.glob(f"{_PREFIX}*")):
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield path, float(file.read() or b"-inf")
            else:
                yield path, None


def _pid(path: Path) -> int:
    return int(path.name.removeprefix(_PREFIX).partition("-")[0])


def _folder() -> Path:
    return Path(tempfile.gettempdir()) / f"postflow-{os.getuid()}"


def _refuse_a_strangers(folder: Path) -> None:
    """Whoever made it first could otherwise say that all is well."""
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
