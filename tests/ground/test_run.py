"""run.py: which words do what, and what it says where something is missing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import run

CHECKOUT = Path(run.__file__).parent


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("", "postflow dev"),
        ("--bare --port 8001", "postflow dev --bare --port 8001"),
        ("doctor", "postflow doctor"),
        ("create-user --email a@b.example", "postflow create-user --email a@b.example"),
        ("--log-level debug", "postflow dev --log-level debug"),
        ("shell -c SELECT", "postflow shell -c SELECT"),
    ],
)
def test_a_start_brings_only_what_it_needs(words: str, command: str):
    assert run.plan(words.split()) == (["local"], [command.split()])


@pytest.mark.parametrize(
    ("words", "command"),
    [
        ("test tests/ground -k migr", "pytest tests/ground -k migr"),
        ("test live -k text", "pytest -p no:randomly --capture=sys tests/live/cases.py -k text"),
        ("chaos --kills 9 --json", "python -m chaos --kills 9 --json"),
        ("bench claim --quick", "python -m benchmarks claim --quick"),
    ],
)
def test_its_words_become_the_programs_they_stand_for(words: str, command: str):
    assert run.plan(words.split()) == (["dev"], [command.split()])


def test_the_whole_suite_runs_in_parallel_and_a_chosen_part_as_asked():
    assert run.plan(["test"])[1][0][:2] == ["pytest", "-n"]
    assert run.plan(["test", "-x"])[1] == [["pytest", "-x"]]
    assert run.plan(["test", "--quick", "-x"])[1][0][:4] == ["pytest", "-m", "not slow", "-n"]


def test_another_server_s_tests_bring_it_along_or_take_the_part_that_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(CHECKOUT)
    groups, [command] = run.plan(["test", "--postgres", "15"])
    assert groups == ["dev", "older-postgres"]
    assert command[:5] == ["python", "-m", "tests.servers", "15", "-n"]
    assert all((CHECKOUT / path.partition("::")[0]).is_file() for path in run.ON_ANOTHER_SERVER)
    assert run.plan(["test", "--postgres", "15", "-x"])[1][0][-len(run.ON_ANOTHER_SERVER) :] == run.ON_ANOTHER_SERVER
    queue = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "tests" / "engine").glob("test_queue_*.py")}
    assert queue <= set(command)
    assert run.plan(["test", "--postgres", "17", "tests/web"]) == (
        ["dev"],
        [["python", "-m", "tests.servers", "17", "tests/web"]],
    )


@pytest.mark.parametrize("wanted", ["9", "", "newest"])
def test_a_server_that_is_not_here_is_said_with_the_way_out(wanted: str):
    command = [sys.executable, "-m", "tests.servers", wanted]
    said = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT)
    assert said.returncode == 1
    assert "is not here: install it, or name the directory of its programs in POSTFLOW_TEST_PG_BINDIR" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize(
    ("words", "by_ruff"),
    [
        (["lint"], ["ruff check .", "ruff format --check ."]),
        (["lint", "--fix"], ["ruff check --fix .", "ruff format ."]),
    ],
)
def test_lint_runs_all_four_even_when_one_finds_something(words: list[str], by_ruff: list[str]):
    groups, commands = run.plan(words)
    assert groups == ["dev", "lint"]
    assert [" ".join(command) for command in commands] == [*by_ruff, "basedpyright", "lint-imports"]


def test_the_hooks_before_a_commit_run_what_ci_lints_and_fetch_no_code():
    repositories = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [one["repo"] for one in repositories] == ["local"]
    [hook] = repositories[0]["hooks"]
    assert (hook["language"], hook["pass_filenames"]) == ("system", False)
    assert hook["entry"] in (CHECKOUT / ".ci" / "run").read_text()
    assert run.plan(hook["entry"].split()[2:]) == run.plan(["lint"])


def test_without_chromium_the_browser_tests_are_skipped_with_what_brings_it(tmp_path: Path):
    (tmp_path / "apk").touch(mode=0o755)
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "tests/browser"]
    said = subprocess.run(words, capture_output=True, text=True, env={"PATH": str(tmp_path)}, cwd=CHECKOUT)
    assert f"browser tests need Chromium; to have it: {'sudo ' * bool(os.geteuid())}apk add chromium" in said.stdout
    assert re.fullmatch(r"\d+ skipped in .*", said.stdout.splitlines()[-1]), said.stdout


def test_a_uv_that_does_not_run_or_is_too_old_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(run, "own_uv", lambda: str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    shim = tmp_path / "uv"
    for script, accepted in (
        ("echo 'pyenv: uv: command not found' >&2; exit 127", False),
        ("echo 'uv 0.4.30'", False),
        ("echo 'uv 0.13.9 (x86_64-unknown-linux-gnu)'", True),
    ):
        shim.write_text(f"#!/bin/sh\n{script}\n")
        shim.chmod(0o755)
        assert run.find_uv() == (str(shim) if accepted else None)


def test_neither_venv_nor_pip_is_said_with_what_to_install(tmp_path: Path):
    """A checkout of its own with a Python that has neither, as on a bare Debian."""
    shutil.copy(CHECKOUT / "run.py", tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import run; sys._base_executable = '/bin/false'; run.fetch_uv()"
    )
    command = [sys.executable, "-c", code, tmp_path]
    said = subprocess.run(command, capture_output=True, text=True, env={"PATH": os.defpath}, cwd=tmp_path)
    assert said.returncode == 1
    assert "apt install python3-pip python3-venv" in said.stderr
    assert "Traceback" not in said.stderr
    assert list((tmp_path / ".uv").iterdir()) == []


def test_an_old_python_is_told_which_one_is_needed(tmp_path: Path):
    code = "import sys; sys.path.insert(0, sys.argv[1]); import run; sys.version_info = (3, 9, 2); run.main([])"
    command = [sys.executable, "-c", code, CHECKOUT]
    said = subprocess.run(command, capture_output=True, text=True, env={"PATH": str(tmp_path)})
    assert said.returncode == 1
    assert "needs Python 3.11 or newer" in said.stderr
    assert "3.9.2" in said.stderr
