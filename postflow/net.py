"""Outgoing HTTP that cannot be turned against its own house.

Addresses come from people (an instance, a webhook). A name is resolved once, every address it stands for is vetted, and
the connection goes to exactly the vetted address: no second look-up that could answer differently (DNS rebinding).
Redirects are never followed, answers are capped, nothing is retried underneath.
"""

import asyncio
import importlib.util
import ipaddress
import re
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from importlib.metadata import version
from types import ModuleType
from typing import cast
from urllib.parse import urlsplit

import httpcore
import httpx

from postflow.config import Settings
from postflow.errors import Invalid

#: An API answer is kilobytes; more is a mistake or an attack.
MOST_BYTES = 4 * 1024 * 1024

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[Sequence[str]]]

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Not meant for anyone, though Python's `is_global` lets some versions' worth of them pass; 192.0.0.192 hands out keys.
_NOT_PUBLIC = [
    ipaddress.ip_network(one)
    for one in ("192.0.0.0/24", "198.18.0.0/15", "192.88.99.0/24", "64:ff9b:1::/48", "fec0::/10", "::/96", "100::/64")
]
_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


class AddressRefused(httpcore.ConnectError):
    """The name leads to an address that may not be reached. Nothing was sent."""


class AnswerTooLarge(httpx.ReadError):
    """The answer went over the cap and was cut off."""


# -- clients -----------------------------------------------------------------------------------------------


def client(settings: Settings, *, resolve: Resolver | None = None) -> httpx.AsyncClient:
    """For reading and uploading. Connections are kept for a few seconds."""
    return _client(
        settings, httpx.Limits(max_connections=200, max_keepalive_connections=40, keepalive_expiry=4), resolve
    )


def commit_client(settings: Settings, *, resolve: Resolver | None = None) -> httpx.AsyncClient:
    """For the one visible call: always a fresh connection, since a kept one may be half dead and lose the answer."""
    return _client(settings, httpx.Limits(max_connections=200, max_keepalive_connections=0), resolve)


def _spare_vain_imports() -> None:
    """httpcore tries to import sniffio six times a request; where it is not installed each try searches the disk."""
    if importlib.util.find_spec("sniffio") is None:
        sys.modules.setdefault("sniffio", cast(ModuleType, None))  # the documented way to say: there is none


def _client(settings: Settings, limits: httpx.Limits, resolve: Resolver | None) -> httpx.AsyncClient:
    _spare_vain_imports()
    timeout_s = settings.request_timeout_s
    return httpx.AsyncClient(
        transport=GuardedTransport(Allowed(settings.allowed_private), limits, resolve or _resolve),
        timeout=httpx.Timeout(timeout_s, connect=min(10, timeout_s), pool=min(10, timeout_s)),
        headers={
            "User-Agent": f"PostFlow/{version('postflow')} (+{settings.public_url})",
            "Accept": "application/json",
        },
        follow_redirects=False,
    )


# -- what may be reached -------------------------------------------------------------------------------------


class Allowed:
    """The operator's exceptions: hosts, host:port, addresses or networks that are private and may be reached."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._names: set[str] = set()
        self._networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network] = []
        for entry in entries:
            try:
                self._networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                self._names.add(entry.lower())

    def host(self, host: str, port: int) -> bool:
        if host in self._names or f"{host}:{port}" in self._names:
            return True
        address = _literal(host)
        return address is not None and any(address in network for network in self._networks)

    def address(self, address: Address) -> bool:
        return any(address in network for network in self._networks)


def is_public(address: Address) -> bool:
    """Reachable by anyone on the internet, whatever notation or tunnel it hides in."""
    inner = _embedded(address)
    if inner is not None:
        return is_public(inner)
    if any(address in network for network in _NOT_PUBLIC):
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def is_private_name(host: str) -> bool:
    """An address, in any notation, that only its own network reaches; names have to be looked up first."""
    literal = _literal(host)
    return host == "localhost" or (literal is not None and not is_public(literal))


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def _literal(host: str) -> Address | None:
    """An address in any notation the system would take: dotted, decimal, octal, hexadecimal, short."""
    try:
        return ipaddress.ip_address(host.strip("[]").split("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.ip_address(socket.inet_aton(host))
    except (OSError, UnicodeEncodeError):
        return None


async def _resolve(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(one[4][0]) for one in found]


def _backend() -> httpcore.AsyncNetworkBackend:
    return cast(httpcore.AsyncNetworkBackend, httpcore.AnyIOBackend())


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, allowed: Allowed, resolve: Resolver) -> None:
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
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _vetted(self, host: str, port: int) -> list[str]:
        literal = _literal(host)
        try:
            found = [str(literal)] if literal else await self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError(f"{host} cannot be found: {error.strerror}") from None
        addresses = [ipaddress.ip_address(one.split("%")[0]) for one in dict.fromkeys(found)]
        if self._allowed.host(host, port):
            return [str(address) for address in addresses]
        if any(not is_public(address) and not self._allowed.address(address) for address in addresses):
            raise AddressRefused(f"{host} leads to a private address")
        return [str(address) for address in addresses]

    async def connect_unix_socket(self, *_: object, **__: object) -> httpcore.AsyncNetworkStream:
        raise AddressRefused("no local sockets")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Capped(httpx.AsyncByteStream):
    """An answer's body that ends in time and below the cap. A read timeout alone lets a server drip for ever."""

    def __init__(self, inner: httpx.AsyncByteStream, within_s: float | None) -> None:
        self._inner = inner
        self._within_s = within_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        ends_at = None if self._within_s is None else clock() + self._within_s
        seen = 0
        async for chunk in self._inner:
            seen += len(chunk)
            if seen > MOST_BYTES:
                raise AnswerTooLarge("the answer is larger than any API answer should be")
            if ends_at is not None and clock() > ends_at:
                raise httpx.ReadTimeout("the answer did not end in time")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport over vetted addresses. Plain http only where the operator allows the host."""

    def __init__(self, allowed: Allowed, limits: httpx.Limits, resolve: Resolver = _resolve) -> None:
        super().__init__(limits=limits, retries=0)
        self._allowed = allowed
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=_GuardedBackend(allowed, resolve),
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
        if request.url.scheme != "https" and not self._allowed.host(host, port):
            raise httpx.ConnectError(f"{host} would be asked without encryption", request=request)
        request.headers["Accept-Encoding"] = "identity"  # a cap on bytes means little when a few unfold to gigabytes
        answer = await super().handle_async_request(request)
        if isinstance(answer.stream, httpx.AsyncByteStream):
            answer.stream = _Capped(answer.stream, request.extensions.get("timeout", {}).get("read"))
        return answer


# -- what people type ----------------------------------------------------------------------------------------


def instance_url(text: str, allowed_private: Iterable[str] = ()) -> str:
    """ "mastodon.social", "@me@mastodon.social", "https://mastodon.social/about" -> "https://mastodon.social".

    Raises Invalid with a sentence under "instance". Plain http and ports only for what the operator allows.
    """
    typed = text.strip()
    if not typed:
        raise Invalid({"instance": "Type the address of your server, such as mastodon.social."})
    if re.search(r"[\s\\\x00-\x20\x7f]", typed):
        raise Invalid({"instance": "This is not an address. Type it like mastodon.social."})
    if "://" not in typed:  # @me@host, or host/@me
        name, slash, rest = typed.partition("/")
        typed = "https://" + name.rsplit("@", 1)[-1] + slash + rest
    try:
        parts = urlsplit(typed)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise Invalid({"instance": "This is not an address. Type it like mastodon.social."}) from None
    if parts.username or parts.password or parts.scheme not in ("http", "https"):
        raise Invalid({"instance": "Type only the address of the server, such as mastodon.social."})
    allowed = Allowed(allowed_private)
    if allowed.host(host, port or (443 if parts.scheme == "https" else 80)):
        scheme = "http" if parts.scheme == "http" or "://" not in text else "https"
        return f"{scheme}://{host}" + (f":{port}" if port else "")
    return "https://" + _public_name(host, port)


def _public_name(host: str, port: int | None) -> str:
    try:
        ascii_host = host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        ascii_host = ""
    if _literal(ascii_host) is not None or "." not in ascii_host or not _HOST.fullmatch(ascii_host):
        raise Invalid(
            {"instance": f"“{host}” is not the name of a server on the internet. Type it like mastodon.social."}
        )
    if port not in (None, 443):
        raise Invalid({"instance": "Leave out the port: servers are reached by their name alone."})
    return ascii_host
