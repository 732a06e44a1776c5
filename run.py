#!/usr/bin/env python3
"""PostFlow on your machine, from nothing but Python 3.11 or newer and a network to download from.

    python3 run.py [...]        everything on http://localhost:8000: database, sandbox networks, pages, worker
    python3 run.py test [...]   the tests; what follows goes to pytest
    python3 run.py test --quick [...]           without what starts whole programs, kills at each step or drives a browser
    python3 run.py test --postgres 15 [...]     what depends on the database server, on another version of it
    python3 run.py test live    against a real server that the environment names: docs/testing-live.md
    python3 run.py bench claim|lateness|idle    what the queue costs and how late posts are, beside others
    python3 run.py chaos [...]  thousands of posts while workers are killed and the database restarts: none twice, none lost
    python3 run.py mutants [...]    changes the heart on purpose: do its tests notice?
    python3 run.py lint [--fix] ruff, basedpyright, import-linter; --fix mends first what ruff can mend
    python3 run.py shell [...]  psql on the database of the first line, whether that runs or not; what follows goes to psql
    python3 run.py <command> [...]              any other `postflow` command

Needs no uv, no virtual environment and no PostgreSQL: what is missing goes into .uv and .venv beside it.
"""

# Standard library only, and plain enough to be read by the older Pythons it has a sentence for.
import os
import re
import shutil
import subprocess
import sys
import tempfile

UV_VERSION = "0.13.9"
OLDEST_UV = (0, 7)
OLDEST_PYTHON = (3, 11)
HERE = os.path.dirname(os.path.abspath(__file__))
#: What a server could do differently: its tables, the queue's plans and locks, claims, and one story from end to end.
ON_ANOTHER_SERVER = [
    "tests/ground/test_migrations.py",
    "tests/ground/test_every_server.py",
    "tests/ground/test_unfit_databases.py",
    "tests/ground/test_doctor.py",
    "tests/ground/test_dev_whole.py::test_the_first_start_publishes_on_three_networks_by_itself",
    "tests/engine/test_queue_bell.py",
    "tests/engine/test_queue_claim.py",
    "tests/engine/test_queue_head_start.py",
    "tests/engine/test_queue_pins.py",
    "tests/engine/test_constraints.py",
    "tests/engine/test_publishing.py",
    "tests/engine/test_periodic_runs.py",
    "tests/engine/test_retries.py",
]


def main(words):
    if sys.version_info < OLDEST_PYTHON:
        use_a_newer_python()
    if os.name != "posix":
        sys.exit("PostFlow runs on Linux and macOS. On Windows, run it inside WSL.")
    os.chdir(HERE)
    groups, commands = plan(words)
    synchronise(find_uv() or fetch_uv(), groups)
    environment = dict(os.environ)
    # A dozen processes start here, and each would compile it all again.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    environment["PATH"] = bin_directory() + os.pathsep + environment.get("PATH", os.defpath)
    if len(commands) == 1:  # become it: signals reach it directly, and nothing of us is left to kill
        sys.stdout.flush()
        os.execve(os.path.join(bin_directory(), commands[0][0]), commands[0], environment)
    failed = [command[0] for command in commands if subprocess.call(command, env=environment)]
    if failed:
        sys.exit(f"Not clean: {', '.join(failed)}")


def plan(words):
    """Which dependency groups, and which commands. Paths are looked for in the working directory, the checkout."""
    first, rest = (words[0], words[1:]) if words else ("", [])
    if first == "test" and rest[:1] == ["live"]:
        return ["dev"], [["pytest", "-p", "no:randomly", "--capture=sys", "tests/live/cases.py", *rest[1:]]]
    if first == "test":
        # One more than there are cores: many tests wait, for leases and for a database that is away.
        side_by_side = ["-n", str(min(os.cpu_count() or 1, 4) + 1), "--dist", "worksteal"]
        if rest[:1] == ["--postgres"]:
            major, rest = "".join(rest[1:2]), rest[2:]
            if not any(os.path.exists(word.partition("::")[0]) for word in rest):
                rest = [*side_by_side, *rest, *ON_ANOTHER_SERVER]
            return ["dev", *(["older-postgres"] if major in ("15", "16") else [])], [
                ["python", "-m", "tests.servers", major, *rest]
            ]
        if rest[:1] == ["--quick"]:
            return ["dev"], [["pytest", "-m", "not slow", *side_by_side, *rest[1:]]]
        return ["dev"], [["pytest", *(rest or side_by_side)]]
    if first == "lint":
        ruff = ["ruff check --fix .", "ruff format ."] if "--fix" in rest else ["ruff check .", "ruff format --check ."]
        commands = [*ruff, "basedpyright", "lint-imports"]
        return ["dev", "lint"], [command.split() for command in commands]
    if first == "bench":
        return ["dev"], [["python", "-m", "benchmarks", *rest]]
    if first == "mutants":
        return ["dev", "mutants"], [["python", "-m", "mutants", *rest]]
    if first == "chaos":
        return ["dev"], [["python", "-m", "chaos", *rest]]
    if first and not first.startswith("-"):
        return ["local"], [["postflow", *words]]
    return ["local"], [["postflow", "dev", *words]]


def use_a_newer_python():
    """Another one on PATH, if there is one: `python3` is the system's, and systems live long."""
    for minor in range(19, OLDEST_PYTHON[1] - 1, -1):
        newer = shutil.which(f"python3.{minor}")
        if newer and not why_not([newer, "-c", ""]):
            os.execv(newer, [newer, *sys.argv])
    version = ".".join(map(str, sys.version_info[:3]))
    sys.exit(f"PostFlow needs Python 3.11 or newer, and {sys.executable} is {version}. Please install one.")


def synchronise(uv, groups):
    """Bring .venv to what uv.lock says, with this very Python. Downloads only what is missing."""
    environment = dict(os.environ, UV_PYTHON=this_python())
    if not os.path.exists(bin_directory()):
        say("Setting up .venv, only this first time")
        # Once, by all cores: else each program of the first start does.
        environment.setdefault("UV_COMPILE_BYTECODE", "1")
    environment.pop("VIRTUAL_ENV", None)  # some other project's
    # Not the default groups: the first start need not wait for what only tests need, browsers' drivers among it.
    command = [uv, "sync", "--locked", "--inexact", "--quiet", "--no-default-groups"]
    for group in groups:
        command += ["--group", group]
    if subprocess.call(command, env=environment):
        sys.exit("The dependencies could not be installed; what uv said stands above. Is there a network?")


def find_uv():
    """Our own or the one on PATH, if it really runs (a version manager's shim may not) and is not too old."""
    for candidate in (own_uv(), shutil.which("uv")):
        if not candidate or not os.path.exists(candidate):
            continue
        try:
            said = subprocess.run([candidate, "--version"], capture_output=True, text=True, check=False).stdout
        except OSError:
            continue
        version = re.match(r"uv (\d+)\.(\d+)", said)
        if version and tuple(map(int, version.groups())) >= OLDEST_UV:
            return candidate
    return None


def fetch_uv():
    """uv from PyPI into .uv, by this Python's pip or, where it has none, by a virtual environment's, which takes longer."""
    say("Fetching uv, which installs the rest")
    os.makedirs(os.path.dirname(own_uv()), exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=os.path.dirname(own_uv())) as room:
        venv, target = os.path.join(room, "venv"), os.path.join(room, "target")
        pip = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            f"uv=={UV_VERSION}",
        ]
        in_a_venv = [[this_python(), "-m", "venv", venv], [os.path.join(venv, "bin", "python"), *pip]]
        without = [[this_python(), *pip, "--target", target]]
        reasons = []
        for steps, prefix in ((without, target), (in_a_venv, venv)):
            reason = next(filter(None, map(why_not, steps)), None)
            if not reason:
                os.replace(os.path.join(prefix, "bin", "uv"), own_uv())  # whole or not at all
                return own_uv()
            reasons.append(reason)
    sys.exit(
        "uv is missing and could not be fetched: this Python has neither a working `venv` nor a working\n"
        "`pip`, or there is no network. On Debian and Ubuntu: apt install python3-pip python3-venv. Or:\n"
        "https://docs.astral.sh/uv/getting-started/installation/\n\n" + "\n".join(reasons)
    )


def why_not(command):
    """Runs it. None when it went well, else what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"{command[0]}: {error}"
    if done.returncode == 0:
        return None
    return f"{' '.join(command[:4])}: {(done.stderr or done.stdout).strip()[-500:]}"


def own_uv():
    return os.path.join(HERE, ".uv", f"uv-{UV_VERSION}")


def this_python():
    """Not the virtual environment's we may be running in: uv is about to build one."""
    return getattr(sys, "_base_executable", None) or sys.executable


def bin_directory():
    return os.path.join(HERE, os.environ.get("UV_PROJECT_ENVIRONMENT", ".venv"), "bin")


def say(sentence):
    print(f"{sentence} ...", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
