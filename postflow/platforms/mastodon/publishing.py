"""Publishing: uploads ahead of time, then the one visible call, whose answer is held against what was asked for."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, ClassVar

import httpx
from pydantic import BaseModel

from postflow.errors import NotReady, OutcomeUnknown, PublishError, Refused, Retry, StageLost, Throttled
from postflow.models import Login, Outgoing, OutgoingMedia, Receipt
from postflow.platforms import answers
from postflow.platforms.base import Checkpoint
from postflow.platforms.mastodon import own_statuses
from postflow.platforms.mastodon.own_statuses import Staged, Upload
from postflow.platforms.mastodon.receipts import receipt
from postflow.platforms.mastodon.refusals import BURNS_KEYS, Explaining

#: The answer to an earlier request with this key, which was a fault: the key is used up, and nothing else hangs on it.
REPLAYED = "replayed"
UPLOAD_S = 300
#: An upload is not asked after again while it is so young.
FRESH = timedelta(minutes=1)
#: Between two looks at an upload that is being processed: while it is this young, and how long.
PAUSES_S = ((60, 5), (600, 15), (3600, 30))


class Publishing(Explaining):
    staged_life_s: ClassVar[float]

    # -- minutes early -----------------------------------------------------------------------------------

    async def prepare(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel | None, checkpoint: Checkpoint
    ) -> BaseModel:
        stage = staged if isinstance(staged, Staged) else Staged()
        oldest = outgoing.now() - timedelta(seconds=self.staged_life_s)
        stage.uploads = [upload for upload in stage.uploads if upload.uploaded_at > oldest]
        if outgoing.sent_before:  # it is absent, and its uploads may have gone meanwhile
            lost = await self._lost(http, outgoing, stage)
            stage.uploads = [upload for upload in stage.uploads if upload.remote_id not in lost]
        if not stage.anchored:
            stage.anchor, stage.anchored = await self._newest(http, outgoing.login), True
            await checkpoint(stage)
        done = {upload.media_id for upload in stage.uploads}
        for place, media in enumerate(outgoing.media, start=1):
            if media.media_id not in done:
                stage.uploads.append(await self._upload(http, outgoing, media, place))
                await checkpoint(stage)
        for upload in stage.uploads:
            if not upload.ready:
                await self._poll(http, outgoing, upload)
                await checkpoint(stage)
        return stage

    async def _newest(self, http: httpx.AsyncClient, login: Login) -> str | None:
        answer = await own_statuses.page(self, http, login, limit=1)
        if answer.status_code == 403:
            await self.still_welcome(http, login)
            return None  # no read:statuses: reconciling will have to ask the person
        found = self.listed(answer)
        return str(max(found, key=own_statuses.order)["id"]) if found else None

    async def _upload(self, http: httpx.AsyncClient, outgoing: Outgoing, media: OutgoingMedia, place: int) -> Upload:
        answer = await self._sent(http, outgoing.login, media)
        try:
            body = self.understood(answer, commit=False)
        except Refused as error:
            if answer.status_code == 403:
                await self.still_welcome(http, outgoing.login)
            what = f"Picture {place}" if len(outgoing.media) > 1 else "The picture"
            raise Refused(
                f"{what} was not taken. {error.sentence}",
                code=error.code,
                next_step="Replace it, then try again.",
                detail=error.detail,
            ) from None
        except Throttled as error:
            error.only_uploads = True  # Mastodon takes 30 in half an hour, and statuses all the same
            raise
        if not body.get("id"):
            raise Retry("The server took a picture but did not say where it put it.", code="no_id")
        ready = answer.status_code != 202 or not outgoing.server.capabilities.async_media
        return Upload(media_id=media.media_id, remote_id=str(body["id"]), uploaded_at=outgoing.now(), ready=ready)

    async def _sent(self, http: httpx.AsyncClient, login: Login, media: OutgoingMedia) -> httpx.Response:
        form = {"description": media.alt_text} if media.alt_text else {}
        if media.focus:
            form["focus"] = f"{media.focus.x:.2f},{media.focus.y:.2f}"
        file = (f"{media.media_id}.{media.mime.rsplit('/', 1)[-1]}", media.data, media.mime)
        for generation in ("v2", "v1"):
            url = f"{login.account.base_url}/api/{generation}/media"
            answer = await answers.ask(
                http,
                "POST",
                url,
                data=form,
                files={"file": file},
                headers=self.bearer(login.credentials),
                timeout=UPLOAD_S,
            )
            if answer.status_code not in (404, 405):  # older and smaller servers know v1 only
                break
        return answer

    async def _poll(self, http: httpx.AsyncClient, outgoing: Outgoing, upload: Upload) -> None:
        answer = await self.upload_asked_for(http, outgoing.login, upload.remote_id)
        if answer.status_code == 206:
            raise _still_processing(upload, outgoing.now())
        if answers.says_missing(answer) and outgoing.server.capabilities.media_tells:
            raise StageLost("The server has lost an upload.", detail="media 404")
        if answer.status_code == 422:
            raise Refused("The server cannot process a video or picture.", code="media_unprocessable")
        if answer.status_code != 404:  # elsewhere a 404 says nothing: the status will tell
            self.understood(answer, commit=False)
        upload.ready = True

    async def still_staged(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel) -> None:
        """Raises StageLost when uploads are gone: some servers leave them out without a word, or get stuck over them."""
        assert isinstance(staged, Staged)
        if await self._lost(http, outgoing, staged):
            raise StageLost("The server has lost an uploaded picture; uploading it again.", detail="media 404")

    async def _lost(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged) -> set[str]:
        """Those of the uploads that are gone, as far as the server tells."""
        if not outgoing.server.capabilities.media_tells:
            return set()
        since = outgoing.now() - FRESH
        older = [upload.remote_id for upload in staged.uploads if upload.uploaded_at < since]
        there = await asyncio.gather(*(self.is_unused(http, outgoing.login, one) for one in older))
        return {one for one, unused in zip(older, there, strict=True) if not unused}

    # -- the one visible call ----------------------------------------------------------------------------

    async def commit(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel) -> Receipt:
        assert isinstance(staged, Staged)
        headers = {**self.bearer(outgoing.login.credentials), "Idempotency-Key": outgoing.idempotency_key}
        url = f"{outgoing.login.account.base_url}/api/v1/statuses"
        answer = await answers.ask(http, "POST", url, commit=True, json=self.status(outgoing, staged), headers=headers)
        if answer.is_client_error and (settled := await self.explained(http, outgoing, staged, answer)):
            return settled
        try:
            body = self.understood(answer, commit=True)
        except Throttled as error:
            error.new_key |= outgoing.server.capabilities.idempotency in BURNS_KEYS
            raise
        except OutcomeUnknown as error:
            if "idempotent-replayed" in answer.headers:
                error.code = REPLAYED
            raise
        if not body.get("id"):
            raise answers.lost("an answer without an id")
        return receipt(body, outgoing)

    def status(self, outgoing: Outgoing, staged: Staged) -> dict[str, Any]:
        """Every parameter explicitly: what is left out takes the account's defaults."""
        content, by_media = outgoing.content, {upload.media_id: upload.remote_id for upload in staged.uploads}
        body: dict[str, Any] = {
            "status": content.text,
            "visibility": content.visibility.value,
            "sensitive": content.sensitive or bool(content.spoiler_text),
            "spoiler_text": content.spoiler_text,
            "media_ids": [by_media[media.media_id] for media in outgoing.media],
        }
        if not content.text and not outgoing.server.capabilities.empty_text:
            del body["status"]
        if content.language:
            body["language"] = content.language
        if outgoing.reply_to_remote_id:
            body["in_reply_to_id"] = outgoing.reply_to_remote_id
        if content.poll:
            body["poll"] = {
                "options": list(content.poll.options),
                "expires_in": content.poll.expires_in_s,
                "multiple": content.poll.multiple,
                "hide_totals": content.poll.hide_totals,
            }
        return body

    async def permalink(self, http: httpx.AsyncClient, login: Login, receipt: Receipt) -> str | None:
        if receipt.remote_id is None:
            return None
        url = f"{login.account.base_url}/api/v1/statuses/{receipt.remote_id}"
        answer = await answers.ask(http, "GET", url, headers=self.bearer(login.credentials))
        return self.understood(answer, commit=False).get("url")


def _still_processing(upload: Upload, now: datetime) -> PublishError:
    age_s = (now - upload.uploaded_at).total_seconds()
    for younger_than_s, pause_s in PAUSES_S:
        if age_s < younger_than_s:
            return NotReady("The server is still processing a video.", retry_in_s=pause_s)
    return Refused(
        "The server has not finished processing a video within an hour.",
        code="media_stuck",
        next_step="Try again, or replace the video by a shorter one.",
    )
