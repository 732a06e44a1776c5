"""Requests that something on the way holds back: their client has gone, and they are carried out all the same, later."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from sandbox.faults.switches import Fault

#: Two requests that arrive together both look whether their key is known before either has done its work.
TOGETHER = Fault(id=0, kind="slow", options={"seconds": 0.1, "when": "inside"})


Handle = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    like: Any
    faults: dict[str, Fault]
    handle: Handle
    with_next: bool


class Held:
    """What is held right now. On the sandbox's own loop."""

    def __init__(self, background: set[asyncio.Task[Any]]) -> None:
        self._all: list[_Held] = []
        self._background = background

    def __len__(self) -> int:
        return len(self._all)

    def hold(self, like: Any, faults: dict[str, Fault], handle: Handle, fault: Fault) -> None:
        """Until it is let go, the next one that is `like` it comes, or `seconds` are over. `faults` bend it then."""
        held = _Held(like, faults, handle, bool(fault.option("with_next", False)))
        self._all.append(held)
        if (seconds := fault.option("seconds")) is not None:
            asyncio.get_running_loop().call_later(float(seconds), self._release, held)

    def let_go(self) -> list[asyncio.Task[Any]]:
        """All of them, now."""
        return [task for held in list(self._all) if (task := self._release(held))]

    def arrive_with(self, like: Any, faults: dict[str, Fault]) -> None:
        """What waited for a request like this one goes on beside it, in the same instant."""
        for held in [one for one in self._all if one.with_next and one.like == like]:
            held.faults["slow"] = faults["slow"] = TOGETHER
            self._release(held)

    def _release(self, held: _Held) -> asyncio.Task[Any] | None:
        if held not in self._all:
            return None
        self._all.remove(held)
        task = asyncio.ensure_future(held.handle())
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task
