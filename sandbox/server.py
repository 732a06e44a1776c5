"""The sandbox as a thing to start and stop: one event loop in a thread of its own, one port per instance.

with Sandbox.start(port=0) as sandbox:
    account = sandbox.add_account("mastodon", "wren")
    sandbox.faults.add("drop_after_commit", account=account)
    ... let something publish ...
    assert sandbox.ledger.times_published("hello") == 1
"""

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from sandbox.core import accounts, dispatch, wire
from sandbox.core.accounts import Credentials
from sandbox.core.instance import Instance
from sandbox.core.network import Network
from sandbox.core.software import changed
from sandbox.instagram import callbacks
from sandbox.registry import CONTROL, DEFAULTS, FAMILIES, profile

_BACKLOG = 1024
T = TypeVar("T")


class Sandbox:
    """A running network. Every method may be called from any thread."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        data: str | None = None,
        keep_pictures: int = 500,
        keep_requests: int = 50_000,
        instances: list[str] | None = None,
        public_host: str = "",
    ) -> None:
        self.host, self.port = host, port
        self._shown = public_host or ("127.0.0.1" if host in ("0.0.0.0", "") else host)
        self.network = Network({**FAMILIES, "control": CONTROL}, data, keep_pictures, keep_requests)
        self.network.controls = self
        self._wanted = [one for one in DEFAULTS if instances is None or one[0] in instances]
        self._servers: dict[str, asyncio.Server] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="sandbox", daemon=True)

    @classmethod
    def start(cls, port: int = 0, **options: Any) -> "Sandbox":
        """Open all ports and return once they listen.

        port=0 takes free ones, else instances follow on port+1…; data=FILE keeps state in SQLite;
        instances=["mastodon"] opens only those; keep_pictures and keep_requests bound the memory;
        public_host is the name in addresses.
        """
        sandbox = cls(port=port, **options)
        sandbox._thread.start()
        try:
            sandbox._wait(sandbox._open_all())
        except BaseException:
            sandbox.stop()
            raise
        return sandbox

    def stop(self) -> None:
        """Close every connection and port at once; safe to call twice."""
        if self._loop.is_closed():
            return
        if self._thread.is_alive():
            self._wait(self._close_all())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def control_url(self) -> str:
        """Base address of the index and the control API."""
        return self.network.control.url

    @property
    def faults(self) -> Any:
        """The switches: `add(kind, …)`, `clear()`, `all()`."""
        return self.network.faults

    @property
    def ledger(self) -> Any:
        """What happened: `statuses()`, `requests()`, `times_published()`, `counts()`."""
        return self.network.ledger

    def url(self, name: str | Instance) -> str:
        """Base address of an instance, without a trailing slash."""
        return self.instance(name).url

    def instance(self, name: str | Instance) -> Instance:
        """An instance by name; an Instance is given back as it is."""
        if isinstance(name, Instance):
            return name
        if name not in self.network.instances:
            known = ", ".join(self.network.instances)
            raise KeyError(f"no instance called {name!r}; there are {known}")
        return self.network.instances[name]

    def add_instance(
        self,
        software: str = "mastodon",
        version: str | None = None,
        *,
        name: str | None = None,
        **options: Any,
    ) -> Instance:
        """Another server on a free port; options are fields of software.Profile (limits, idempotency,
        media_guard…).
        """
        return self._wait(self.open_instance(software, version, name=name, **options))

    def configure(self, name: str | Instance, **options: Any) -> Instance:
        """Change an instance while it runs; with software= or version= it becomes that software, as if
        reinstalled.
        """

        return self._do(lambda: self.change(self.instance(name), **options))

    def change(self, one: Instance, **options: Any) -> Instance:
        """configure, on the loop."""
        if "software" in options or "version" in options:
            software = options.pop("software", one.profile.software)
            one.profile = profile(software, options.pop("version", None), **options)
        else:
            one.profile = changed(one.profile, options)
        return one

    def add_account(self, instance: str | Instance, handle: str, **options: Any) -> Credentials:
        """A connected account: see accounts.connect for scopes, flavour and traits."""
        return self._do(lambda: accounts.connect(self.network, self.instance(instance), handle, **options))

    def expire_tokens(self, account: str | Credentials, instance: str | None = None) -> int:
        """All tokens of a person are expired from now on."""
        return self._end(account, instance, "expire")

    def revoke_tokens(self, account: str | Credentials, instance: str | None = None) -> int:
        """The person took the permission away."""
        return self._end(account, instance, "revoke")

    def advance(self, seconds: float) -> float:
        """Move the sandbox's clock; returns its new now (epoch seconds)."""
        return self._do(lambda: self.network.clock.advance(seconds))

    def age(self, seconds: int) -> None:
        """Statuses, uploads, containers, tokens, keys, limits and requests all lie so much further back.

        The clock stays, so that a client whose own records are aged alike, by the same clock on the wall, sees no
        difference to having waited. Nothing should be under way meanwhile.
        """
        self._do(lambda: self.network.age(seconds))

    def now(self) -> float:
        """The sandbox's clock, epoch seconds."""
        return self.network.clock.now()

    def wait_until_left_alone(self) -> None:
        """Return once every connection is over: what a client asked before it went has been done by then."""
        self._wait(self._quiet(lambda: bool(self._connections)))

    def wait_until_idle(self) -> None:
        """Return once no request is under way; connections that clients keep open do not count."""
        self._wait(self._quiet(lambda: bool(self.network.under_way)))

    @property
    def holds(self) -> int:
        """So many requests are held back right now (`held` switches)."""
        return len(self.network.held)

    def let_go(self) -> int:
        """What `held` switches hold back is carried out now; returns how many requests once that is done."""

        async def letting() -> int:
            return len(await asyncio.gather(*self.network.held.let_go()))

        return self._wait(letting())

    def signed_request(self, account: Credentials, secret: str | None = None, user_id: str | None = None) -> str:
        """What Meta would post to a deauthorise or data-deletion callback for this account; through Facebook Login
        for its person.
        """
        who = user_id or (f"77{account.account_id}" if account.user_token else account.account_id)
        payload = {"user_id": who, "issued_at": int(self.now())}
        return callbacks.signed_request(payload, secret or account.client_secret)

    def go_down(self, name: str | Instance) -> None:
        """Connections to this instance are refused until it comes back; open ones are cut."""
        self._wait(self.listen(self.instance(name), False))

    def come_back(self, name: str | Instance) -> None:
        """Listen again on the same port."""
        self._wait(self.listen(self.instance(name), True))

    async def listen(self, one: Instance, on: bool) -> None:
        """Go down or come back, on the loop."""
        if not on:
            await self._close_port(one)
        elif one.name not in self._servers:
            await self._listen(one, int(one.url.rpartition(":")[2]))

    async def open_instance(
        self, software: str = "mastodon", version: str | None = None, name: str | None = None, **options: Any
    ) -> Instance:
        """add_instance, on the loop."""
        title = options.pop("title", None)
        made = profile(software, version, **options)
        number = len(self.network.instances) + 1
        one = Instance(name or f"{software}-{number}", title or f"{software}{number}.example", made)
        if one.name in self.network.instances:
            raise ValueError(f"there is an instance called {one.name} already")
        await self._listen(one, 0)
        self.network.instances[one.name] = one
        return one

    async def _quiet(self, is_busy: Callable[[], bool]) -> None:
        quiet = 0
        while quiet < 3:  # what came in a moment ago is not counted yet
            await asyncio.sleep(0.002)
            quiet = 0 if is_busy() else quiet + 1

    async def _open_all(self) -> None:
        await self._listen(self.network.control, self.port)
        for offset, (name, title, software, version) in enumerate(self._wanted, start=1):
            one = Instance(name, title, profile(software, version))
            await self._listen(one, self.port + offset if self.port else 0)
            self.network.instances[name] = one

    async def _listen(self, one: Instance, port: int) -> None:
        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answering = wire.serve(reader, writer, lambda request: dispatch.answer(self.network, one, request))
            task = self._loop.create_task(answering, name=one.name)
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

        server = await asyncio.start_server(connected, self.host, port, backlog=_BACKLOG, family=socket.AF_INET)
        self._servers[one.name] = server
        bound = server.sockets[0].getsockname()[1]
        one.url = one.url or f"http://{self._shown}:{bound}"

    async def _close_port(self, one: Instance) -> None:
        server = self._servers.pop(one.name, None)
        if server:
            server.close()
        await self._cut([task for task in self._connections if task.get_name() == one.name])

    async def _close_all(self) -> None:
        for server in self._servers.values():
            server.close()
        await self._cut(list(self._connections) + list(self.network.background))
        await self.network.close()
        await asyncio.sleep(0)

    async def _cut(self, tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _end(self, account: str | Credentials, instance: str | None, do: str) -> int:
        if isinstance(account, Credentials):
            account, instance = account.account_id, account.instance
        return self._do(lambda: accounts.end_tokens(self.network, account, instance, do))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def _do(self, work: Callable[[], T]) -> T:
        async def doing() -> T:
            return work()

        return self._wait(doing())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        if threading.current_thread() is self._thread:
            raise RuntimeError("called from the sandbox's own thread")
        future: concurrent.futures.Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(60)
