"""How an instance counts requests against its limits."""

from dataclasses import dataclass

from sandbox.core.clock import Clock
from sandbox.core.instance import Instance


class RateLimits:
    """Fixed clock windows, counted per (instance, family, who)."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counts: dict[tuple[str, str, str], tuple[int, int]] = {}
        self._aged_s = 0

    def count(self, instance: Instance, family: str, who: str, limit: int, period_s: int) -> "Window":
        """Count a request and say where the window stands."""
        profile = instance.profile
        override = profile.rate_limit_overrides.get(family)
        limit = override if override is not None else limit
        number = int((self._clock.now() + self._aged_s) // period_s)
        key = (instance.name, family, who)
        window, used = self._counts.get(key, (number, 0))
        used = used if window == number else 0
        enforced = profile.rate_limits == "enforce" or override is not None
        over = enforced and used >= limit
        if not over:
            used += 1
            self._counts[key] = (number, used)
        return Window(limit, max(limit - used, 0), (number + 1) * period_s - self._aged_s, over)

    def undo(self, instance: Instance, family: str, who: str) -> None:
        """Take one back: the request failed and does not count."""
        key = (instance.name, family, who)
        if key in self._counts:
            window, used = self._counts[key]
            self._counts[key] = (window, max(used - 1, 0))

    def age(self, seconds: int) -> None:
        """All windows began so much earlier."""
        self._aged_s += seconds


@dataclass(frozen=True, slots=True)
class Window:
    """Where a rate limit stands; `over` says the request must be refused. resets_at is epoch seconds."""

    limit: int
    remaining: int
    resets_at: float
    over: bool


def headers(limit: int, remaining: int, reset: str) -> list[tuple[str, str]]:
    """Where a window stands, as the Mastodon family tells it."""
    told = {"Limit": limit, "Remaining": remaining, "Reset": reset}
    return [(f"X-RateLimit-{name}", str(value)) for name, value in told.items()]
