"""Refusals that mean more than they say: what each is about is found out by asking, since their words come in any language.

A gateway says 401, 403, 404 and 422 as well, in HTML and in JSON. What it says is believed only once the server itself has
shown, by answering to this account, that it is the one that speaks.
"""

import httpx

from postflow.errors import PublishError, Refused, StageLost
from postflow.models import Outgoing, Receipt
from postflow.platforms import answers
from postflow.platforms.mastodon import own_statuses
from postflow.platforms.mastodon.own_statuses import Staged
from postflow.platforms.mastodon.queries import Asking
from postflow.platforms.mastodon.receipts import receipt

#: Idempotency keys that a refusal or a fault has used up.
BURNS_KEYS = frozenset({"tripwire", "cached"})
#: GoToSocial's word for an upload that a status has already; its errors are in English for everybody.
ATTACHED = "media already attached to status"
#: A key that is known answers with the first status; with these words, in English for everybody, when that is gone.
REPLAYS = frozenset({"replay", "bug500"})
REPLAYED_FOR_S = 3600
GONE = "Record not found"
#: Said so in answer to a repeat: it may be out and deleted, or whoever stands in front of the server speaks.
SAID_GONE = "said_gone"


class Explaining(Asking):
    async def explained(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged, answer: httpx.Response
    ) -> Receipt | None:
        """A client error in answer to the commit: the post all the same, or None where it is what it says. Raises what it
        turned out to be.
        """
        if answer.status_code in (400, 422) and staged.uploads:
            return await self._uploads_used(http, outgoing, staged, answer)
        if answer.status_code == 403:
            await self.still_welcome(http, outgoing.login)
        if answers.says_missing(answer):
            await self._missing(http, outgoing, answer)
        return None

    # -- what it may be about ----------------------------------------------------------------------------

    async def _uploads_used(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged, answer: httpx.Response
    ) -> Receipt | None:
        """Uploads are refused when they are gone, and when an earlier request of ours has already used them."""
        try:
            named = any(upload.remote_id in answers.said(answer) for upload in staged.uploads)
            if not (named or await self._is_gone(http, outgoing, staged)):
                return None
            own = await own_statuses.since(self, http, outgoing.login, staged.anchor)
        except PublishError as error:
            raise answers.lost(f"uploads refused, and no look possible: {error.detail or error.code}") from None
        for status in own.statuses:
            if own_statuses.has_our_uploads(status, staged):
                return receipt(status, outgoing)
        if not own.complete:
            raise answers.lost("uploads refused, and the account's list is not whole")
        if outgoing.sent_before and outgoing.server.capabilities.idempotency == "tripwire":
            raise answers.lost("uploads used, but in no post: an earlier attempt may be stuck as a draft")
        if ATTACHED in answers.said(answer):
            raise answers.lost("uploads used, but the account does not show the post")
        raise StageLost(
            "The server no longer knows the uploaded pictures.",
            new_key=outgoing.server.capabilities.idempotency in BURNS_KEYS,
            detail=answers.said(answer),
        )

    async def _is_gone(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged) -> bool:
        if not outgoing.server.capabilities.media_tells:
            return False
        return not all([await self.is_unused(http, outgoing.login, upload.remote_id) for upload in staged.uploads])

    async def _missing(self, http: httpx.AsyncClient, outgoing: Outgoing, answer: httpx.Response) -> None:
        """404: what it answers to is gone; to a repeat, nobody knows what became of the earlier request."""
        try:
            parent_gone = await self._answers_to_nothing(http, outgoing)
            said_gone = not parent_gone and await self._tells_of_a_known_key(http, outgoing, answer)
        except PublishError:  # whoever said it: nothing can be found out now
            parent_gone = said_gone = False
        if parent_gone:
            raise Refused(
                "The part it answers is no longer there.",
                code="parent_gone",
                next_step="Publish it as a post of its own.",
            )
        if outgoing.sent_before:
            lost = answers.lost(f"HTTP 404 {answers.said(answer)} in answer to a repeat")
            lost.code = SAID_GONE if said_gone else lost.code
            raise lost

    async def _answers_to_nothing(self, http: httpx.AsyncClient, outgoing: Outgoing) -> bool:
        parent = outgoing.reply_to_remote_id
        return parent is not None and await self.is_gone(http, outgoing.login, parent)

    async def _tells_of_a_known_key(self, http: httpx.AsyncClient, outgoing: Outgoing, answer: httpx.Response) -> bool:
        """The server's very words about a key whose status is gone, as long as it remembers keys. Raises PublishError when
        nobody says who we are at the same time: then it was not the server.
        """
        recent = outgoing.sent_ago_s is not None and outgoing.sent_ago_s < REPLAYED_FOR_S
        if not recent or answers.said(answer) != GONE or outgoing.server.capabilities.idempotency not in REPLAYS:
            return False
        await self.verify(http, outgoing.login)
        return True
