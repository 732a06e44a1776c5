"""A benchmark still runs in its small form; what it finds then means little.

The other two, `idle` and `lateness`, wait for minutes until posts are due: `python3 run.py bench` runs them.
"""

import json
import subprocess
import sys
from pathlib import Path

from tests import servers

CHECKOUT = Path(__file__).parents[2]


def test_the_claim_is_measured_to_its_end_and_its_figures_are_said():
    command = [sys.executable, "-m", "benchmarks", "claim", "--quick", "--json"]
    done = subprocess.run(
        command, cwd=CHECKOUT, env=servers.environment(), text=True, capture_output=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(json.loads(done.stdout.splitlines()[-1])["cells"]) == 30
