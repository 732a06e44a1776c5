"""The supervisor: prefixes, restarts, an orderly end, and no survivors."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

#: Runs the programs of argv[1] (a Python expression) until it is told to stop.
RUN = """
import os, sys
from postflow.dev.supervisor import Program, Supervisor
python = [sys.executable, "-u", "-c"]
Supervisor(eval(sys.argv[1]), os.environ).run()
print("run returned")
"""


class Terminal:
    def __init__(self, programs: str) -> None:
        command = [sys.executable, "-u", "-c", RUN, programs]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []

    def read_until(self, wanted: str) -> str:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if wanted in line:
                return line.rstrip()
        raise AssertionError(f"{wanted!r} never came; it said: {self.lines}")

    def rest(self) -> list[str]:
        assert self.process.stdout
        return [line.rstrip() for line in self.process.stdout]


@pytest.fixture
def terminal() -> Iterator[type[Terminal]]:
    opened: list[Terminal] = []

    def start(programs: str) -> Terminal:
        opened.append(Terminal(programs))
        return opened[-1]

    yield start  # type: ignore[misc]
    for one in opened:
        one.process.kill()
        one.process.wait()
        assert one.process.stdout
        one.process.stdout.close()


def test_each_line_carries_its_programs_name(terminal):
    shown = terminal("""[Program("web", [*python, "print('up'); import time; time.sleep(60)"])]""")
    assert shown.read_until("up") == "web       | up"


def test_a_dead_program_is_started_again_and_its_end_is_told(terminal):
    shown = terminal("""[Program("worker", [*python, "print('born'); raise SystemExit(3)"])]""")
    shown.read_until("born")
    assert "worker ended (exit code 3)" in shown.read_until("worker ended")
    shown.read_until("born")


def test_a_last_line_without_a_newline_and_a_flood_before_it_are_shown_whole(terminal):
    shown = terminal("""[Program("web", [*python, "print('x' * 200000); print('last words')"])]""")
    assert len(shown.read_until("xxx")) == 200000 + len("web       | ")
    shown.read_until("last words")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_programs_in_their_order(terminal, sig: signal.Signals):
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(print('bye'))); print('up'); signal.pause()"
    shown = terminal(
        f"""[Program("sandbox", [*python, {code!r}], stop_order=1), Program("worker", [*python, {code!r}])]"""
    )
    shown.read_until("up")
    shown.read_until("up")
    shown.process.send_signal(sig)
    assert shown.rest() == ["worker    | bye", "sandbox   | bye", "run returned"]
    assert shown.process.wait() == 0


def test_who_does_not_listen_is_killed_after_its_grace(terminal):
    code = "import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\nwhile True: signal.pause()"
    shown = terminal(f"""[Program("worker", [*python, {code!r}], grace_s=0.3)]""")
    shown.read_until("up")
    shown.process.terminate()
    assert shown.rest() == ["run returned"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's end")
def test_no_program_survives_a_killed_supervisor(terminal):
    shown = terminal("""[Program("web", [*python, "import os, time; print(os.getpid()); time.sleep(600)"])]""")
    pid = int(shown.read_until("|").split()[-1])
    shown.process.kill()
    shown.process.wait()
    wait_until_gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_dead_programs_own_children_go_with_it(terminal):
    code = """
import subprocess, sys, os, time
print(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid, flush=True)
os.kill(os.getpid(), 9)
"""
    shown = terminal(f"""[Program("web", [*python, {code!r}])]""")
    pid = int(shown.read_until("|").split()[-1])
    assert "web ended (killed by SIGKILL)" in shown.read_until("ended")
    wait_until_gone(pid)


def wait_until_gone(pid: int) -> None:
    """Gone or a zombie that its new parent has not reaped yet."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                os.kill(pid, 0)
                time.sleep(0.05)
                continue
        return
    raise AssertionError(f"{pid} is still there")
