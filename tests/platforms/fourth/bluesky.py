"""Bluesky (AT Protocol): docs.bsky.app/docs/advanced-guides/posts, atproto.com/specs/record-key.

A record's key is chosen by us, ahead of time, and putting a record twice under one key is putting it once: a lost answer
is looked up by that very key, and even a needless repeat could not double it.
"""

import re
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import httpx
from pydantic import BaseModel, SecretStr

from postflow.errors import ConnectError, Invalid, PublishError, Refused, Retry, Unauthorized
from postflow.media import renditions
from postflow.models import (
    Account,
    Attempt,
    Capabilities,
    Content,
    Credentials,
    Found,
    Limits,
    Login,
    Media,
    MediaKind,
    Outgoing,
    OutgoingMedia,
    Problem,
    Profile,
    Receipt,
    SafeToResend,
    Server,
    Verdict,
    Visibility,
    utc_now,
)
from postflow.platforms import answers, composing, counting, lookups
from postflow.platforms.base import Checkpoint, Connected, ConnectOption, OptionField, Platform, SignInField

POST = "app.bsky.feed.post"
#: A session lives two hours; it is asked for anew before that.
SESSION_LIFE = timedelta(minutes=90)
LIMITS = Limits(
    counting="graphemes", max_chars=300, max_media=4, mixed_media=False, max_videos=0, max_description_chars=2000,
    mime_types=("image/jpeg", "image/png"), max_image_bytes=1_000_000, visibilities=(Visibility.public,), spoiler=False,
    focus=False,
)  # fmt: skip
_DIGITS = "234567abcdefghijklmnopqrstuvwxyz"
_LINK = re.compile(r"https?://[^\s<>()]*[^\s<>().,;:!?]")


class Blob(BaseModel):
    media_id: int
    remote_id: str
    blob: dict[str, Any]
    uploaded_at: datetime


class Staged(BaseModel):
    """The record's key, chosen once, and what it will point to."""

    rkey: str
    created_at: datetime
    uploads: list[Blob] = []
    reply: dict[str, Any] | None = None


class Bluesky(Platform):
    name: ClassVar[str] = "bluesky"
    label: ClassVar[str] = "Bluesky"
    staged_model: ClassVar[type[BaseModel]] = Staged
    staged_life_s: ClassVar[float] = 3600  # blobs nobody uses are let go of after a while

    def __init__(self) -> None:
        self._sessions: dict[
            tuple[str, str], tuple[SecretStr, datetime]
        ] = {}  # only here: a session is not worth keeping

    # -- connecting --------------------------------------------------------------------------------------

    def connect_options(self) -> Sequence[ConnectOption]:
        fields = (
            SignInField(name="instance", label="Address of your server", value="bsky.social"),
            SignInField(name="handle", label="Handle", hint="such as ada.bsky.social"),
            SignInField(name="password", label="App password", hint="Made in Settings, App passwords", secret=True),
        )
        return [ConnectOption(key="app-password", label=self.label, asks_for="fields", fields=fields)]

    def option_fields(self) -> Sequence[OptionField]:
        return [OptionField(name="tags", label="Further tags", kind="lines", hint="One a line, without #, 8 at most")]

    def parse_options(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        tags = [line.strip().lstrip("#") for line in str(raw.get("tags", "")).splitlines() if line.strip()]
        if len(tags) > 8 or any(counting.graphemes(tag) > 64 for tag in tags):
            raise Invalid({"tags": "Bluesky takes 8 further tags of 64 characters each."})
        return {"tags": tags} if tags else {}

    async def server(self, http: httpx.AsyncClient, base_url: str) -> Server:
        try:
            said = await self._ask(http, "GET", base_url, "com.atproto.server.describeServer")
        except PublishError:
            raise ConnectError(f"{base_url} is not a Bluesky server that can be reached.") from None
        return Server(
            platform=self.name, base_url=base_url, software="atproto", version="", title=str(said.get("did", "")),
            limits=LIMITS, capabilities=Capabilities(idempotency="replay", lists_all=True), fetched_at=utc_now(),
        )  # fmt: skip

    async def sign_in(self, http: httpx.AsyncClient, server: Server, typed: Mapping[str, str]) -> Sequence[Connected]:
        handle, password = typed["handle"].lstrip("@"), SecretStr(typed["password"])
        try:
            said = await self._session(http, server.base_url, handle, password)
        except PublishError as error:
            raise ConnectError(f"Bluesky did not let you in: {error.sentence}") from None
        return [Connected(profile=_profile(said), credentials=Credentials(access_token=password))]

    async def verify(self, http: httpx.AsyncClient, login: Login) -> Profile:
        account = login.account
        return _profile(await self._session(http, account.base_url, account.remote_id, login.credentials.access_token))

    async def _session(
        self, http: httpx.AsyncClient, base_url: str, who: str, password: SecretStr
    ) -> Mapping[str, Any]:
        asked = {"identifier": who, "password": password.get_secret_value()}
        said = await self._ask(http, "POST", base_url, "com.atproto.server.createSession", json=asked)
        if not (said.get("did") and said.get("accessJwt")):
            raise Retry("The server's answer could not be read.", code="garbage")
        session = SecretStr(str(said["accessJwt"])), utc_now() + SESSION_LIFE
        self._sessions[base_url, str(said["did"])] = session
        return said

    async def _bearer(self, http: httpx.AsyncClient, login: Login) -> dict[str, str]:
        account = login.account
        known = self._sessions.get((account.base_url, account.remote_id))
        if known is None or known[1] < utc_now():
            await self._session(http, account.base_url, account.remote_id, login.credentials.access_token)
            known = self._sessions[account.base_url, account.remote_id]
        return {"Authorization": f"Bearer {known[0].get_secret_value()}"}

    # -- composing ---------------------------------------------------------------------------------------

    def count(self, content: Content, limits: Limits) -> int:
        return counting.graphemes(content.text)

    def check(
        self, content: Content, media: Sequence[Media], server: Server, account: Account, *, is_reply: bool
    ) -> Sequence[Problem]:
        length = self.count(content, server.limits)
        return composing.problems(content, media, server.limits, length, is_reply=is_reply)

    def recipe(
        self, content: Content, media: Media, server: Server, first: Media | None = None
    ) -> renditions.Recipe | None:
        if media.kind is not MediaKind.image:
            return None
        limits = server.limits
        return renditions.Recipe(
            max_pixels=limits.max_image_pixels, max_bytes=limits.max_image_bytes, mime_types=limits.mime_types
        )

    # -- publishing --------------------------------------------------------------------------------------

    async def prepare(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel | None, checkpoint: Checkpoint
    ) -> BaseModel:
        stage = staged if isinstance(staged, Staged) else Staged(rkey=record_key(), created_at=utc_now())
        oldest = utc_now() - timedelta(seconds=self.staged_life_s)
        stage.uploads = [upload for upload in stage.uploads if upload.uploaded_at > oldest]
        await checkpoint(stage)
        if outgoing.reply_to_remote_id and stage.reply is None:
            stage.reply = await self._reply(http, outgoing, outgoing.reply_to_remote_id)
        done = {upload.media_id for upload in stage.uploads}
        for media in outgoing.media:
            if media.media_id not in done:
                stage.uploads.append(await self._upload(http, outgoing.login, media))
                await checkpoint(stage)
        await self._bearer(http, outgoing.login)
        return stage

    async def _upload(self, http: httpx.AsyncClient, login: Login, media: OutgoingMedia) -> Blob:
        headers = {**await self._bearer(http, login), "Content-Type": media.mime}
        said = await self._ask(
            http, "POST", login.account.base_url, "com.atproto.repo.uploadBlob", content=media.data, headers=headers
        )
        blob = said.get("blob")
        if not isinstance(blob, dict) or not blob.get("ref"):
            raise Retry("The server took a picture but did not say where it put it.", code="no_id")
        return Blob(media_id=media.media_id, remote_id=blob["ref"]["$link"], blob=blob, uploaded_at=utc_now())

    async def _reply(self, http: httpx.AsyncClient, outgoing: Outgoing, rkey: str) -> dict[str, Any]:
        parent = await self._record(http, outgoing.login, rkey)
        if parent is None:
            raise Refused("The part it answers is no longer there.", code="parent_gone")
        here = {"uri": parent["uri"], "cid": parent["cid"]}
        return {"root": parent.get("value", {}).get("reply", {}).get("root", here), "parent": here}

    async def commit(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel) -> Receipt:
        assert isinstance(staged, Staged)
        headers = await self._bearer(http, outgoing.login)  # known since preparing, so that one request is left
        asked = {
            "repo": outgoing.login.account.remote_id, "collection": POST, "rkey": staged.rkey,
            "record": _post(outgoing, staged),
        }  # fmt: skip
        base_url = outgoing.login.account.base_url
        said = await self._ask(
            http, "POST", base_url, "com.atproto.repo.putRecord", commit=True, json=asked, headers=headers
        )
        if not said.get("uri"):
            raise answers.lost("an answer without an address")
        return _receipt(outgoing, staged)

    async def reconcile(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel, attempt: Attempt
    ) -> Verdict:
        assert isinstance(staged, Staged)
        try:
            found = await self._record(http, outgoing.login, staged.rkey)
        except Unauthorized:
            raise
        except PublishError as error:
            return lookups.cannot_ask(attempt, error)
        if found is None:
            absent = SafeToResend(why="There is no record under its key: it did not go out.")
            return lookups.once_more(attempt) or absent
        if staged.rkey in attempt.taken_remote_ids:
            return SafeToResend(why="Its key belongs to another post.", restage=True)
        return Found(receipt=_receipt(outgoing, staged))

    async def _record(self, http: httpx.AsyncClient, login: Login, rkey: str) -> Mapping[str, Any] | None:
        """None only when the server says that there is none; any other refusal raises."""
        params = {"repo": login.account.remote_id, "collection": POST, "rkey": rkey}
        url, headers = f"{login.account.base_url}/xrpc/com.atproto.repo.getRecord", await self._bearer(http, login)
        answer = await answers.ask(http, "GET", url, params=params, headers=headers)
        body = answers.parsed(answer)
        if isinstance(body, Mapping) and body.get("error") == "RecordNotFound":
            return None
        return self._understood(answer, commit=False)

    # -- speaking ----------------------------------------------------------------------------------------

    async def _ask(
        self, http: httpx.AsyncClient, method: str, base_url: str, name: str, *, commit: bool = False, **request: Any
    ) -> Mapping[str, Any]:
        answer = await answers.ask(http, method, f"{base_url}/xrpc/{name}", commit=commit, **request)
        return self._understood(answer, commit=commit)

    def _understood(self, answer: httpx.Response, *, commit: bool) -> Mapping[str, Any]:
        body = answers.parsed(answer)
        if isinstance(body, Mapping) and body.get("error") in ("ExpiredToken", "InvalidToken"):
            self._sessions = {}
            raise Retry("The session has ended.", code="session_ended", retry_in_s=1)
        if not answer.is_success:
            raise answers.refusal(answer, commit=commit)
        if not isinstance(body, Mapping):
            raise answers.lost("no record") if commit else Retry("The answer could not be read.", code="garbage")
        return body


def record_key() -> str:
    """A TID: microseconds and a random clock id in sortable base 32."""
    number = (time.time_ns() // 1000 << 10) | time.perf_counter_ns() & 0x3FF
    return "".join(_DIGITS[number >> shift & 31] for shift in range(60, -1, -5))


def _post(outgoing: Outgoing, staged: Staged) -> dict[str, Any]:
    content, blobs = outgoing.content, {upload.media_id: upload.blob for upload in staged.uploads}
    record: dict[str, Any] = {
        "$type": POST, "text": content.text, "facets": _facets(content.text),
        "createdAt": staged.created_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "langs": [content.language] if content.language else [],
        "tags": content.options.get("bluesky", {}).get("tags", []),
    }  # fmt: skip
    if outgoing.media:
        images = [
            {
                "image": blobs[one.media_id],
                "alt": one.alt_text,
                "aspectRatio": {"width": one.width, "height": one.height},
            }
            for one in outgoing.media
        ]
        record["embed"] = {"$type": "app.bsky.embed.images", "images": images}
    if content.sensitive or content.spoiler_text:
        labels = [{"val": "graphic-media"}]
        record["labels"] = {"$type": "com.atproto.label.defs#selfLabels", "values": labels}
    if staged.reply:
        record["reply"] = staged.reply
    return record


def _facets(text: str) -> list[dict[str, Any]]:
    """Links are marked by their place in bytes; an unmarked one is plain text."""
    return [
        {
            "index": {"byteStart": len(text[: m.start()].encode()), "byteEnd": len(text[: m.end()].encode())},
            "features": [{"$type": "app.bsky.richtext.facet#link", "uri": m[0]}],
        }
        for m in _LINK.finditer(text)
    ]


def _receipt(outgoing: Outgoing, staged: Staged) -> Receipt:
    link = f"https://bsky.app/profile/{outgoing.login.account.remote_id}/post/{staged.rkey}"
    return Receipt(remote_id=staged.rkey, permalink=link)


def _profile(said: Mapping[str, Any]) -> Profile:
    handle = str(said.get("handle", ""))
    link = f"https://bsky.app/profile/{said['did']}"
    return Profile(remote_id=str(said["did"]), handle=f"@{handle}", display_name=handle, profile_url=link)
