"""Each benchmark still runs in its small form; what it finds then means little."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import benchmarks.__main__ as benchmarks
from tests import servers

CHECKOUT = Path(benchmarks.__file__).parents[1]


@pytest.mark.timeout(900)  # most of it is waiting until posts are due
def test_each_runs_to_its_end_and_says_its_figures():
    running = {name: started(name) for name in benchmarks.NAMES}
    try:
        ended = {name: one.communicate() for name, one in running.items()}
    finally:
        for one in running.values():
            one.kill()
    assert [one.returncode for one in running.values()] == [0, 0, 0], [errors[-2000:] for _, errors in ended.values()]
    figures = {name: json.loads(said.splitlines()[-1]) for name, (said, _) in ended.items()}
    assert len(figures["claim"]["cells"]) == 30
    assert figures["idle"]["counted"]["postflow"]["one_due"] == {"fetches": 2, "claimed": 1}
    posts = {name: one["posts"] for name, one in figures["lateness"]["late_ms"].items()}
    assert (posts["postflow"], posts["stock procrastinate"], posts["minute loop"]) == (16, 16, 16)


def started(name: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "benchmarks", name, "--quick", "--json"]
    return subprocess.Popen(
        command, cwd=CHECKOUT, env=servers.environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
