"""The network itself: its instances, what they know, and the way of every request from the wire to the
ledger and back.
"""

import logging
import re
import time
from typing import Any

import httpx

from sandbox.control import api as control
from sandbox.core import files, injection, links, model, pages, params, wire
from sandbox.core.clock import Clock
from sandbox.core.instance import Call, Handler, Instance, RateLimits, Route, plain
from sandbox.core.ledger import Ledger, RequestEntry
from sandbox.core.software import Profile
from sandbox.core.store import Store
from sandbox.faults.held import Held
from sandbox.faults.switches import Faults
from sandbox.gotosocial import api as gotosocial
from sandbox.instagram import api as instagram
from sandbox.mastodon import api as mastodon
from sandbox.pixelfed import api as pixelfed

logger = logging.getLogger("sandbox")
_FAMILIES: dict[str, list[Route]] = {
    "mastodon": [*mastodon.ROUTES, *pages.ROUTES, *files.ROUTES],
    "pixelfed": [*pixelfed.ROUTES, *pages.ROUTES, *files.ROUTES],
    "gotosocial": [*gotosocial.ROUTES, *pages.ROUTES, *files.ROUTES],
    "instagram": [*pages.ROUTES, *files.ROUTES, *instagram.ROUTES],
    "control": [*control.ROUTES, *files.ROUTES],
}
_MISSING: dict[str, Handler] = {
    "mastodon": mastodon.missing,
    "pixelfed": pixelfed.missing,
    "gotosocial": gotosocial.missing,
    "instagram": instagram.missing,
    "control": pages.missing,
}


class Network:
    """All state of the sandbox. Everything in here runs on the sandbox's own event loop."""

    def __init__(self, data: str | None = None, keep_pictures: int = 500, keep_requests: int = 50_000) -> None:
        self.clock = Clock()
        self.store = Store(self.clock, data, keep_pictures)
        self.faults = Faults()
        self.limits = RateLimits()
        self.instances: dict[str, Instance] = {}
        self.control = Instance("control", "Sandbox", Profile(family="control", software="sandbox", version="1"))
        self.ledger = Ledger(self.store, self.url_of, keep_requests)
        self.background: set[Any] = set()
        self.held = Held(self.background)
        self.under_way = 0  # requests that are being answered
        self.controls: Any = None  # the Sandbox: opens and closes ports for the control API
        self._routes = {family: _compiled(routes) for family, routes in _FAMILIES.items()}
        self._missing = dict(_MISSING)
        self._http: httpx.AsyncClient | None = None

    def learn(self, family: str, routes: list[Route], missing: Handler) -> None:
        """Another API to speak: an instance opened with `family=` answers by these routes."""
        self._routes[family] = _compiled([*routes, *pages.ROUTES, *files.ROUTES])
        self._missing[family] = missing

    @property
    def http(self) -> httpx.AsyncClient:
        """For fetching what Instagram is pointed at, and for sending callbacks."""
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=10, follow_redirects=True, trust_env=False)
        return self._http

    async def answer(self, instance: Instance, request: wire.Request) -> wire.Response:
        """Answer one request; raises wire.Dropped when the connection is to be reset."""
        call = self._call(instance, request)
        if instance is self.control:
            return await self._handle(call)
        names = (call.account.username, call.account.id) if call.account else ()
        call.faults = self.faults.pick(instance.name, request.method, request.path, names, request.reused)
        entry = self._note(call)
        status = 0
        self.under_way += 1
        try:
            response = await injection.perform(call, lambda: self._handle(call))
            response.headers += call.headers
            status = response.status
            return response
        finally:
            self.under_way -= 1
            self.store.flush()
            entry.faults, entry.fault_options = list(call.effects), call.effects
            self.ledger.close(entry, status, time.time_ns() if status else 0)

    def age(self, seconds: int) -> None:
        """All that is remembered happened so much earlier; the clock stays as it is."""
        self.store.age(seconds)
        self.limits.age(seconds)
        self.ledger.age(seconds)

    def url_of(self, status: model.Status) -> str:
        """The permalink of a status."""
        return links.status_url(self, status)

    async def close(self) -> None:
        """Stop what runs in the background and let go of files."""
        for task in list(self.background):
            task.cancel()
        if self._http is not None:
            await self._http.aclose()
        self.store.close()

    def _call(self, instance: Instance, request: wire.Request) -> Call:
        try:
            read, malformed = params.read(request), False
        except params.Malformed:
            read, malformed = params.Params({}, {}), True
        call = Call(self, instance, request, read, malformed=malformed)
        token = self.store.tokens.get(_presented_token(call))
        if token and token.instance == instance.name:
            call.token = token
            call.account = self.store.accounts.get(token.account_id or "")
        return call

    def _note(self, call: Call) -> RequestEntry:
        request = call.request
        entry = RequestEntry(
            number=0,
            instance=call.instance.name,
            method=request.method,
            path=request.path,
            params=plain(call.params.values),
            account=call.account.username if call.account else None,
            idempotency_key=request.headers.get("idempotency-key"),
            received_ns=request.received_ns,
        )
        self.ledger.open(entry)
        return entry

    async def _handle(self, call: Call) -> wire.Response:
        method = "GET" if call.request.method == "HEAD" else call.request.method
        path = call.request.path
        family = call.profile.family
        try:
            for wanted, pattern, handler in self._routes[family]:
                if wanted == method and (match := pattern.fullmatch(path)):
                    return await handler(call, *match.groups())
            return await self._missing[family](call)
        except wire.Answer as refusal:
            return refusal.response
        except Exception:
            logger.exception("a bug in the sandbox: %s %s", method, path)
            return wire.as_json({"error": "a bug in the sandbox, see its log"}, 500)


def _compiled(routes: list[Route]) -> list[tuple[str, re.Pattern[str], Handler]]:
    return [(method, re.compile(pattern), handler) for method, pattern, handler in routes]


def _presented_token(call: Call) -> str:
    scheme, _, token = call.request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else call.params.text("access_token")
