"""`python3 run.py test live`, tried on the sandbox: it passes where all is well, fails where it is not, and tidies up."""

import os
import subprocess
import sys
import time

import httpx
import pytest

from sandbox import Sandbox
from tests.live.account import Account

COMMAND = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:randomly", "tests/live/cases.py"]
pytestmark = pytest.mark.timeout(600)


def run(sandbox: Sandbox, instance: str, cases: str) -> "subprocess.CompletedProcess[str]":
    environment = settings(sandbox, instance)
    return subprocess.run([*COMMAND, "-k", cases], env=environment, capture_output=True, text=True, timeout=560)


def settings(sandbox: Sandbox, instance: str) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POSTFLOW_", "PYTEST_"))}
    environment |= {"POSTFLOW_SETTLE_S": "0", "POSTFLOW_BACKOFF_S": "1", "COLUMNS": "300"}
    environment |= {
        "POSTFLOW_LIVE_URL": sandbox.url(instance),
        "POSTFLOW_LIVE_TOKEN": sandbox.add_account(instance, "live").access_token,
    }
    return environment


def test_it_counts_what_is_there_loses_an_answer_and_deletes_all_it_made(sandbox: Sandbox) -> None:
    done = run(sandbox, "mastodon", "connect or thread or over_long or away or (answer_lost and picture) or twice")
    assert done.returncode == 0, done.stdout
    assert "out once each, in a chain" in done.stdout
    assert done.stdout.count("found there, out once") == 1
    assert "5 statuses, each told of once" in done.stdout
    assert "Everything the run published has been deleted again." in done.stdout
    made = sandbox.ledger.statuses(instance="mastodon", text="pflive")
    assert len(made) == 5 and all(one.deleted for one in made)


def test_a_post_that_is_not_there_although_postflow_says_so_fails(sandbox: Sandbox) -> None:
    sandbox.faults.add("silently_drop", instance="pixelfed", times=1)
    done = run(sandbox, "pixelfed", "connect or test_text")
    assert done.returncode == 1, done.stdout
    assert "FAILED: 0 on the server instead of 1" in done.stdout


def test_two_statuses_with_one_marker_count_as_two_and_only_those_of_the_run_are_deleted(sandbox: Sandbox) -> None:
    token, url = sandbox.add_account("mastodon", "twin").access_token, sandbox.url("mastodon")
    ours, others = "pflive0a1b2c3dc01z", "pflive99999999c01z"
    account = Account(url, token, "0a1b2c3d")
    for marker in (ours, ours, others):
        told = {"Authorization": f"Bearer {token}"}
        httpx.post(f"{url}/api/v1/statuses", json={"status": f"Again. {marker}"}, headers=told).raise_for_status()
    assert len(account.bearing(ours)) == 2
    assert account.tidy() == []
    assert (account.bearing(ours), len(account.bearing(others))) == ([], 1)
    assert account.tidy_after_others() == [] and len(account.bearing(others)) == 1  # it may be under way
    account.close()


def test_a_run_that_is_ended_before_its_time_deletes_what_it_made(sandbox: Sandbox) -> None:
    command = [*COMMAND, "-k", "connect or test_text or answer_lost"]
    with subprocess.Popen(command, env=settings(sandbox, "gotosocial"), stdout=subprocess.PIPE, text=True) as running:
        give_up = time.monotonic() + 300
        while not (made := sandbox.ledger.statuses(instance="gotosocial", text="pflive")):
            assert running.poll() is None and time.monotonic() < give_up
            time.sleep(0.1)
        assert not made[0].deleted
        running.terminate()
        told, _ = running.communicate(timeout=300)
    assert "Everything the run published has been deleted again." in told
    assert all(one.deleted for one in sandbox.ledger.statuses(instance="gotosocial", text="pflive"))


def test_without_a_server_it_is_skipped_with_a_sentence() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POSTFLOW_", "PYTEST_"))}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "No server is named: set POSTFLOW_LIVE_URL, and see docs/testing-live.md." in done.stdout


def test_the_ordinary_run_does_not_collect_it() -> None:
    listed = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/live"]
    assert "no tests" in subprocess.run(listed, capture_output=True, text=True, timeout=300).stdout


def test_what_does_not_answer_as_a_server_does_is_named_in_one_sentence() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("POSTFLOW_", "PYTEST_"))}
    environment |= {"POSTFLOW_LIVE_URL": "http://127.0.0.1:1", "POSTFLOW_LIVE_TOKEN": "not-to-be-seen"}
    done = subprocess.run(
        [*COMMAND, "-k", "test_connect"], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1
    assert "POSTFLOW_LIVE_URL: http://127.0.0.1:1 does not answer as such a server does" in done.stdout
    assert "Traceback" not in done.stdout and "not-to-be-seen" not in done.stdout + done.stderr
    assert "httpx/_transports" not in done.stdout
