"""What a server shows when it is asked about one thing: a status, an upload, how much the account has written.

A 404 may come from a gateway whose server is away, and it may say it in JSON: it counts once the server itself has answered
to this account.
"""

from collections.abc import Mapping
from typing import ClassVar

import httpx

from postflow.errors import PublishError, Retry, Unauthorized
from postflow.models import Login, Profile
from postflow.platforms import answers
from postflow.platforms.mastodon.api import Speaking


class Asking(Speaking):
    #: what asking for an upload gets that cannot be processed: it is in no status either
    unprocessable: ClassVar[int | None] = 422

    async def verify(self, http: httpx.AsyncClient, login: Login) -> Profile:
        raise NotImplementedError

    async def still_welcome(self, http: httpx.AsyncClient, login: Login) -> None:
        """403 may mean this request, or the whole account. Raises Unauthorized for the account."""
        try:
            await self.verify(http, login)
        except Unauthorized:
            raise
        except PublishError:
            return

    async def is_gone(self, http: httpx.AsyncClient, login: Login, status_id: str) -> bool:
        """A status that was there is there no more. Raises where that cannot be told."""
        url = f"{login.account.base_url}/api/v1/statuses/{status_id}"
        answer = await answers.ask(http, "GET", url, headers=self.bearer(login.credentials))
        if not self.says_missing(answer):
            self.understood(answer, commit=False)
            return False
        if (await self.verify(http, login)).remote_id != login.account.remote_id:
            raise Retry("Another server answers at this address.", code="turned_away")
        return True

    async def shows_all(self, http: httpx.AsyncClient, login: Login, listed: int) -> bool:
        """An account's whole list has as many entries as the account has written, by its own count. Some are left out of
        the count, such as direct messages.
        """
        url = f"{login.account.base_url}/api/v1/accounts/verify_credentials"
        answer = await answers.ask(http, "GET", url, headers=self.bearer(login.credentials))
        counted = self.understood(answer, commit=False).get("statuses_count")
        return isinstance(counted, int) and counted <= listed

    async def is_unused(self, http: httpx.AsyncClient, login: Login, remote_id: str) -> bool:
        """Still there and in no status, on servers where `media_tells`. Raises when the server cannot be asked."""
        answer = await self.upload_asked_for(http, login, remote_id)
        if self.says_missing(answer):
            return False
        if answer.status_code == self.unprocessable:
            return True
        return _is(self.understood(answer, commit=False), remote_id)

    def says_missing(self, answer: httpx.Response) -> bool:
        return answers.says_missing(answer)

    async def upload_asked_for(self, http: httpx.AsyncClient, login: Login, remote_id: str) -> httpx.Response:
        url = f"{login.account.base_url}/api/v1/media/{remote_id}"
        return await answers.ask(http, "GET", url, headers=self.bearer(login.credentials))


def _is(body: Mapping[str, object], remote_id: str) -> bool:
    """Raises Retry for an object that is none of the server's."""
    if str(body.get("id")) != remote_id:
        raise Retry("The server's answer could not be read.", code="garbage", detail="no such upload in it")
    return True
