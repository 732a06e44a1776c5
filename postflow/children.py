"""Child processes that cannot outlive us, however we end."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def dies_with_us(sig: signal.Signals) -> Callable[[], None] | None:
    """A `preexec_fn` after which the kernel sends `sig` to the child when the calling THREAD ends.

    So call Popen from a thread that lives as long as the child should: the main one. Linux only (prctl(2)); elsewhere
    None, and an orphan is stopped by the next start instead. Set after the change of user, which clears the wish.
    """
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(
        None, use_errno=True
    )  # loaded here: the child between fork and exec should load nothing
    parent = os.getpid()

    def in_the_child() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(sig))
        if os.getppid() != parent:  # it ended before we could ask
            os._exit(1)

    return in_the_child
