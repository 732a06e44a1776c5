"""Mastodon and the servers that speak its API. Facts: docs.joinmastodon.org/methods and docs/networks.md.

prepare   uploads each picture (POST /api/v2/media), waits for what the server still processes, notes the newest own
          status as the anchor
commit    POST /api/v1/statuses with the Idempotency-Key: the one visible call
reconcile lists the account's own statuses since the anchor; the uploads' ids tell whether one of them is ours
"""

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

import httpx
from pydantic import BaseModel, SecretStr

from postflow import counting, pictures
from postflow.errors import (
    ConnectError,
    NotReady,
    OutcomeUnknown,
    PublishError,
    Refused,
    Retry,
    StageLost,
    Unauthorized,
)
from postflow.models import (
    Account,
    AppRegistration,
    Attempt,
    Content,
    Credentials,
    Found,
    Limits,
    Login,
    LookAgain,
    Media,
    MediaKind,
    Outgoing,
    OutgoingMedia,
    Problem,
    Profile,
    Receipt,
    SafeToResend,
    Server,
    Undecidable,
    Verdict,
    utc_now,
)
from postflow.platforms import answers, composing, software, traces
from postflow.platforms.base import Authorization, Checkpoint, Connected, ConnectOption, OptionField
from postflow.platforms.traces import Staged, Upload

#: Between two looks that must both see nothing before a status is held to be absent.
SETTLE_S = 30.0
#: Idempotency keys that a refusal or a fault has used up.
BURNS_KEYS = frozenset({"tripwire", "cached"})
LONGEST_LOOKING = timedelta(hours=24)
#: Software whose listing of an account is known to be complete; elsewhere an absence proves nothing.
LISTS_ALL = frozenset({"mastodon", "hometown", "gotosocial", "akkoma", "pleroma", "pixelfed"})


class Mastodon:
    name: ClassVar[str] = "mastodon"
    label: ClassVar[str] = "Mastodon"
    software: ClassVar[frozenset[str]] = frozenset(
        {"mastodon", "hometown", "gotosocial", "akkoma", "pleroma", "takahe", "hollo", "snac"}
    )
    credentials_model: ClassVar[type[Credentials]] = Credentials
    staged_model: ClassVar[type[BaseModel]] = Staged
    prepare_lead_s: ClassVar[float] = 600
    staged_life_s: ClassVar[float] = 20 * 3600
    fetches_media: ClassVar[bool] = False
    client_name: ClassVar[str] = "PostFlow"

    # -- connecting --------------------------------------------------------------------------------------

    def connect_options(self) -> Sequence[ConnectOption]:
        return [ConnectOption(key="instance", label=self.label, asks_for="instance", hint="such as mastodon.social")]

    def option_fields(self) -> Sequence[OptionField]:
        return []

    def parse_options(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        return {}

    async def server(self, http: httpx.AsyncClient, base_url: str) -> Server:
        kind, version = await software.detect(http, base_url)
        instance = await self._instance(http, base_url)
        version = version or str(instance.get("version", ""))
        return Server(
            platform=self.name,
            base_url=base_url,
            software=kind or "unknown",
            version=version,
            title=str(instance.get("title", "")),
            limits=software.limits(kind, instance),
            capabilities=software.capabilities(kind, version),
            fetched_at=utc_now(),
        )

    async def _instance(self, http: httpx.AsyncClient, base_url: str) -> Mapping[str, Any]:
        for path in ("/api/v2/instance", "/api/v1/instance"):
            try:
                answer = await answers.ask(http, "GET", base_url + path)
            except PublishError:
                raise ConnectError(f"{base_url} cannot be reached. Check the address, or try again later.") from None
            body = answers.parsed(answer)
            if answer.is_success and isinstance(body, Mapping):
                return body
        raise ConnectError(
            f"{base_url} is not a server that PostFlow can publish to: it does not speak Mastodon's API."
        )

    def scopes(self, server: Server) -> tuple[str, ...]:
        who = "profile" if server.capabilities.pkce else "read:accounts"  # both came with 4.3
        return (who, "read:statuses", "write:media", "write:statuses")

    async def register(
        self, http: httpx.AsyncClient, server: Server, redirect_uri: str, option: str
    ) -> AppRegistration:
        scopes = self.scopes(server)
        asked = {"client_name": self.client_name, "redirect_uris": redirect_uri, "scopes": " ".join(scopes)}
        try:
            answer = await answers.ask(http, "POST", f"{server.base_url}/api/v1/apps", json=asked)
        except PublishError as error:
            raise ConnectError(f"{server.base_url} did not answer: {error.sentence}") from None
        body = answers.parsed(answer)
        if not answer.is_success or not isinstance(body, Mapping) or "client_id" not in body:
            raise ConnectError(
                f"{server.base_url} does not let PostFlow register: {answers.said(answer) or 'no reason'}."
            )
        return AppRegistration(
            client_id=str(body["client_id"]),
            client_secret=SecretStr(str(body["client_secret"])),
            redirect_uri=redirect_uri,
            scopes=scopes,
        )

    async def authorize(self, server: Server, app: AppRegistration, *, state: str, option: str) -> Authorization:
        query = {
            "response_type": "code",
            "client_id": app.client_id,
            "redirect_uri": app.redirect_uri,
            "scope": " ".join(app.scopes),
            "state": state,
        }
        memo: dict[str, Any] = {}
        if server.capabilities.pkce:
            memo["code_verifier"] = secrets.token_urlsafe(48)
            digest = hashlib.sha256(memo["code_verifier"].encode()).digest()
            query["code_challenge"] = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
            query["code_challenge_method"] = "S256"
        return Authorization(url=f"{server.base_url}/oauth/authorize?{urlencode(query)}", memo=memo)

    async def exchange(
        self, http: httpx.AsyncClient, server: Server, app: AppRegistration, code: str, memo: Mapping[str, Any]
    ) -> Sequence[Connected]:
        asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": app.redirect_uri}
        if "code_verifier" in memo:
            asked["code_verifier"] = str(memo["code_verifier"])
        try:
            credentials = await self._token(http, server.base_url, app, asked)
            profile = await self._profile(http, server.base_url, credentials)
        except PublishError as error:
            raise ConnectError(f"{server.base_url} did not let you in: {error.sentence} Connect again.") from None
        return [Connected(profile=profile, credentials=credentials)]

    async def _token(
        self, http: httpx.AsyncClient, base_url: str, app: AppRegistration, asked: Mapping[str, str]
    ) -> Credentials:
        secret = {"client_id": app.client_id, "client_secret": app.client_secret.get_secret_value()}
        try:
            answer = await answers.ask(http, "POST", f"{base_url}/oauth/token", commit=True, data={**asked, **secret})
        except OutcomeUnknown as error:
            raise _about_access(error) from None
        body = answers.parsed(answer)
        if not answer.is_success:
            raise _about_access(answers.refusal(answer, commit=True))
        if not isinstance(body, Mapping) or not body.get("access_token"):
            raise _about_access(answers.lost("no token in the answer"))
        now, life_s = utc_now(), body.get("expires_in")
        refresh = body.get("refresh_token")
        return Credentials(
            access_token=SecretStr(str(body["access_token"])),
            refresh_token=SecretStr(str(refresh)) if refresh else None,
            scopes=tuple(str(body.get("scope") or " ".join(app.scopes)).split()),
            issued_at=now,
            expires_at=now + timedelta(seconds=int(life_s)) if life_s else None,
        )

    # -- keeping alive -----------------------------------------------------------------------------------

    async def verify(self, http: httpx.AsyncClient, login: Login) -> Profile:
        return await self._profile(http, login.account.base_url, login.credentials)

    async def _profile(self, http: httpx.AsyncClient, base_url: str, credentials: Credentials) -> Profile:
        answer = await answers.ask(
            http, "GET", f"{base_url}/api/v1/accounts/verify_credentials", headers=self.bearer(credentials)
        )
        body = self.understood(answer, commit=False)
        if not body.get("id"):
            raise Unauthorized("The server does not say whose account this is.", next_step="Connect the account again.")
        host = base_url.split("://", 1)[-1]
        return Profile(
            remote_id=str(body["id"]),
            handle=f"@{body.get('username') or body.get('acct')}@{host}",
            display_name=str(body.get("display_name") or body.get("username") or ""),
            avatar_url=body.get("avatar"),
            profile_url=body.get("url"),
        )

    def refresh_due(self, login: Login, *, now: Any) -> bool:
        return False  # these tokens do not expire

    async def refresh(self, http: httpx.AsyncClient, login: Login) -> Credentials:
        return login.credentials

    async def revoke(self, http: httpx.AsyncClient, login: Login) -> None:
        if login.app is None:
            return
        asked = {
            "client_id": login.app.client_id,
            "client_secret": login.app.client_secret.get_secret_value(),
            "token": login.credentials.access_token.get_secret_value(),
        }
        await answers.ask(http, "POST", f"{login.account.base_url}/oauth/revoke", data=asked)

    # -- composing ---------------------------------------------------------------------------------------

    def count(self, content: Content, limits: Limits) -> int:
        if limits.counting == "gotosocial":
            return counting.gotosocial(content.text, content.spoiler_text)
        if limits.counting in ("plain", "pixelfed"):
            return counting.pixelfed(content.text) if limits.counting == "pixelfed" else counting.plain(content.text)
        return counting.mastodon(content.text, content.spoiler_text, per_url=limits.chars_per_url)

    def check(
        self, content: Content, media: Sequence[Media], server: Server, account: Account, *, is_reply: bool
    ) -> Sequence[Problem]:
        return composing.problems(content, media, server.limits, self.count(content, server.limits))

    def recipe(
        self, content: Content, media: Media, server: Server, first: Media | None = None
    ) -> pictures.Recipe | None:
        if media.kind is not MediaKind.image:
            return None
        limits = server.limits
        kinds = tuple(kind for kind in ("image/jpeg", "image/png") if kind in limits.mime_types) or ("image/jpeg",)
        return pictures.Recipe(max_pixels=limits.max_image_pixels, max_bytes=limits.max_image_bytes, mime_types=kinds)

    # -- publishing --------------------------------------------------------------------------------------

    async def prepare(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel | None, checkpoint: Checkpoint
    ) -> BaseModel:
        stage = staged if isinstance(staged, Staged) else Staged()
        oldest = utc_now() - timedelta(seconds=self.staged_life_s)
        stage.uploads = [upload for upload in stage.uploads if upload.uploaded_at > oldest]
        if not stage.anchored:
            stage.anchor, stage.anchored = await self._newest(http, outgoing.login), True
            await checkpoint(stage)
        done = {upload.media_id for upload in stage.uploads}
        for media in outgoing.media:
            if media.media_id not in done:
                stage.uploads.append(await self._upload(http, outgoing.login, media))
                await checkpoint(stage)
        for upload in stage.uploads:
            if not upload.ready:
                await self._poll(http, outgoing.login, upload)
                await checkpoint(stage)
        return stage

    async def _newest(self, http: httpx.AsyncClient, login: Login) -> str | None:
        answer = await traces.page(self, http, login, limit=1)
        if answer.status_code == 403:
            return None  # no read:statuses: reconciling will have to ask the person
        found = self.listed(answer)
        return str(found[0]["id"]) if found and found[0].get("id") else None

    async def _upload(self, http: httpx.AsyncClient, login: Login, media: OutgoingMedia) -> Upload:
        form = {"description": media.alt_text} if media.alt_text else {}
        if media.focus:
            form["focus"] = f"{media.focus.x:.2f},{media.focus.y:.2f}"
        name = f"{media.media_id}.{media.mime.rsplit('/', 1)[-1]}"
        for generation in ("v2", "v1"):
            answer = await answers.ask(
                http,
                "POST",
                f"{login.account.base_url}/api/{generation}/media",
                data=form,
                files={"file": (name, media.data, media.mime)},
                headers=self.bearer(login.credentials),
                timeout=300,
            )
            if answer.status_code not in (404, 405):  # older and smaller servers know v1 only
                break
        body = self.understood(answer, commit=False)
        if not body.get("id"):
            raise Retry("The server took a picture but did not say where it put it.", code="no_id")
        ready = answer.status_code != 202 or self.name == "pixelfed"
        return Upload(media_id=media.media_id, remote_id=str(body["id"]), uploaded_at=utc_now(), ready=ready)

    async def _poll(self, http: httpx.AsyncClient, login: Login, upload: Upload) -> None:
        url = f"{login.account.base_url}/api/v1/media/{upload.remote_id}"
        answer = await answers.ask(http, "GET", url, headers=self.bearer(login.credentials))
        if answer.status_code == 206:
            raise NotReady("The server is still processing a video.", retry_in_s=5)
        if answer.status_code == 404:
            raise StageLost("The server has lost an upload.", detail="media 404")
        if answer.status_code == 422:
            raise Refused("The server cannot process a video or picture.", code="media_unprocessable")
        self.understood(answer, commit=False)
        upload.ready = True

    async def commit(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel) -> Receipt:
        assert isinstance(staged, Staged)
        login = outgoing.login
        headers = {**self.bearer(login.credentials), "Idempotency-Key": outgoing.idempotency_key}
        url = f"{login.account.base_url}/api/v1/statuses"
        answer = await answers.ask(http, "POST", url, commit=True, json=self.status(outgoing, staged), headers=headers)
        if answer.status_code in (400, 422) and staged.uploads:
            earlier = await self._in_use(http, outgoing, staged, answer)
            if earlier is not None:
                return receipt(earlier, outgoing)
        body = self.understood(answer, commit=True)
        if not body.get("id"):
            raise answers.lost("an answer without an id")
        return receipt(body, outgoing)

    async def _in_use(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged, answer: httpx.Response
    ) -> traces.Status | None:
        """Uploads are refused when they are gone, and when an earlier request of ours has already used them."""
        try:
            if not (_speaks_of_media(answer) or await self._is_gone(http, outgoing.login, staged)):
                return None
            own = await traces.since(self, http, outgoing.login, staged.anchor)
        except PublishError as error:
            raise answers.lost(f"uploads refused, and no look possible: {error.detail or error.code}") from None
        for status in own:
            if traces.has_our_uploads(status, staged):
                return status
        raise StageLost(
            "The server no longer knows the uploaded pictures.",
            new_key=outgoing.server.capabilities.idempotency in BURNS_KEYS,
            detail=answers.said(answer),
        )

    async def _is_gone(self, http: httpx.AsyncClient, login: Login, staged: Staged) -> bool:
        """The refusal's words may be in any language; whether an upload is still there is not."""
        for upload in staged.uploads:
            url = f"{login.account.base_url}/api/v1/media/{upload.remote_id}"
            answer = await answers.ask(http, "GET", url, headers=self.bearer(login.credentials))
            if answer.status_code == 404:
                return True
        return False

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

    # -- reconciling -------------------------------------------------------------------------------------

    async def reconcile(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel, attempt: Attempt
    ) -> Verdict:
        assert isinstance(staged, Staged)
        try:
            own = await traces.since(self, http, outgoing.login, staged.anchor)
            unclear = False
            for status in own:
                if str(status["id"]) in attempt.taken_remote_ids:
                    continue
                match = await traces.match(self, http, outgoing, staged, attempt, status)
                if match == "ours":
                    return Found(receipt=receipt(status, outgoing))
                unclear |= match == "unclear"
        except Unauthorized:
            raise
        except Refused:
            return Undecidable(why="The account's access does not let PostFlow read what is on it, so it cannot tell.")
        except PublishError as error:
            return self._cannot_ask(attempt, error)
        if unclear:
            return Undecidable(why="There is a new post on the account that may be this one; the server does not tell.")
        return await self.absent(http, outgoing, staged, attempt)

    def _cannot_ask(self, attempt: Attempt, error: PublishError) -> Verdict:
        if attempt.now - attempt.first_sent_at > LONGEST_LOOKING:
            return Undecidable(why="The server could not be asked for a day whether the post is out.")
        pause = getattr(error, "retry_in_s", None) or min(1800.0, 30.0 * 2 ** min(attempt.looks, 10))
        return LookAgain(in_s=pause, why=f"The server cannot be asked right now: {error.sentence}")

    async def absent(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged, attempt: Attempt) -> Verdict:
        """Seen absent twice, `SETTLE_S` apart: a slow server has had its time."""
        first = attempt.first_absent_at
        if first is None or attempt.now - first < timedelta(seconds=SETTLE_S - 1):
            return LookAgain(in_s=SETTLE_S, why="It is not on the account so far. Looking once more.", absent=True)
        if outgoing.server.software not in LISTS_ALL:
            return Undecidable(why="It does not show up on the account, but this server's lists may be incomplete.")
        burnt = outgoing.server.capabilities.idempotency in BURNS_KEYS
        return SafeToResend(why="It is not on the account: it did not go out.", new_key=burnt)

    # -- answers -----------------------------------------------------------------------------------------

    @staticmethod
    def bearer(credentials: Credentials) -> dict[str, str]:
        return {"Authorization": f"Bearer {credentials.access_token.get_secret_value()}"}

    def understood(self, answer: httpx.Response, *, commit: bool) -> Mapping[str, Any]:
        """The JSON object of a 2xx. Raises what anything else means."""
        if not answer.is_success:
            raise self.refusal(answer, commit=commit)
        body = answers.parsed(answer)
        if not isinstance(body, Mapping):
            if commit:
                raise answers.lost("an answer that is no status")
            raise Retry("The server's answer could not be read.", code="garbage", detail=f"HTTP {answer.status_code}")
        return body

    def listed(self, answer: httpx.Response) -> list[Mapping[str, Any]]:
        if not answer.is_success:
            raise self.refusal(answer, commit=False)
        body = answers.parsed(answer)
        if not isinstance(body, list):
            raise Retry("The server's answer could not be read.", code="garbage", detail=f"HTTP {answer.status_code}")
        return [one for one in body if isinstance(one, Mapping) and one.get("id")]

    def refusal(self, answer: httpx.Response, *, commit: bool) -> PublishError:
        return answers.refusal(answer, commit=commit)


def receipt(status: Mapping[str, Any], outgoing: Outgoing) -> Receipt:
    """And what is not as it was asked for."""
    notes = []
    shown, sent = len(status.get("media_attachments") or []), len(outgoing.media)
    if shown < sent:
        notes.append(f"The server left out {sent - shown} of {sent} pictures.")
    visibility = status.get("visibility")
    if visibility and visibility != outgoing.content.visibility.value:
        notes.append(f"The server made it “{visibility}” instead of “{outgoing.content.visibility.value}”.")
    return Receipt(remote_id=str(status["id"]), permalink=status.get("url") or status.get("uri"), notes=tuple(notes))


def _about_access(error: PublishError) -> PublishError:
    """A lost token is no lost post."""
    if not isinstance(error, OutcomeUnknown):
        return error
    return OutcomeUnknown(
        "The server's answer got lost while it gave out access.",
        code="access_lost",
        next_step="Connect the account again if it stops working.",
        detail=error.detail,
    )


def _speaks_of_media(answer: httpx.Response) -> bool:
    """In English; other languages are caught by asking for the uploads themselves."""
    words = answers.said(answer).lower()
    return "media" in words and ("not found" in words or "already" in words or "invalid media_ids" in words)
