"""The workers under the stock command: kept alive as a supervisor would, killed with -9, frozen and let go on."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

_COMMAND = [sys.executable, "-m", "procrastinate", "--app=worker.app.app", "worker"]

Process = subprocess.Popen[bytes]
Starts = Callable[[list[str], str], Process]


@dataclass
class Worker:
    process: Process
    frozen_until: float | None = None  # monotonic
    frozen_with: list["Machine"] = field(default_factory=list)
    is_spared: bool = False  # by kills, while it is frozen

    @property
    def lives(self) -> bool:
        return self.process.poll() is None


@dataclass
class Machine:
    """Some workers that are suspended together."""

    goes_on: bool = False


class Crew:
    """Every method is called by the main thread: on Linux children end with the thread that started them."""

    def __init__(self, start: Starts) -> None:
        self._start = start
        self._workers: list[Worker] = []
        self.killed = 0
        self.outlived = 0  # freezes that ended with the worker going on
        self.suspended = 0  # machines that stood still beyond every lease, and went on

    def begin(self, count: int) -> None:
        self._workers = [self._fresh(place) for place in range(count)]

    def keep_alive(self) -> None:
        """Called again and again: who ended, for whatever reason, is started again, and who is frozen long enough goes on."""
        self._thaw(until=time.monotonic())
        self._workers = [one if one.lives else self._fresh(place) for place, one in enumerate(self._workers)]

    def kill(self, place: int) -> bool:
        """kill -9, whatever it is doing, frozen ones too. False when there is none to be killed just now."""
        for worker in self._living_from(place):
            if not worker.is_spared:
                worker.process.kill()
                worker.process.wait()
                self.killed += 1
                return True
        return False

    def freeze(self, place: int, length_s: float, *, spared: bool) -> bool:
        """SIGSTOP, as when a machine is suspended: its sockets, sessions and locks stay, and nothing is done about them."""
        for worker in self._living_from(place):
            if worker.frozen_until is None:
                self._stop(worker, time.monotonic() + length_s, spared)
                return True
        return False

    def suspend(self, place: int, length_s: float, *, everybody: bool) -> bool:
        """The same for longer than anything lasts. `everybody`: also those that are frozen already."""
        awake = [one for one in self._living_from(place) if everybody or one.frozen_until is None]
        until, machine = time.monotonic() + length_s, Machine()
        for worker in awake if everybody else awake[:1]:
            self._stop(worker, until, spared=True)
            worker.frozen_with.append(machine)
        return bool(awake)

    def _stop(self, worker: Worker, until: float, spared: bool) -> None:
        worker.process.send_signal(signal.SIGSTOP)
        worker.frozen_until, worker.is_spared = max(until, worker.frozen_until or 0), spared

    @property
    def is_any_frozen(self) -> bool:
        return any(worker.frozen_until is not None for worker in self._workers)

    def end(self) -> list[Process]:
        """SIGTERM to all. Returns the processes, which may take their time."""
        self._thaw(until=float("inf"))
        ending, self._workers = [worker.process for worker in self._workers], []
        for process in ending:
            process.send_signal(signal.SIGTERM)
        return ending

    def _fresh(self, place: int) -> Worker:
        return Worker(self._start(_COMMAND, f"worker{place}"))

    def _living_from(self, place: int) -> Iterator[Worker]:
        start = place % len(self._workers)
        return (worker for worker in self._workers[start:] + self._workers[:start] if worker.lives)

    def _thaw(self, *, until: float) -> None:
        for worker in self._workers:
            if worker.frozen_until is not None and worker.frozen_until <= until:
                worker.process.send_signal(signal.SIGCONT)
                if not worker.frozen_with:
                    self.outlived += worker.lives
                for machine in [one for one in worker.frozen_with if worker.lives and not one.goes_on]:
                    machine.goes_on = True
                    self.suspended += 1
                worker.frozen_until, worker.is_spared, worker.frozen_with = None, False, []
