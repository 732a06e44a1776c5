"""How patiently an answer is written down: for how long, with which pauses, and what a worker that stops waits for."""

import asyncio
import logging
from collections.abc import Callable

import psycopg
import pytest
from psycopg_pool import PoolClosed
from structlog.testing import capture_logs

from postflow import engine as engines

AWAY = psycopg.OperationalError("away")


def refused(times: int, error: Exception = AWAY) -> Callable[[str], object]:
    """Written down after so many refusals."""
    left = [error] * times

    async def write(answer: str) -> str:
        if left:
            raise left.pop()
        return f"{answer} is written down"

    return engines.kept(write)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What was slept, by nobody."""
    slept = list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


async def test_an_answer_is_written_again_ever_more_slowly_until_it_is_there(pauses: list[float]) -> None:
    with capture_logs() as told:
        assert await refused(7)("it") == "it is written down"
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0])
    assert [(one["what"], one["why"]) for one in told] == [("write", "away")] * 7


@pytest.mark.parametrize("error", [psycopg.errors.UniqueViolation("taken"), PoolClosed("closed"), ValueError("ours")])
async def test_what_no_waiting_mends_is_not_waited_for(error: Exception, pauses: list[float]) -> None:
    """A pool is closed when its process ends: the row tells another one of the request."""
    with pytest.raises(type(error)):
        await refused(1, error)("it")
    assert pauses == []


async def test_after_an_hour_it_is_left_to_a_look(pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "KEPT_FOR_S", -1.0)
    with pytest.raises(psycopg.OperationalError):
        await refused(1)("it")
    assert pauses == []


@pytest.fixture(autouse=True)
def _of_this_test_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_unwritten", set())


class Answer:
    """Is being written until somebody says so."""

    def __init__(self) -> None:
        self.may_end, self.fails, self.written = asyncio.Event(), False, False

    async def write(self) -> str:
        await self.may_end.wait()
        if self.fails:
            raise ValueError("no such column")
        self.written = True
        return "written"


async def stopping(answer: Answer) -> asyncio.Task[str]:
    """A job that writes it down and is told to stop just then."""
    job = asyncio.create_task(engines.to_the_end(answer.write()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(engines._unwritten) == 1, "else nobody holds on to it"
    job.cancel()
    return job


async def until_nothing_is_unwritten() -> None:
    async with asyncio.timeout(30):
        while engines._unwritten:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_job_that_is_told_to_stop_waits_for_what_it_writes_down() -> None:
    answer = Answer()
    job = await stopping(answer)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not job.done()
    answer.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert answer.written


async def test_what_takes_longer_than_a_stopping_job_waits_goes_on_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "LAST_WORD_S", 0.01)
    answer = Answer()
    job = await stopping(answer)
    with pytest.raises(asyncio.CancelledError):
        await job
    assert not answer.written
    answer.may_end.set()
    await until_nothing_is_unwritten()
    assert answer.written


@pytest.mark.parametrize("fails", [True, False])
async def test_what_could_not_be_written_down_is_told_to_whoever_runs_it(
    fails: bool, caplog: pytest.LogCaptureFixture
) -> None:
    answer = Answer()
    answer.fails = fails
    answer.may_end.set()
    with capture_logs() as told, caplog.at_level(logging.ERROR, "asyncio"):
        if fails:
            with pytest.raises(ValueError, match="no such column"):
                await engines.to_the_end(answer.write())
        else:
            assert await engines.to_the_end(answer.write()) == "written"
        await until_nothing_is_unwritten()
    assert [one["why"] for one in told] == ["ValueError: no such column"] * fails
    assert caplog.records == []


async def test_a_writing_that_is_ended_itself_is_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    with capture_logs() as told, caplog.at_level(logging.ERROR, "asyncio"):
        writing = asyncio.create_task(engines.to_the_end(Answer().write()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        [task] = engines._unwritten
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await until_nothing_is_unwritten()
    assert (told, caplog.records) == ([], [])
