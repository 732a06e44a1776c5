"""A worker that is started before `postflow migrate` is done: some hosts start all services at once, and restart dynos without
a release when an add-on's address changes. It waits for a while and says so; what nobody migrates ends it with the sentence.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from postflow.errors import SchemaBehind

log = structlog.stdlib.get_logger("postflow.worker")

LOOK_AGAIN_S, SAY_AGAIN_S = 2.0, 15.0


class Patience:
    """Counts from the first time the tables were found missing or old, also through a database that is away in between."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._since: float | None = None
        self._said_at = float("-inf")

    async def through(self, begin: Callable[[], Awaitable[None]]) -> None:
        """Tries `begin` until it no longer raises SchemaBehind. Raises it when patience has run out."""
        while True:
            try:
                return await begin()
            except SchemaBehind as behind:
                pause_s = self._pause_s(behind)
            await asyncio.sleep(pause_s)

    def _pause_s(self, behind: SchemaBehind) -> float:
        now = asyncio.get_running_loop().time()
        if self._since is None:
            self._since = now
        left_s = self._since + self._patience_s - now
        if left_s <= 0:
            waited = f" (waited {self._patience_s:g} s for it)" if self._patience_s else ""
            raise SchemaBehind(f"{behind}{waited}") from None
        if now - self._said_at >= SAY_AGAIN_S:
            self._said_at = now
            log.warning("waiting for the tables", why=str(behind), gives_up_in_s=round(left_s))
        return min(LOOK_AGAIN_S, left_s)
