"""Addresses: what people type, and which may be reached: the whole internet, and what is private only if the operator
allows it.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from postflow.errors import Invalid

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
#: Not meant for anyone, though Python's `is_global` lets some versions' worth of them pass; 192.0.0.192 hands out keys.
_NOT_PUBLIC = [
    ipaddress.ip_network(one)
    for one in ("192.0.0.0/24", "198.18.0.0/15", "192.88.99.0/24", "64:ff9b:1::/48", "fec0::/10", "::/96", "100::/64")
]

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")


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
        address = literal(host)
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
    found = literal(host)
    return host == "localhost" or (found is not None and not is_public(found))


def _embedded(address: Address) -> ipaddress.IPv4Address | None:
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


def literal(host: str) -> Address | None:
    """An address in any notation the system would take: dotted, decimal, octal, hexadecimal, short."""
    try:
        return ipaddress.ip_address(host.strip("[]").split("%")[0])
    except ValueError:
        pass
    try:
        return ipaddress.ip_address(socket.inet_aton(host))
    except (OSError, UnicodeEncodeError):
        return None


# -- what people type ----------------------------------------------------------------------------------------


def instance_url(text: str, allowed_private: Iterable[str] = ()) -> str:
    """ "mastodon.social", "@me@mastodon.social", "https://mastodon.social/about" -> "https://mastodon.social".

    Raises Invalid with a sentence under "instance". Plain http and ports only for what the operator allows, and http only
    when it was typed.
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
    if Allowed(allowed_private).host(host, port or (443 if parts.scheme == "https" else 80)):
        return f"{parts.scheme}://{_authority(host, port)}"
    return "https://" + _public_name(host, port)


def plain_url(text: str, allowed_private: Iterable[str] = ()) -> str | None:
    """What else may be meant by an address that `instance_url` took for https: without a scheme, and allowed by the
    operator, it may be a server of the same house that speaks http only.
    """
    return None if "://" in text else _plain(text.strip(), Allowed(allowed_private))


def _plain(typed: str, allowed: Allowed) -> str | None:
    parts = urlsplit("http://" + typed.partition("/")[0].rsplit("@", 1)[-1])
    host = (parts.hostname or "").rstrip(".")
    return f"http://{_authority(host, parts.port)}" if allowed.host(host, parts.port or 80) else None


def _authority(host: str, port: int | None) -> str:
    return (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")


def _public_name(host: str, port: int | None) -> str:
    try:
        ascii_host = host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        ascii_host = ""
    if literal(ascii_host) is not None or "." not in ascii_host or not _HOST.fullmatch(ascii_host):
        raise Invalid(
            {"instance": f"“{host}” is not the name of a server on the internet. Type it like mastodon.social."}
        )
    if port not in (None, 443):
        raise Invalid({"instance": "Leave out the port: servers are reached by their name alone."})
    return ascii_host
