"""The network itself: its instances, and all they know."""

from typing import Any

import httpx

from sandbox.core import model
from sandbox.core.clock import Clock
from sandbox.core.family import Family
from sandbox.core.instance import Instance
from sandbox.core.ledger import Ledger
from sandbox.core.rate_limits import RateLimits
from sandbox.core.software import Profile
from sandbox.core.store import Store
from sandbox.faults.held import Held
from sandbox.faults.switches import Faults


class Network:
    """All state of the sandbox. Everything in here runs on the sandbox's own event loop."""

    def __init__(
        self,
        families: dict[str, Family],
        data: str | None = None,
        keep_pictures: int = 500,
        keep_requests: int = 50_000,
    ) -> None:
        self.families = families
        self.clock = Clock()
        self.store = Store(self.clock, data, keep_pictures)
        self.faults = Faults()
        self.limits = RateLimits(self.clock)
        self.instances: dict[str, Instance] = {}
        self.control = Instance("control", "Sandbox", Profile(family="control", software="sandbox", version="1"))
        self.ledger = Ledger(self.store, self.url_of, keep_requests)
        self.background: set[Any] = set()
        self.held = Held(self.background)
        self.under_way = 0  # requests that are being answered
        self.controls: Any = None  # the Sandbox: opens and closes ports for the control API
        self._http: httpx.AsyncClient | None = None

    @property
    def http(self) -> httpx.AsyncClient:
        """For fetching what Instagram is pointed at, and for sending callbacks."""
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=10, follow_redirects=True, trust_env=False)
        return self._http

    def age(self, seconds: int) -> None:
        """All that is remembered happened so much earlier; the clock stays as it is."""
        self.store.age(seconds)
        self.limits.age(seconds)
        self.ledger.age(seconds)

    def url_of(self, status: model.Status) -> str:
        """The permalink of a status."""
        instance = self.instances.get(status.instance)
        if instance is None:
            return ""
        family = self.families[instance.profile.family]
        return family.status_url(instance, self.store.accounts[status.account_id], status)

    async def close(self) -> None:
        """Stop what runs in the background and let go of files."""
        for task in list(self.background):
            task.cancel()
        if self._http is not None:
            await self._http.aclose()
        self.store.close()
