"""One request on its way through a handler."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from sandbox.core import model, params, wire
from sandbox.core.family import Family
from sandbox.core.instance import Instance
from sandbox.core.network import Network
from sandbox.core.software import Profile
from sandbox.faults.switches import Fault


@dataclass(slots=True, eq=False)
class Call:
    """A request on its way through a handler."""

    network: Network
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
    def family(self) -> Family:
        """Which network it is one of."""
        return self.network.families[self.profile.family]

    @property
    def me(self) -> model.Account:
        """Whose token it is, once that has been checked."""
        assert self.account is not None, "the token is checked before"
        return self.account

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
