"""Split domains: a handle may end in example.org while the server answers at social.example.org.

The way there: example.org hands /.well-known over to the server by a redirect, or names it in nodeinfo or host-meta.
The way back: the server's own webfinger answers with the handle as the rest of the network knows it.
RFC 7033, docs.joinmastodon.org/admin/config (LOCAL_DOMAIN, WEB_DOMAIN)
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpx

from postflow.errors import PublishError
from postflow.platforms import answers

#: Hand-overs from host to host; more of them are a loop.
MOST_HOPS = 3
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?")


async def home(http: httpx.AsyncClient, base_url: str) -> str:
    """The base address of the server that `base_url` stands for; itself when it names no other.

    Whoever goes there has it vetted like any other address.
    """
    return (
        await _handed_over(http, base_url, "/.well-known/nodeinfo")
        or await _handed_over(http, base_url, "/.well-known/host-meta")
        or base_url
    )


async def answers_there(http: httpx.AsyncClient, base_url: str) -> bool:
    """Whatever the answer is: somebody speaks there, in the way that `base_url` says."""
    try:
        await answers.ask(http, "GET", f"{base_url}/.well-known/nodeinfo")
    except PublishError as error:
        return error.code != "unreachable"
    return True


async def _handed_over(http: httpx.AsyncClient, base_url: str, path: str) -> str | None:
    url = base_url + path
    for _ in range(MOST_HOPS):
        try:
            answer = await answers.ask(http, "GET", url)
        except PublishError:
            return None
        if answer.has_redirect_location:
            url = urljoin(url, answer.headers["location"])
            continue
        if not answer.is_success or (named := _named(answer)) is None:
            return None
        return _base(named)
    return None


def _named(answer: httpx.Response) -> str | None:
    """nodeinfo's first link, or host-meta's template."""
    body: Any = answers.parsed(answer)
    links = body.get("links") if isinstance(body, Mapping) else None
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping) and "nodeinfo" in str(link.get("rel", "")):
            return str(link.get("href", ""))
    found = re.search(r"template=[\"'](https?://[^\"'{}]+)", answer.text)
    return found[1] if found else None


def _base(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2].lower()}"


async def handle(http: httpx.AsyncClient, base_url: str, username: str) -> str:
    """ "@ada@example.org", as others mention her; with the server's own host when it does not say."""
    host = base_url.split("://", 1)[-1]
    resource = quote(f"acct:{username}@{host}", safe="")
    try:
        answer = await answers.ask(http, "GET", f"{base_url}/.well-known/webfinger?resource={resource}")
    except PublishError:
        return f"@{username}@{host}"
    body = answers.parsed(answer)
    subject = str(body.get("subject", "")) if answer.is_success and isinstance(body, Mapping) else ""
    name, _, domain = subject.removeprefix("acct:").rpartition("@")
    if name.lower() == username.lower() and _DOMAIN.fullmatch(domain.lower()):
        return f"@{username}@{domain.lower()}"
    return f"@{username}@{host}"
