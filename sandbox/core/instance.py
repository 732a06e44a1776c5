"""One instance of the network, one request it is answering, and how the rate limits are counted."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.core import model, params, wire
from sandbox.core.software import Profile
from sandbox.faults.switches import Fault

if TYPE_CHECKING:
    from sandbox.core.network import Network


@dataclass(slots=True, eq=False)
class Instance:
    """A server of the network. `url` is its base address; `profile` decides what it does."""

    name: str
    title: str
    profile: Profile
    url: str = ""
    locks: set[str] = field(default_factory=set)

    @property
    def domain(self) -> str:
        """Host and port, as it stands after the @ of a handle."""
        return self.url.split("://", 1)[-1]


@dataclass(slots=True, eq=False)
class Call:
    """A request on its way through a handler."""

    network: "Network"
    instance: Instance
    request: wire.Request
    params: params.Params
    token: model.Token | None = None
    account: model.Account | None = None
    faults: dict[str, Fault] = field(default_factory=dict)
    headers: list[tuple[str, str]] = field(default_factory=list)
    malformed: bool = False
    effects: dict[str, dict[str, Any]] = field(default_factory=dict)  # options of the switches that were acted on

    @property
    def profile(self) -> Profile:
        """How this instance behaves."""
        return self.instance.profile

    @property
    def now(self) -> float:
        """The sandbox's clock."""
        return self.network.clock.now()

    def fault(self, kind: str) -> Fault | None:
        """The switch of this kind this request tripped, if any. Who asks acts on it, and the ledger will say so."""
        found = self.faults.get(kind)
        if found:
            self.effects[found.kind] = found.options
        return found

    async def pause(self) -> None:
        """The moment between looking and doing, where two requests can overtake each other."""
        await self.linger("inside")

    async def linger(self, when: str) -> None:
        """Wait, when the switch `slow` says so for this moment: before, inside or after."""
        slow = self.faults.get("slow")
        if slow and slow.option("when", "before") == when:
            self.fault("slow")
            await asyncio.sleep(slow.option("seconds"))

    def url(self, path: str) -> str:
        """An absolute address on this instance."""
        return self.instance.url + path


Handler = Callable[..., Awaitable[wire.Response]]
Route = tuple[str, str, Handler]


class RateLimits:
    """Fixed clock windows, counted per (instance, family, who)."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, str], tuple[int, int]] = {}
        self._aged_s = 0

    def count(self, call: Call, family: str, who: str, limit: int, period_s: int, add: int = 1) -> "Window":
        """Count a request (add=0: only look) and say where the window stands."""
        profile = call.profile
        override = profile.rate_limit_overrides.get(family)
        limit = override if override is not None else limit
        number = int((call.now + self._aged_s) // period_s)
        key = (call.instance.name, family, who)
        window, used = self._counts.get(key, (number, 0))
        used = used if window == number else 0
        enforced = profile.rate_limits == "enforce" or override is not None
        over = enforced and used >= limit and add > 0
        if not over:
            used += add
            self._counts[key] = (number, used)
        return Window(limit, max(limit - used, 0), (number + 1) * period_s - self._aged_s, over)

    def undo(self, call: Call, family: str, who: str) -> None:
        """Take one back: the request failed and does not count."""
        key = (call.instance.name, family, who)
        if key in self._counts:
            window, used = self._counts[key]
            self._counts[key] = (window, max(used - 1, 0))

    def age(self, seconds: int) -> None:
        """All windows began so much earlier."""
        self._aged_s += seconds

    def clear(self) -> None:
        """Start all windows anew."""
        self._counts.clear()


@dataclass(frozen=True, slots=True)
class Window:
    """Where a rate limit stands; `over` says the request must be refused. resets_at is epoch seconds."""

    limit: int
    remaining: int
    resets_at: float
    over: bool


_SECRETS = {"access_token", "client_secret", "refresh_token", "code", "input_token", "fb_exchange_token"}


def plain(value: Any) -> Any:
    """Parameters as the ledger keeps them: long texts cut, secrets left out."""
    if isinstance(value, str):
        return value if len(value) <= 2000 else value[:2000] + "…"
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: "(secret)" if key in _SECRETS else plain(item) for key, item in value.items()}
    return value
