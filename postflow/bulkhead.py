"""Uploads never take every slot of a worker: one server that takes for ever must not hold up what is due on another."""

import contextlib
from collections import Counter
from collections.abc import Iterator


class Bulkhead:
    """What this process is uploading, by server. Of its slots a quarter stays free of uploads, and no server gets more
    than half of them. A worker of one slot has none to spare.
    """

    def __init__(self) -> None:
        self._at_work: Counter[str] = Counter()

    @contextlib.contextmanager
    def admitted(self, server: str | None, slots: int) -> Iterator[bool]:
        """False where it would be one too many; None is no upload."""
        admitted = server is None or self._has_room(server, slots)
        if server is None or not admitted:
            yield admitted
            return
        self._at_work[server] += 1
        try:
            yield True
        finally:
            self._at_work[server] -= 1

    def _has_room(self, server: str, slots: int) -> bool:
        most = max(1, slots - max(1, slots // 4))
        return self._at_work.total() < most and self._at_work[server] < max(1, min(most, slots // 2))
