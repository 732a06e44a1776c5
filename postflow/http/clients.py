"""Outgoing HTTP that cannot be turned against its own house.

Addresses come from people (an instance, a webhook). A name is resolved once, every address it stands for is vetted, and
the connection goes to exactly the vetted address: no second look-up that could answer differently (DNS rebinding).
Redirects are never followed, answers are capped, nothing is retried underneath. addresses.py says what may be reached.
"""

import asyncio
import contextlib
import functools
import importlib.util
import ipaddress
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from types import ModuleType
from typing import cast

import httpcore
import httpx

from postflow.config import Settings
from postflow.http import addresses, deadline

#: An API answer is kilobytes; more is a mistake or an attack.
MOST_BYTES = 4 * 1024 * 1024

Resolver = Callable[[str, int], Awaitable[Sequence[str]]]


#: httpcore's errors by httpx's names.
TOLD_AS: dict[type[Exception], type[httpx.TransportError]] = {
    httpcore.ConnectTimeout: httpx.ConnectTimeout,
    httpcore.ReadTimeout: httpx.ReadTimeout,
    httpcore.WriteTimeout: httpx.WriteTimeout,
    httpcore.PoolTimeout: httpx.PoolTimeout,
    httpcore.ConnectError: httpx.ConnectError,
    httpcore.ReadError: httpx.ReadError,
    httpcore.WriteError: httpx.WriteError,
    httpcore.ProxyError: httpx.ProxyError,
    httpcore.UnsupportedProtocol: httpx.UnsupportedProtocol,
    httpcore.LocalProtocolError: httpx.LocalProtocolError,
    httpcore.RemoteProtocolError: httpx.RemoteProtocolError,
}


class AddressRefused(httpcore.ConnectError):
    """The name leads to an address that may not be reached. Nothing was sent."""


class AnswerTooLarge(httpx.ReadError):
    """The answer went over the cap and was cut off."""


# -- clients -----------------------------------------------------------------------------------------------


def client(settings: Settings, *, resolve: Resolver | None = None) -> httpx.AsyncClient:
    """For reading and uploading. Connections are kept for a few seconds."""
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=40, keepalive_expiry=4)
    return _client(settings, limits, resolve, commits=False)


def commit_client(settings: Settings, *, resolve: Resolver | None = None) -> httpx.AsyncClient:
    """For the one visible call: always a fresh connection, since a kept one may be half dead and lose the answer. It leaves
    in time or not at all (`deadline`).
    """
    return _client(settings, httpx.Limits(max_connections=200, max_keepalive_connections=0), resolve, commits=True)


def _spare_vain_imports() -> None:
    """httpcore tries to import sniffio six times a request; where it is not installed each try searches the disk."""
    if importlib.util.find_spec("sniffio") is None:
        sys.modules.setdefault("sniffio", cast(ModuleType, None))  # the documented way to say: there is none


def _client(settings: Settings, limits: httpx.Limits, resolve: Resolver | None, *, commits: bool) -> httpx.AsyncClient:
    _spare_vain_imports()
    timeout_s = settings.request_timeout_s
    options = deadline.socket_options(timeout_s) if commits else []
    return httpx.AsyncClient(
        transport=GuardedTransport(addresses.Allowed(settings.allowed_private), limits, resolve or _resolve, options),
        timeout=httpx.Timeout(timeout_s, connect=min(10, timeout_s), pool=min(10, timeout_s)),
        headers={
            "User-Agent": f"PostFlow/{version('postflow')} (+{settings.public_url})",
            "Accept": "application/json",
        },
        follow_redirects=False,
    )


@functools.cache
def trusted() -> ssl.SSLContext:
    """Reading all authorities takes a tenth of a second, and each client would trust the same."""
    return ssl.create_default_context()


# -- the way out ---------------------------------------------------------------------------------------------


async def _resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


def _backend() -> httpcore.AsyncNetworkBackend:
    return cast(httpcore.AsyncNetworkBackend, httpcore.AnyIOBackend())


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, allowed: addresses.Allowed, resolve: Resolver) -> None:
        self._inner = _backend()
        self._allowed = allowed
        self._resolve = resolve

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 httpcore's own signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in await self._vetted(host.lower().rstrip("."), port):
            try:
                stream = await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
                return deadline.Punctual(stream)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _vetted(self, host: str, port: int) -> list[str]:
        literal = addresses.literal(host)
        try:
            found = [str(literal)] if literal else await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be found: {error.strerror}") from None
        there = [ipaddress.ip_address(one.split("%")[0]) for one in dict.fromkeys(found)]
        if self._allowed.host(host, port):
            return [str(address) for address in there]
        if any(not addresses.is_public(address) and not self._allowed.address(address) for address in there):
            raise AddressRefused(f"{host} leads to a private address")
        return [str(address) for address in there]

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        raise AddressRefused("no local sockets")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Capped(httpx.AsyncByteStream):
    """An answer's body that ends in time and below the cap. A read timeout alone lets a server drip for ever."""

    def __init__(self, answer: httpcore.Response, within_s: float | None) -> None:
        self._answer = answer
        self._within_s = within_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        ends_at = None if self._within_s is None else clock() + self._within_s
        seen = 0
        with _told_as_httpx():
            async for chunk in self._answer.aiter_stream():
                seen += len(chunk)
                if seen > MOST_BYTES:
                    raise AnswerTooLarge("the answer is larger than any API answer should be")
                if ends_at is not None and clock() > ends_at:
                    raise httpx.ReadTimeout("the answer did not end in time")
                yield chunk
        if isinstance(stream := self._answer.extensions.get("network_stream"), deadline.Punctual):
            stream.answered()

    async def aclose(self) -> None:
        await self._answer.aclose()


class GuardedTransport(httpx.AsyncBaseTransport):
    """httpx over an httpcore pool of vetted addresses, by the public interfaces of both: httpx lets nobody pass a network
    backend to its own transport. Plain http only where the operator allows the host.
    """

    def __init__(
        self,
        allowed: addresses.Allowed,
        limits: httpx.Limits,
        resolve: Resolver,
        socket_options: Sequence[httpcore.SOCKET_OPTION],
    ) -> None:
        self._allowed = allowed
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trusted(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            retries=0,
            network_backend=_GuardedBackend(allowed, resolve),
            socket_options=socket_options,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
        if request.url.scheme != "https" and not self._allowed.host(host, port):
            raise httpx.ConnectError(f"{host} would be asked without encryption", request=request)
        request.headers["Accept-Encoding"] = "identity"  # a cap on bytes means little when a few unfold to gigabytes
        timeouts = request.extensions.get("timeout", {})
        with _told_as_httpx():
            answer = await self._answer(_as_httpcore(request), timeouts.values())
        return httpx.Response(
            status_code=answer.status,
            headers=answer.headers,
            stream=_Capped(answer, timeouts.get("read")),
            extensions=answer.extensions,
        )

    async def _answer(self, request: httpcore.Request, timeouts: Iterable[float | None]) -> httpcore.Response:
        """Each wait has its own limit, but a server may drip its head for ever: all of them together end that, too."""
        within_s = [one for one in timeouts if one is not None]
        try:
            async with asyncio.timeout(sum(within_s) if within_s else None):
                return await self._pool.handle_async_request(request)
        except TimeoutError:
            raise httpcore.ReadTimeout("the answer did not begin in time") from None

    async def aclose(self) -> None:
        await self._pool.aclose()


def _as_httpcore(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


@contextlib.contextmanager
def _told_as_httpx() -> Iterator[None]:
    """The rest of PostFlow knows httpx's errors only."""
    try:
        yield
    except tuple(TOLD_AS) as error:
        kind = next(theirs for ours, theirs in TOLD_AS.items() if isinstance(error, ours))
        raise kind(str(error)) from error
