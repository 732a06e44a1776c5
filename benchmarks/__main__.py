"""`python3 run.py bench claim|lateness|idle [--quick] [--json]`: what the claims about speed rest on.

`--quick` is a small form for trying the benchmark itself; `--json` ends with one line of figures.
"""

import argparse
import importlib
import json

from benchmarks import ground

NAMES = ("claim", "lateness", "idle")


def main() -> None:
    asked = _asked()
    try:
        where = ground.machine()
        ground.say(f"Measured on {where}.")
        figures = importlib.import_module(f"benchmarks.{asked.name}").run(quick=asked.quick)
    finally:
        ground.close()
    if asked.json:
        ground.say(json.dumps({**figures, "quick": asked.quick, "machine": where}))


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="run.py bench", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="small numbers, to try the benchmark itself")
    parser.add_argument("--json", action="store_true", help="end with one line of figures")
    return parser.parse_args()


if __name__ == "__main__":
    main()
