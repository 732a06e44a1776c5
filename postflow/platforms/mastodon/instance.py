"""What a server says of itself: its instance document, version 2 and, where that keeps silent, version 1."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx

from postflow.errors import ConnectError, PublishError
from postflow.platforms import answers, software


async def read(http: httpx.AsyncClient, base_url: str) -> Mapping[str, Any]:
    """Version 2 of the document; version 1 fills in what it leaves out."""
    known: dict[str, Any] = {}
    for path in ("/api/v2/instance", "/api/v1/instance"):
        try:
            answer = await answers.ask(http, "GET", base_url + path)
        except PublishError:
            raise ConnectError(f"{base_url} cannot be reached. Check the address, or try again later.") from None
        _hint_at_the_other_address(base_url, answer)
        body = answers.parsed(answer)
        if answer.is_success and isinstance(body, Mapping):
            known = software.merged(known, body)
        if software.says_its_limits(known):
            break
    if not known:
        raise ConnectError(
            f"{base_url} is not a server that PostFlow can publish to: it does not speak Mastodon's API."
        )
    return known


async def speaks(http: httpx.AsyncClient, base_url: str) -> bool:
    """Does a server of the family answer there? Its version 1 document is open to everybody, and all have it."""
    try:
        answer = await answers.ask(http, "GET", f"{base_url}/api/v1/instance")
    except PublishError:
        return False
    body = answers.parsed(answer)
    return answer.is_success and isinstance(body, Mapping) and "version" in body


def _hint_at_the_other_address(base_url: str, answer: httpx.Response) -> None:
    """Handles may say example.org while the server is social.example.org. A redirect is told, never followed."""
    if not answer.is_redirect:
        return
    there = urlsplit(answer.headers.get("location", "")).hostname
    if there and there != urlsplit(base_url).hostname:
        raise ConnectError(f"{base_url} sends visitors on to {there}. If that is your server, type {there} instead.")
