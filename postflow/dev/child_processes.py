"""Child processes that cannot outlive us, however we end."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


def start(argv: Sequence[str | Path], *, dies_by: signal.Signals, **options: Any) -> subprocess.Popen[Any]:
    """Popen; on Linux the kernel sends `dies_by` to the child as soon as the thread that called this ends.

    So call it from a thread that lives as long as the child should: the main one. Elsewhere an orphan stays
    until somebody stops it.
    """
    return subprocess.Popen(argv, preexec_fn=_dies_with_us(dies_by), **options)  # noqa: S603, PLW1509


def output(argv: Sequence[str | Path], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run to the end; what it wrote as text. A child of a killed parent is killed too."""
    return subprocess.run(  # noqa: S603
        argv,
        check=False,
        capture_output=True,
        text=True,
        preexec_fn=_dies_with_us(signal.SIGKILL),
        **options,
    )


def _dies_with_us(sig: signal.Signals) -> Callable[[], None] | None:
    """prctl(2) between fork and exec, after the change of user, which would clear the wish."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)  # here, not in the child: it should do as little as possible before exec
    parent = os.getpid()

    def in_the_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(sig))
        if os.getppid() != parent:  # it ended before we could ask
            os._exit(1)

    return in_the_child
