"""Keeps a few programs running in one terminal: their lines under coloured names, the dead ones started anew.

One thread and one loop, because a child ends with the thread that started it (`child_processes.start`).
"""

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from postflow.dev import child_processes

_COLOURS = {"web": 36, "worker": 33, "sandbox": 35, "published": 32, "postflow": 1}
_TICK_S = 0.2
_STEADY_S = 30.0  # who lived this long starts again without a pause
_LONGEST_PAUSE_S = 15.0


@dataclass
class Program:
    """`stop_order` groups: the lowest are asked to end first and have `grace_s` before they are killed.

    `dies_by` is what the kernel sends it when we are killed.
    """

    name: str
    argv: Sequence[str]
    stop_order: int = 0
    grace_s: float = 5.0
    dies_by: signal.Signals = signal.SIGKILL
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_again_at: float = 0.0
    pause_s: float = 0.5
    unfinished_line: bytes = field(default=b"", repr=False)


class Supervisor:
    def __init__(self, programs: Sequence[Program], environment: Mapping[str, str]) -> None:
        self._programs = programs
        self._environment = dict(environment)
        self._selector = selectors.DefaultSelector()
        self._stopping = False

    def run(self) -> None:
        """Returns when SIGINT, SIGTERM or SIGHUP came and every program has ended."""
        with _told_to_stop(self.stop):
            try:
                while not self._stopping:
                    for program in self._programs:
                        self._keep_alive(program)
                    self._read(_TICK_S)
            finally:
                self._end_all()

    def stop(self) -> None:
        self._stopping = True

    def _keep_alive(self, program: Program) -> None:
        now = time.monotonic()
        if program.process is None:
            if now >= program.start_again_at:
                self._start(program)
        elif program.process.poll() is not None:
            code = program.process.returncode
            _signal(program, signal.SIGKILL)  # its own children hold ports and connections
            self._drain(program)
            program.pause_s = 0.5 if now - program.started_at > _STEADY_S else program.pause_s * 2
            program.pause_s = min(program.pause_s, _LONGEST_PAUSE_S)
            program.start_again_at = now + program.pause_s
            say("postflow", f"{program.name} ended ({_how(code)}); again in {program.pause_s:.0f} s")

    def _start(self, program: Program) -> None:
        program.process = child_processes.start(
            program.argv,
            dies_by=program.dies_by,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for us; we pass it on in order
        )
        program.started_at = time.monotonic()
        assert program.process.stdout
        os.set_blocking(program.process.stdout.fileno(), False)
        self._selector.register(program.process.stdout, selectors.EVENT_READ, program)

    def _read(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            if not self._read_lines(key.data):  # closed; the process ends or has ended
                self._selector.unregister(key.fileobj)

    def _read_lines(self, program: Program) -> bytes | None:
        """Prints what there is. Returns it; None when there is nothing now, b"" when there never will be."""
        assert program.process
        assert program.process.stdout
        piece = program.process.stdout.read(65536)
        *lines, program.unfinished_line = (program.unfinished_line + (piece or b"")).split(b"\n")
        for line in lines:
            say(program.name, line.decode(errors="replace"))
        return piece

    def _drain(self, program: Program) -> None:
        """Its last words; then forget it."""
        if program.process is None:
            return
        assert program.process.stdout
        while self._read_lines(program):
            pass
        with contextlib.suppress(KeyError):
            self._selector.unregister(program.process.stdout)
        program.process.stdout.close()
        program.process = None

    def _end_all(self) -> None:
        for order in sorted({program.stop_order for program in self._programs}):
            self._end([program for program in self._programs if program.stop_order == order])
        self._selector.close()

    def _end(self, programs: list[Program]) -> None:
        """Ask, go on printing, then kill: the whole session each, so that no grandchild stays."""
        for program in programs:
            _signal(program, signal.SIGTERM)
        started = time.monotonic()
        while any(program.process and program.process.poll() is None for program in programs):
            self._read(0.05)
            for program in programs:
                if time.monotonic() - started > program.grace_s:
                    _signal(program, signal.SIGKILL)
        for program in programs:
            _signal(program, signal.SIGKILL)
            self._drain(program)


def say(name: str, line: str) -> None:
    """One line under a name; whole also when two threads speak."""
    prefix = f"{name:<9} | "
    if _in_colour():
        prefix = f"\033[{_COLOURS.get(name.partition(' ')[0], 37)}m{prefix}\033[0m"
    with _LINE:
        sys.stdout.write(f"{prefix}{line}\n")
        sys.stdout.flush()


_LINE = threading.Lock()


def _in_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


def _signal(program: Program, sig: signal.Signals) -> None:
    """To the process when asking (it tells its own), to the whole group when killing."""
    if program.process is None:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sig == signal.SIGKILL:
            os.killpg(program.process.pid, sig)
        else:
            program.process.send_signal(sig)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


@contextlib.contextmanager
def _told_to_stop(stop) -> Iterator[None]:
    """The second Ctrl-C changes nothing: ending takes seconds, and half-way is worse."""
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {sig: signal.signal(sig, lambda *_: stop()) for sig in wanted}
    try:
        yield
    finally:
        for sig, handler in before.items():
            signal.signal(sig, handler)
