"""Reconciling: a request whose answer was lost left a status on the account, or it did not. Looking never sends."""

from datetime import datetime, timedelta

import httpx
from pydantic import BaseModel

from postflow.errors import PublishError, Refused, Unauthorized
from postflow.models import (
    Attempt,
    Found,
    LookAgain,
    Outgoing,
    SafeToResend,
    Undecidable,
    Verdict,
    Visibility,
)
from postflow.platforms import lookups, software
from postflow.platforms.mastodon import matching, own_statuses
from postflow.platforms.mastodon.own_statuses import Staged
from postflow.platforms.mastodon.publishing import REPLAYED
from postflow.platforms.mastodon.queries import Asking
from postflow.platforms.mastodon.receipts import receipt
from postflow.platforms.mastodon.refusals import SAID_GONE

#: What anyone may see, with or without a token.
FOR_ALL = frozenset({Visibility.public, Visibility.unlisted})
UNCLEAR = "There is a new post on the account that may be this one; the server does not tell."
_MAY_BE_HIDDEN = "It does not show up on the account, but this server's lists may be incomplete."
_SAID_GONE = (
    "It is not on the account, and the server says that it had been there and is gone: deleted there, or something in front "
    "of the server speaks in its words."
)
_UNGUARDED = (
    "It is not on the account. But this server takes a repeated request for another post: if the first one arrives after "
    "all, it would be out twice."
)


class Reconciling(Asking):
    async def reconcile(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel, attempt: Attempt
    ) -> Verdict:
        assert isinstance(staged, Staged)
        try:
            own = await own_statuses.since(self, http, outgoing.login, staged.anchor, long_before=_long_before(attempt))
            found = await self._ours(http, outgoing, staged, attempt, own)
        except Unauthorized:
            raise
        except Refused:
            return await self._seen_by_all(http, outgoing, staged, attempt)
        except PublishError as error:
            return lookups.cannot_ask(attempt, error)
        if found or own.complete:
            return found or await self.absent(http, outgoing, staged, attempt)
        return lookups.list_is_short(attempt)

    async def _ours(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged, attempt: Attempt, own: own_statuses.Seen
    ) -> Found | Undecidable | None:
        unclear = False
        for status in sorted(
            own.statuses, key=own_statuses.order
        ):  # of two with the same words the first sent is the older
            if str(status["id"]) in attempt.taken_remote_ids:
                continue
            match = await matching.match(self, http, outgoing, staged, attempt, own, status)
            if match == "ours":
                return Found(receipt=receipt(status, outgoing))
            unclear |= match == "unclear"
        if unclear:
            return Undecidable(why=UNCLEAR)
        return None

    async def _seen_by_all(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged, attempt: Attempt
    ) -> Verdict:
        """Access that may not read sees what strangers see: enough to find a public post, never to miss one for sure."""
        try:
            await self.verify(http, outgoing.login)  # else whoever forbids it is not the server
        except Unauthorized:
            raise
        except PublishError as error:
            return lookups.cannot_ask(attempt, error)
        found = None
        if outgoing.content.visibility in FOR_ALL:
            try:
                own = await own_statuses.since(
                    self, http, outgoing.login, staged.anchor, long_before=_long_before(attempt), as_stranger=True
                )
                found = await self._ours(http, outgoing, staged, attempt, own)
            except PublishError:
                found = None  # closed to strangers
        if found:
            return found
        if attempt.looks == 0:
            return LookAgain(in_s=lookups.SETTLE_S, why="It cannot be seen on the account so far. Looking once more.")
        return Undecidable(why="The account's access does not let PostFlow read what is on it, so it cannot tell.")

    async def absent(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged, attempt: Attempt) -> Verdict:
        if again := lookups.once_more(attempt):
            return again
        if attempt.error_code == SAID_GONE:
            return Undecidable(why=_SAID_GONE)
        known = outgoing.server.capabilities
        if not known.lists_all:
            return lookups.before_asking(attempt) or Undecidable(why=_MAY_BE_HIDDEN)
        if not software.guards_repeat(known, uploads=bool(staged.uploads)):
            return lookups.before_asking(attempt) or Undecidable(why=_UNGUARDED)
        used_up = attempt.error_code == REPLAYED
        return SafeToResend(why="It is not on the account: it did not go out.", new_key=used_up)


def _long_before(attempt: Attempt) -> datetime:
    """What is dated earlier was there before, whatever the clocks."""
    return attempt.first_sent_at - timedelta(days=1)
