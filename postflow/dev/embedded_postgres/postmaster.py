"""What `postmaster.pid` in the data directory tells about a server: line 1 is a pid, line 8 a state."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from postflow.dev import child_processes


def is_ready(data: Path, pid: int) -> bool:
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, PermissionError):
        return False
    return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"


def clear_the_way(data: Path) -> None:
    """For who holds the lock: a server that still runs on `data` lost its parent and is ended first.

    A pid that is somebody else's by now (after a reboot or in a restarted container) would keep PostgreSQL
    from starting for ever. Our own pid in its place makes it go on to its second check, whether sessions of
    the old server live on: it ignores its parent's pid (CreateLockFile in src/backend/utils/init/miscinit.c).
    """
    status = data / "postmaster.pid"
    try:
        first, *rest = status.read_text().splitlines(keepends=True)
        pid = abs(int(first))
    except (FileNotFoundError, ValueError):
        return
    if _is_server(pid, data):
        _end(pid, data)
    else:
        status.write_text("".join([f"{os.getpid()}\n", *rest]))


def _end(pid: int, data: Path) -> None:
    for sig in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)
            time.sleep(0.1)
            if not _is_server(pid, data):
                return


def _is_server(pid: int, data: Path) -> bool:
    """By its command line, which everybody may read, unlike its working directory."""
    if sys.platform == "linux":
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
        except OSError:
            return False
    else:
        command = child_processes.output(["/bin/ps", "-o", "command=", "-p", str(pid)]).stdout
    return "postgres" in command and str(data) in command
