"""`python3 run.py mutants [module ...]`: changes these modules of `postflow/`, one place at a time, and runs the quick tests
that run the changed line. What they do not notice is listed; docs/mutants.json keeps what was found, so that the next run
goes on from there. `--again` tries once more what was not noticed, `--map` finds anew which tests run which lines.

Each change is tried in a process forked from this one, which has imported everything but PostFlow, on one database server.
Nothing in the checkout is written but docs/mutants.json and what `.gitignore` names.
"""

import argparse
import functools
import importlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from mutants import covering
from mutants.changes import Change, changes, marks

FOUND = Path("docs/mutants.json")
REASONS = Path("mutants/reasons.json")
MAP = Path(".mutants-map.json")
#: What decides, and the files of tests that are asked about it: none that kill processes or wait for timers.
HEART = {
    "engine": ("postflow/test_written_down", "engine/test_kept", "engine/test_byhand"),
    "http/deadline": ("postflow/test_leaving", "engine/test_frozen", "engine/test_publishing"),
    "publishing/turns": ("postflow/test_timing", "engine/test_turns", "engine/test_word_against_claim"),
    "publishing/outcomes": ("engine/test_outcomes", "engine/test_kept", "engine/test_publishing"),
    "publishing/reconciling": ("engine/test_reconciling", "engine/test_publishing", "engine/test_releases"),
    "publishing/restoring": ("engine/test_doubt",),
    "publishing/rechecking": ("engine/test_rechecking",),
    "publishing/due": ("engine/test_due", "engine/test_guards"),
    "publishing/sending": (
        "engine/test_publishing",
        "engine/test_publishing_moments",
        "engine/test_bad_input",
        "engine/test_word_against_claim",
        "engine/test_uploads_gone",
        "engine/test_queue_head_start",
        "engine/test_releases",
        "engine/test_kept",
        "engine/test_turns",
    ),
    "publishing/preparing": (
        "engine/test_preparing",
        "engine/test_budgets",
        "engine/test_room_for_others",
        "engine/test_queue_head_start",
    ),
    "publishing/sweeping": ("engine/test_sweeping",),
    "publishing/outgoing": (
        "engine/test_outgoing",
        "engine/test_releases",
        "engine/test_bad_input",
        "engine/test_word_against_claim",
    ),
    "publishing/transitions": (
        "engine/test_guards",
        "engine/test_preparing",
        "engine/test_kept",
        "engine/test_outcomes",
    ),
}
#: How a child ends that could not do what it was there for.
OURS = 70
UNSEEN = ("unnoticed", "no test")
#: The tests of one change, the quickest first, may take so long.
LONGEST_S = 1200
#: What tests need beside PostFlow takes a second to import: once, not for every change.
BEFOREHAND = (
    "_hypothesis_pytestplugin", "alembic.command", "anyio.pytest_plugin", "argon2", "certifi", "croniter",
    "cryptography.fernet", "flask", "h11", "httpcore", "httpx", "hypothesis", "PIL.Image", "procrastinate",
    "prometheus_client", "psycopg_binary", "psycopg_pool", "pydantic_settings", "pytest", "pytest_asyncio", "regex",
    "respx", "sqlalchemy", "structlog", "time_machine", "unittest.mock", "xdist.plugin",
)  # fmt: skip


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="run.py mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", help=f"of postflow/: {' '.join(HEART)}")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--map", action="store_true")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so long; the next run goes on")
    asked = parser.parse_args(words)
    ends_at = time.monotonic() + asked.minutes * 60
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # not without the server and the test under way
    for name in BEFOREHAND:
        __import__(name)
    with _server():
        if asked.map:
            MAP.unlink(missing_ok=True)
        for module in asked.modules or HEART:
            _try_module(module, ends_at, again=asked.again)
    return _report()


# -- one module -------------------------------------------------------------------------------------------------


def _try_module(module: str, ends_at: float, *, again: bool) -> None:
    own = tuple(f"tests/{name}.py" for name in HEART[module])
    path = Path("postflow") / f"{module}.py"
    for tests in own:
        if not covering.read(MAP).knows(tests, str(path)):
            _in_a_child(functools.partial(covering.measure, tests, MAP), 1800, None)
    covered = covering.read(MAP)
    source = path.read_text()
    now, every = marks(source), changes(source)
    kept = _read(FOUND).get(module, {"code": {}, "changes": {}})
    known: dict[str, str] = {
        one.name: kept["changes"][one.name]
        for one in every
        if one.name in kept["changes"] and kept["code"].get(one.function) == now[one.function]
    }
    for at, change in enumerate(every):
        if time.monotonic() > ends_at:
            break
        if change.name in known and not (again and known[change.name] in UNSEEN):
            continue
        tests = covered.of(str(path), change.line, change.last, own)
        noticing = _noticed_others(known, change.function)
        tests.sort(key=lambda test: test not in noticing)
        known[change.name] = verdict = _tried(module, change, tests)
        print(f"{module} {at + 1}/{len(every)} {verdict[:60]:60} {change.line} {change.name[:120]}", flush=True)
        found = _read(FOUND) | {module: {"code": now, "of": len(every), "changes": known}}
        FOUND.write_text(json.dumps(found, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def _noticed_others(known: dict[str, str], function: str) -> set[str]:
    """The tests that noticed other changes of this function are asked first."""
    return {what.removeprefix("noticed by ") for name, what in known.items() if name.startswith(f"{function}: ")}


def _tried(module: str, change: Change, tests: list[str]) -> str:
    """`noticed by …`, `hangs`, `unnoticed`, or `no test`."""
    if not tests:
        return "no test"
    name = f"postflow.{module.replace('/', '.')}"
    home = Path(tempfile.mkdtemp(prefix="postflow-mutants-"))
    said = home / "said.txt"

    def run() -> int:
        import pytest

        _put_in_place(name, change.source, home)
        return pytest.main([*covering.QUIETLY, "-x", "--tb=no", "--timeout=40", *tests])

    try:
        code = _in_a_child(run, LONGEST_S, said)
        if code is None:
            return "hangs"
        if code == 0:
            return "unnoticed"
        lines = said.read_text(errors="replace").splitlines()
        if code == OURS:
            raise RuntimeError("\n".join(["the tests could not be asked:", *lines[-30:]]))
        by = next((line.split(" ")[1] for line in lines if line.startswith(("FAILED ", "ERROR "))), "what imports it")
        return f"noticed by {by}"
    finally:
        shutil.rmtree(home, ignore_errors=True)


#: Imports the changed text in the module's place: here, and in whatever process a test starts.
IMPORTS_IT = """
import importlib.util, sys
class Changed:
    @staticmethod
    def find_spec(name, *_):
        return importlib.util.spec_from_file_location(name, {file!r}) if name == {name!r} else None
sys.meta_path.insert(0, Changed)
"""


def _put_in_place(name: str, source: str, home: Path) -> None:
    changed = home / "changed.py"
    changed.write_text(source)
    (home / "importing_what_is_changed.py").write_text(IMPORTS_IT.format(file=str(changed), name=name))
    (home / "sitecustomize.py").write_text("import importing_what_is_changed")
    os.environ["PYTHONPATH"] = str(home)
    sys.path.append(str(home))
    importlib.import_module("importing_what_is_changed")


# -- processes ---------------------------------------------------------------------------------------------------


class _server:
    """One database server for all, and one database with our tables to copy. PostFlow is forgotten again afterwards."""

    def __enter__(self) -> None:
        from postflow.dev import embedded_postgres
        from postflow.operations import migrate

        self.running = embedded_postgres.ephemeral()
        server = self.running.__enter__()
        import psycopg

        with psycopg.connect(server.url("postgres"), autocommit=True) as conn:
            conn.execute("CREATE DATABASE postflow_template_mutants")
        migrate.upgrade(server.url("postflow_template_mutants"))
        os.environ["TEST_DATABASE_URL"] = server.url("postgres")
        os.environ["TEST_TEMPLATE"] = "postflow_template_mutants"
        for name in [
            name for name in sys.modules if name.split(".")[0] in ("postflow", "worker", "web", "sandbox", "tests")
        ]:
            del sys.modules[name]

    def __exit__(self, *_: object) -> None:
        self.running.__exit__(None, None, None)


def _in_a_child(run: Callable[[], int | None], longest_s: float, says: Path | None) -> int | None:
    """Its exit code; None when it had to be ended."""
    child = os.fork()
    if child == 0:
        code = OURS
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if says:
                out = os.open(says, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
                os.dup2(out, 1)
                os.dup2(out, 2)
            code = run() or 0
        except Exception:  # noqa: BLE001 a child must not go on as its parent
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    ends_at = time.monotonic() + longest_s
    try:
        while time.monotonic() < ends_at:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                child = 0
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        return None
    finally:
        if child:  # it hangs, or we are told to stop
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)


# -- what was found ------------------------------------------------------------------------------------------------


def _report() -> int:
    """1 where something goes unnoticed without a reason."""
    found, reasons, bare = _read(FOUND), _read(REASONS), 0
    for module, what in sorted(found.items()):
        every = what["changes"]
        unseen = [name for name, verdict in every.items() if verdict in UNSEEN]
        excused = [name for name in unseen if name in reasons.get(module, {})]
        counted = len(every) - len(excused)
        noticed = len(every) - len(unseen)
        score = 100 * noticed / counted if counted else 100
        print(
            f"{module}: {len(every)} of {what['of']} tried, {noticed} noticed, {len(excused)} with a reason: {score:.1f} %"
        )
        for name in unseen:
            if name not in excused:
                bare += 1
                print(f"    {name}")
    return 1 if bare else 0


def _read(path: Path) -> dict:
    return json.loads(path.read_text()) if path.exists() else {}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
