"""The short form of `python3 run.py chaos`: the same blows and faults, fewer posts. Its output begins with the command to
draw it again, and it fails for whatever `chaos/verdict.py` complains of.
"""

import json
import subprocess
import sys

import pytest

SHORT = ["--deliveries=80", "--kills=6", "--restarts=2", "--workers=3", "--minutes=0.35", "--json"]


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_whatever_is_killed_restarted_and_misanswered_each_post_is_out_once_and_told_truly() -> None:
    done = subprocess.run([sys.executable, "-m", "chaos", *SHORT], capture_output=True, text=True, timeout=590)
    told = done.stderr + done.stdout
    assert done.returncode == 0, told
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["deliveries"] >= 80, told
    assert (figures["kills"], figures["restarts"]) == (6, 2), told
    assert figures["faulted"] >= 0.1, told
    assert (figures["twice"], figures["lost"], figures["stuck"]) == (0, 0, 0), told
    troubles = [figures[name] for name in ("suspended", "silences", "outages", "clock steps")]
    assert all(troubles), told
