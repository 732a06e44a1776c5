"""Killing and freezing workers, tried on processes that only sleep."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos.workers import Crew, Process
from tests.patience import PATIENCE_S


def asleep(command: list[str], name: str) -> Process:
    return subprocess.Popen(["sleep", "60"])


@pytest.fixture
def crew() -> Iterator[Crew]:
    crew = Crew(asleep)
    crew.begin(2)
    yield crew
    for process in crew.end():
        process.wait(PATIENCE_S)


def states(crew: Crew) -> list[str]:
    return [Path(f"/proc/{one.process.pid}/stat").read_text().split()[2] for one in crew._workers]


def test_a_killed_worker_is_started_again(crew: Crew) -> None:
    before = [one.process.pid for one in crew._workers]
    assert crew.kill(0)
    assert [one.lives for one in crew._workers] == [False, True]
    crew.keep_alive()
    after = [one.process.pid for one in crew._workers]
    assert (after[0] != before[0], after[1] == before[1], crew.killed) == (True, True, 1)


def test_a_kill_that_finds_nobody_does_not_count(crew: Crew) -> None:
    assert [crew.kill(0), crew.kill(0), crew.kill(0)] == [True, True, False]
    assert crew.killed == 2


def test_a_frozen_worker_stands_still_and_goes_on(crew: Crew) -> None:
    assert crew.freeze(0, 0.1, spared=True)
    wait_for(crew, ["T", "S"])
    assert crew.is_any_frozen
    time.sleep(0.1)
    crew.keep_alive()
    wait_for(crew, ["S", "S"])
    assert (crew.is_any_frozen, crew.outlived) == (False, 1)


def test_a_frozen_worker_can_be_spared_or_killed(crew: Crew) -> None:
    crew.freeze(0, 60, spared=True)
    crew.freeze(1, 60, spared=False)
    assert [crew.kill(0), crew.kill(0)] == [True, False]
    assert [one.lives for one in crew._workers] == [True, False]


def test_a_suspended_machine_is_all_of_its_workers_at_once_and_goes_on(crew: Crew) -> None:
    crew.freeze(1, 0.05, spared=False)
    assert crew.suspend(0, 0.1, everybody=True)
    wait_for(crew, ["T", "T"])
    assert not crew.kill(0)
    time.sleep(0.1)
    crew.keep_alive()
    wait_for(crew, ["S", "S"])
    assert (crew.suspended, crew.outlived) == (1, 0)


def test_two_machines_that_stand_still_at_once_are_two(crew: Crew) -> None:
    assert crew.suspend(1, 0.1, everybody=False)
    assert crew.suspend(0, 0.05, everybody=True)
    time.sleep(0.1)
    crew.keep_alive()
    wait_for(crew, ["S", "S"])
    assert crew.suspended == 2


def wait_for(crew: Crew, wanted: list[str]) -> None:
    give_up = time.monotonic() + 10
    while states(crew) != wanted:
        assert time.monotonic() < give_up, states(crew)
        time.sleep(0.01)
