"""The short form of `python3 run.py chaos`: the same blows and faults, fewer posts. Its output names the seed to replay."""

import json
import subprocess
import sys

import pytest

SHORT = ["--deliveries=80", "--kills=8", "--restarts=2", "--workers=3", "--minutes=0.5", "--json"]


@pytest.mark.chaos
@pytest.mark.timeout(400)
def test_whatever_is_killed_restarted_and_misanswered_each_post_is_out_once_and_told_truly() -> None:
    done = subprocess.run([sys.executable, "-m", "chaos", *SHORT], capture_output=True, text=True, timeout=390)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["deliveries"] >= 80, told
    assert figures["kills"] == 8, told
    assert figures["restarts"] == 2, told
    assert figures["faulted"] > 0.1, told
    assert (figures["twice"], figures["lost"], figures["stuck"]) == (0, 0, 0), told
