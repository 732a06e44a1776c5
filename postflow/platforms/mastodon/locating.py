"""Where a person has seen a post: the status behind an address, if the server has it and it is the account's own.

Many servers have the status's id in its address; snac does not, but its ids end in the address's MD5. Whatever address
does not tell is looked for among the account's own statuses.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from postflow.errors import Invalid, PublishError
from postflow.models import Login, Receipt
from postflow.platforms import answers
from postflow.platforms.mastodon import own_statuses
from postflow.platforms.mastodon.api import Speaking
from postflow.platforms.mastodon.receipts import link_of

#: /@ada/1, /web/@ada/1, /@ada/statuses/01ABC, /users/ada/statuses/1, /notice/A1, /p/ada/1, /@ada@host/posts/1/, /notes/1
_WITH_ID = re.compile(r"(?:/[^/]+)*/(?:@[^/]+|statuses|notice|notes|posts|p/[^/]+)/([0-9A-Za-z-]+)")
#: snac: /ada/p/1795815314.999906
_SNAC = re.compile(r"/[^/]+/p/\d+\.\d+")
#: A server's ways to say that it has no such status, or not for us.
_NOT_THERE = (400, 403, 404, 405, 410, 422)
MOST_PAGES = 5


class Locating(Speaking):
    async def located(self, http: httpx.AsyncClient, login: Login, link: str) -> Receipt:
        """Raises Invalid({"link": …}) where no own status stands, and where the server cannot be asked."""
        host, address = _on_this_server(login, link)
        try:
            status = await self._by_its_id(http, login, address) or await self._listed_at(http, login, address)
        except PublishError as error:
            sentence = f"{host} cannot be asked right now whether this is the post: {error.sentence}"
            raise Invalid({"link": f"{sentence} Try again in a moment, or leave the address out."}) from None
        if status is None:
            wrong = f"{host} shows no post of {login.account.handle} at this address."
            raise Invalid({"link": f"{wrong} Open the post itself there, and copy the address from your browser."})
        author = status.get("account")
        if not isinstance(author, Mapping) or str(author.get("id")) != login.account.remote_id or status.get("reblog"):
            raise Invalid({"link": f"This is somebody else's post, not one of {login.account.handle}."})
        return Receipt(remote_id=str(status["id"]), permalink=link_of(status) or address)

    async def _by_its_id(self, http: httpx.AsyncClient, login: Login, address: str) -> Mapping[str, Any] | None:
        for remote_id in _ids(address):
            url = f"{login.account.base_url}/api/v1/statuses/{quote(remote_id, safe='')}"
            answer = await answers.ask(http, "GET", url, headers=self.bearer(login.credentials))
            if answer.status_code == 403:  # without read:statuses: what everybody sees
                answer = await answers.ask(http, "GET", url)
            if answer.status_code in _NOT_THERE or answers.said(answer).startswith("No query results"):  # Laravel's
                continue
            status = self.understood(answer, commit=False)
            if status.get("id"):
                return status
        return None

    async def _listed_at(self, http: httpx.AsyncClient, login: Login, address: str) -> Mapping[str, Any] | None:
        """Some servers list the same page for ever, whatever page is asked for."""
        seen, before = set[str](), None
        for _ in range(MOST_PAGES):
            answer = await own_statuses.page(self, http, login, before=before)
            if answer.status_code == 403:
                answer = await own_statuses.page(self, http, login, before=before, as_stranger=True)
            statuses = [one for one in self.listed(answer) if str(one["id"]) not in seen]
            for status in statuses:
                if address in (_plain(str(status.get("url"))), _plain(str(status.get("uri")))):
                    return status
            if not statuses:
                return None
            seen |= {str(one["id"]) for one in statuses}
            before = str(min(statuses, key=own_statuses.order)["id"])
        return None


def _on_this_server(login: Login, link: str) -> tuple[str, str]:
    """(host, address without what browsers add). Raises Invalid."""
    server, given = urlsplit(login.account.base_url), urlsplit(link.strip())
    if given.netloc.lower() != server.netloc.lower() or not given.path.strip("/"):
        raise Invalid({"link": f"This is not the address of a post on {server.netloc}. Copy it from there."})
    return server.netloc, f"{login.account.base_url}{given.path.rstrip('/')}"


def _ids(address: str) -> Iterator[str]:
    path = urlsplit(address).path
    found = _WITH_ID.fullmatch(path)
    if found and (len(found[1]) >= 15 or any(one.isdigit() for one in found[1])):  # not /@ada/media
        yield found[1]
    if _SNAC.fullmatch(path):
        yield "0" * 10 + hashlib.md5(address.encode(), usedforsecurity=False).hexdigest()


def _plain(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"
