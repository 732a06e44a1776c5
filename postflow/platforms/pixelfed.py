"""Pixelfed: Mastodon's API with manners of its own (docs/networks.md).

A dead token answers 500, a refused form answers 500, a key is used up before the work is done, uploads live two hours.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar

import httpx

from postflow.errors import AppForgotten, OutcomeUnknown, PublishError, Refused, Unauthorized
from postflow.models import (
    AppRegistration,
    Attempt,
    Credentials,
    Login,
    LookAgain,
    Outgoing,
    Receipt,
    SafeToResend,
    Server,
    Undecidable,
    Verdict,
)
from postflow.platforms import answers, lookups
from postflow.platforms.base import Connected, ConnectOption
from postflow.platforms.mastodon import Mastodon
from postflow.platforms.mastodon.own_statuses import Staged

REFRESH_AHEAD = timedelta(days=30)
LONGEST_HIDDEN = timedelta(minutes=10)
DUPLICATE = "Duplicate idempotency"  # Pixelfed's own words are in English for everybody


class Pixelfed(Mastodon):
    name: ClassVar[str] = "pixelfed"
    label: ClassVar[str] = "Pixelfed"
    software: ClassVar[frozenset[str]] = frozenset({"pixelfed"})
    staged_life_s: ClassVar[float] = 85 * 60
    unprocessable: ClassVar[int | None] = None

    def connect_options(self) -> Sequence[ConnectOption]:
        return [ConnectOption(key="instance", label=self.label, asks_for="instance", hint="such as pixelfed.social")]

    def scopes(self, server: Server) -> tuple[str, ...]:
        return ("read", "write")

    async def exchange(
        self, http: httpx.AsyncClient, server: Server, app: AppRegistration, code: str, memo: Mapping[str, Any]
    ) -> Sequence[Connected]:
        return [await self._noted(http, server, one) for one in await super().exchange(http, server, app, code, memo)]

    async def sign_in(self, http: httpx.AsyncClient, server: Server, typed: Mapping[str, str]) -> Sequence[Connected]:
        return [await self._noted(http, server, one) for one in await super().sign_in(http, server, typed)]

    async def _noted(self, http: httpx.AsyncClient, server: Server, opened: Connected) -> Connected:
        """Who never opened the website gets an empty list for everything, here for an upload without a file."""
        url, headers = f"{server.base_url}/api/v1/media", self.bearer(opened.credentials)
        try:
            answer = await answers.ask(http, "POST", url, headers=headers)
        except PublishError:
            return opened
        if not (answer.is_success and answers.parsed(answer) == []):
            return opened
        note = "Pixelfed takes no posts from this account yet. Sign in to Pixelfed on the web once."
        return opened.model_copy(update={"notes": (*opened.notes, note)})

    def refresh_due(self, login: Login, *, now: Any) -> bool:
        expires_at = login.credentials.expires_at
        renewable = login.app is not None and login.credentials.refresh_token is not None
        return renewable and expires_at is not None and expires_at - now < REFRESH_AHEAD

    async def refresh(self, http: httpx.AsyncClient, login: Login) -> Credentials:
        """Both old tokens die with the answer; a lost answer means connecting again."""
        if login.app is None or login.credentials.refresh_token is None:
            raise Unauthorized("This access cannot be renewed.", next_step="Connect the account again.")
        asked = {"grant_type": "refresh_token", "refresh_token": login.credentials.refresh_token.get_secret_value()}
        try:
            return await self._token(http, login.account.base_url, login.app, asked)
        except AppForgotten as error:
            raise Unauthorized(str(error), next_step="Connect the account again.") from None
        except Refused as error:
            raise Unauthorized(
                "The server did not renew the account's access.",
                next_step="Connect the account again.",
                detail=error.detail,
            ) from None

    async def explained(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged, answer: httpx.Response
    ) -> Receipt | None:
        """A key that was used before says that an earlier request arrived, not what became of it: that takes a look."""
        if answers.said(answer).startswith(DUPLICATE):
            return None
        return await super().explained(http, outgoing, staged, answer)

    def status(self, outgoing: Outgoing, staged: Staged) -> dict[str, Any]:
        body = super().status(outgoing, staged)
        body.pop("language", None)
        return body

    async def absent(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged, attempt: Attempt) -> Verdict:
        """An upload that is still unattached proves that no status took it; one that is gone proves nothing."""
        settled = await super().absent(http, outgoing, staged, attempt)
        if not isinstance(settled, SafeToResend):
            return settled
        if not staged.uploads:
            return Undecidable(why="Pixelfed does not list answers, so PostFlow cannot tell whether this one is out.")
        try:
            unused = [await self.is_unused(http, outgoing.login, upload.remote_id) for upload in staged.uploads]
        except Unauthorized:
            raise
        except PublishError as error:
            return lookups.cannot_ask(attempt, error)
        if all(unused):
            return SafeToResend(why="Its pictures are still unused: it did not go out.", new_key=True, settled=True)
        if attempt.now - attempt.sent_at < LONGEST_HIDDEN:
            return LookAgain(in_s=60, why="Its pictures are gone, but it is not on the account yet.", absent=True)
        return Undecidable(why="Its pictures are gone, but Pixelfed shows no post: it may be stuck there as a draft.")

    async def shows_all(self, http: httpx.AsyncClient, login: Login, listed: int) -> bool:
        """Comments are counted and not listed: of an account without photos the unused uploads tell (`absent`)."""
        return True

    def says_missing(self, answer: httpx.Response) -> bool:
        """404, or 500 in Laravel's words."""
        return super().says_missing(answer) or answers.said(answer).startswith("No query results")

    def understood(self, answer: httpx.Response, *, commit: bool) -> Mapping[str, Any]:
        if answer.is_success and answers.parsed(answer) == []:
            raise Refused(
                "Pixelfed takes nothing from this account yet.",
                code="never_signed_in",
                next_step="Sign in to Pixelfed on the web once, then try again.",
            )
        return super().understood(answer, commit=commit)

    def refusal(self, answer: httpx.Response, *, commit: bool) -> PublishError:
        words, body = answers.said(answer), answers.parsed(answer)
        detail = f"HTTP {answer.status_code} {words}".strip()
        if words.startswith("Unauthenticated"):
            return Unauthorized(
                "The account's access has ended.", next_step="Connect the account again.", detail=detail
            )
        if words.startswith(DUPLICATE):
            return OutcomeUnknown("An earlier attempt reached Pixelfed.", code="duplicate_key", detail=detail)
        if isinstance(body, Mapping) and isinstance(body.get("errors"), Mapping):
            first = next(iter(body["errors"].values()), [words])
            said = first[0] if isinstance(first, list) and first else words
            return Refused(
                f"Pixelfed refused it: {answers.scrubbed(answer, said)}",
                code="validation",
                next_step="Change the post.",
                detail=detail,
            )
        return answers.refusal(answer, commit=commit)
