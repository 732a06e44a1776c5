"""Instagram Business and Creator accounts, through Instagram Login. Facts: developers.facebook.com/docs/instagram-platform.

prepare   one container per picture (and one around a carousel); Meta fetches the media from our public links; polled
          until FINISHED
commit    POST /{account}/media_publish: the one visible call
reconcile asks the container, then the account's media; never takes the newest post for ours
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

import httpx
from pydantic import BaseModel, ConfigDict, SecretStr

from postflow import config, counting, pictures
from postflow.errors import (
    ConnectError,
    Invalid,
    NotReady,
    OutcomeUnknown,
    PublishError,
    Refused,
    Retry,
    StageLost,
    Throttled,
    Unauthorized,
)
from postflow.models import (
    Account,
    AppRegistration,
    Attempt,
    Capabilities,
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
    Visibility,
    utc_now,
)
from postflow.platforms import answers, composing
from postflow.platforms.base import Authorization, Checkpoint, Connected, ConnectOption, OptionField

SCOPES = ("instagram_business_basic", "instagram_business_content_publish")
REFRESH_AHEAD = timedelta(days=30)
YOUNGEST = timedelta(hours=24)  # a younger token cannot be refreshed
CONTAINER_TRIES = 3
LONGEST_LOOKING = timedelta(hours=24)
SETTLED = timedelta(minutes=10)
LIMITS = Limits(
    counting="instagram",
    max_chars=2200,
    max_media=10,
    min_media=1,
    max_videos=10,
    mime_types=("image/jpeg", "video/mp4", "video/quicktime"),
    max_image_bytes=8_000_000,
    max_video_bytes=300_000_000,
    max_description_chars=1000,
    visibilities=(Visibility.public,),
    spoiler=False,
    language=False,
    threads=False,
    focus=False,
)


class Container(BaseModel):
    model_config = ConfigDict(extra="forbid")

    remote_id: str
    created_at: datetime
    finished: bool = False


class Staged(BaseModel):
    """Containers on Meta's side: children first, then the one that is published."""

    model_config = ConfigDict(extra="forbid")

    children: dict[int, Container] = {}
    parent: Container | None = None
    failures: int = 0


class Instagram:
    name: ClassVar[str] = "instagram"
    label: ClassVar[str] = "Instagram"
    software: ClassVar[frozenset[str]] = frozenset()
    credentials_model: ClassVar[type[Credentials]] = Credentials
    staged_model: ClassVar[type[BaseModel]] = Staged
    prepare_lead_s: ClassVar[float] = 900
    staged_life_s: ClassVar[float] = 20 * 3600
    fetches_media: ClassVar[bool] = True

    def __init__(self, settings: config.Settings | None = None) -> None:
        self._given = settings

    @property
    def settings(self) -> config.Settings:
        if self._given is None:
            self._given = config.load()
        return self._given

    def _url(self, host: str, path: str) -> str:
        base = self.settings.instagram_url or f"https://{host}"
        return f"{base}/{path}"

    def _graph(self, path: str) -> str:
        return self._url("graph.instagram.com", f"{self.settings.instagram_api_version}/{path}")

    # -- connecting --------------------------------------------------------------------------------------

    def connect_options(self) -> Sequence[ConnectOption]:
        ready = bool(self.settings.instagram_app_id and self.settings.instagram_app_secret)
        return [
            ConnectOption(
                key="instagram-login",
                label="Instagram",
                asks_for="nothing",
                hint="Business and Creator accounts",
                available=ready,
                unavailable_because="" if ready else "Set POSTFLOW_INSTAGRAM_APP_ID and POSTFLOW_INSTAGRAM_APP_SECRET.",
            )
        ]

    def option_fields(self) -> Sequence[OptionField]:
        return [
            OptionField(
                name="kind", label="Publish as", kind="choice", choices=(("post", "Post or reel"), ("story", "Story"))
            ),
            OptionField(
                name="fit",
                label="Pictures too tall or too wide",
                kind="choice",
                choices=(("crop", "Crop them"), ("pad", "Add white borders")),
            ),
            OptionField(
                name="collaborators", label="Collaborators", kind="lines", hint="one @name a line, three at most"
            ),
            OptionField(name="location_id", label="Location", kind="text", hint="the number of a Page with a location"),
        ]

    def parse_options(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        names = [line.strip().lstrip("@") for line in str(raw.get("collaborators") or "").splitlines() if line.strip()]
        location = str(raw.get("location_id") or "").strip()
        if len(names) > 3:
            raise Invalid({"collaborators": "Three collaborators at most."})
        if location and not location.isdigit():
            raise Invalid({"location_id": "A location is given by its number."})
        options = {"kind": raw.get("kind") or "post", "fit": raw.get("fit") or "crop"}
        return options | ({"collaborators": names} if names else {}) | ({"location_id": location} if location else {})

    async def server(self, http: httpx.AsyncClient, base_url: str) -> Server:
        return Server(
            platform=self.name,
            base_url=base_url,
            software="instagram",
            version=self.settings.instagram_api_version,
            title="Instagram",
            limits=LIMITS,
            capabilities=Capabilities(media_guard=False, source=False),
            fetched_at=utc_now(),
        )

    async def register(
        self, http: httpx.AsyncClient, server: Server, redirect_uri: str, option: str
    ) -> AppRegistration:
        settings = self.settings
        if not (settings.instagram_app_id and settings.instagram_app_secret):
            raise ConnectError("Instagram is not set up here: the operator sets POSTFLOW_INSTAGRAM_APP_ID and _SECRET.")
        return AppRegistration(
            client_id=settings.instagram_app_id,
            client_secret=settings.instagram_app_secret,
            redirect_uri=redirect_uri,
            scopes=SCOPES,
        )

    async def authorize(self, server: Server, app: AppRegistration, *, state: str, option: str) -> Authorization:
        query = {
            "client_id": app.client_id,
            "redirect_uri": app.redirect_uri,
            "response_type": "code",
            "scope": ",".join(app.scopes),
            "state": state,
        }
        return Authorization(url=f"{self._url('www.instagram.com', 'oauth/authorize')}?{urlencode(query)}")

    async def exchange(
        self, http: httpx.AsyncClient, server: Server, app: AppRegistration, code: str, memo: Mapping[str, Any]
    ) -> Sequence[Connected]:
        """Code -> a token of an hour -> one of sixty days -> whose it is."""
        secret = app.client_secret.get_secret_value()
        try:
            short = await self._call(
                http,
                "POST",
                self._url("api.instagram.com", "oauth/access_token"),
                data={
                    "client_id": app.client_id,
                    "client_secret": secret,
                    "grant_type": "authorization_code",
                    "redirect_uri": app.redirect_uri,
                    "code": code.removesuffix("#_"),
                },
            )
            flat = short["data"][0] if isinstance(short.get("data"), list) and short["data"] else short
            long = await self._call(
                http,
                "GET",
                self._url("graph.instagram.com", "access_token"),
                params={
                    "grant_type": "ig_exchange_token",
                    "client_secret": secret,
                    "access_token": str(flat.get("access_token", "")),
                },
            )
            credentials = _credentials(long)
            profile = await self._profile(http, credentials)
        except PublishError as error:
            raise ConnectError(f"Instagram did not let you in: {error.sentence} Connect again.") from None
        return [Connected(profile=profile, credentials=credentials)]

    # -- keeping alive -----------------------------------------------------------------------------------

    async def verify(self, http: httpx.AsyncClient, login: Login) -> Profile:
        return await self._profile(http, login.credentials)

    async def _profile(self, http: httpx.AsyncClient, credentials: Credentials) -> Profile:
        fields = "user_id,username,name,account_type,profile_picture_url"
        body = await self._call(http, "GET", self._graph("me"), params={"fields": fields}, token=credentials)
        if str(body.get("account_type", "BUSINESS")).upper() == "PERSONAL":
            raise Refused("Only Business and Creator accounts can be used: switch it to one in the Instagram app.")
        name = str(body.get("username", ""))
        return Profile(
            remote_id=str(body.get("user_id") or body.get("id")),
            handle=f"@{name}",
            display_name=str(body.get("name") or name),
            avatar_url=body.get("profile_picture_url"),
            profile_url=self._url("www.instagram.com", f"{name}/"),
        )

    def refresh_due(self, login: Login, *, now: Any) -> bool:
        held = login.credentials
        old_enough = held.issued_at is None or now - held.issued_at >= YOUNGEST
        return old_enough and held.expires_at is not None and held.expires_at - now < REFRESH_AHEAD

    async def refresh(self, http: httpx.AsyncClient, login: Login) -> Credentials:
        """Safe to repeat: the old token lives on."""
        url = self._url("graph.instagram.com", "refresh_access_token")
        query = {
            "grant_type": "ig_refresh_token",
            "access_token": login.credentials.access_token.get_secret_value(),
        }
        try:
            return _credentials(await self._call(http, "GET", url, params=query))
        except Refused as error:
            raise Unauthorized(error.sentence, next_step="Connect the account again.", detail=error.detail) from None

    async def revoke(self, http: httpx.AsyncClient, login: Login) -> None:
        """Instagram has no call for it: people remove PostFlow in their settings there."""

    # -- composing ---------------------------------------------------------------------------------------

    def count(self, content: Content, limits: Limits) -> int:
        return counting.instagram(content.text)

    def check(
        self, content: Content, media: Sequence[Media], server: Server, account: Account, *, is_reply: bool
    ) -> Sequence[Problem]:
        found = composing.problems(content, media, server.limits, self.count(content, server.limits))
        most = self.settings.instagram_max_hashtags
        if counting.hashtags(content.text) > most:
            found.append(Problem(sentence=f"Instagram takes {most} hashtags at most."))
        if counting.mentions(content.text) > 20:
            found.append(Problem(sentence="Instagram takes 20 mentions at most."))
        if is_reply:
            found.append(Problem(sentence="Instagram has no threads. Take this account off.", field="accounts"))
        if _kind(content) == "story" and len(media) > 1:
            found.append(Problem(sentence="A story shows one picture or video.", field="media"))
        return found

    def recipe(self, content: Content, media: Media, server: Server) -> pictures.Recipe | None:
        if media.kind is MediaKind.video:
            return None
        story = _kind(content) == "story"
        return pictures.Recipe(
            max_width=1440,
            max_bytes=server.limits.max_image_bytes,
            mime_types=("image/jpeg",),
            min_ratio=9 / 16 if story else 0.8,
            max_ratio=9 / 16 if story else 1.91,
            fit="pad" if story or _options(content).get("fit") == "pad" else "crop",
        )

    # -- publishing --------------------------------------------------------------------------------------

    async def prepare(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel | None, checkpoint: Checkpoint
    ) -> BaseModel:
        stage = staged if isinstance(staged, Staged) else Staged()
        await self._quota(http, outgoing.login)
        if len(outgoing.media) > 1:
            for place, media in enumerate(outgoing.media):
                if place not in stage.children:
                    stage.children[place] = await self._create(http, outgoing, _child(media))
                    await checkpoint(stage)
            for child in stage.children.values():
                await self._finish(http, outgoing, stage, child, checkpoint)
        if stage.parent is None:
            stage.parent = await self._create(http, outgoing, self._whole(outgoing, stage))
            await checkpoint(stage)
        await self._finish(http, outgoing, stage, stage.parent, checkpoint)
        return stage

    async def _quota(self, http: httpx.AsyncClient, login: Login) -> None:
        url = self._graph(f"{login.account.remote_id}/content_publishing_limit")
        body = await self._call(http, "GET", url, params={"fields": "quota_usage,config"}, token=login.credentials)
        rows = body.get("data")
        row = rows[0] if isinstance(rows, list) and rows else {}
        total = (row.get("config") or {}).get("quota_total")
        if total and row.get("quota_usage", 0) >= total:
            raise Throttled(
                f"Instagram takes {total} posts a day, and they are used up.", retry_in_s=1800, code="quota"
            )

    def _whole(self, outgoing: Outgoing, stage: Staged) -> dict[str, str]:
        content, options = outgoing.content, _options(outgoing.content)
        if stage.children:
            ids = [stage.children[place].remote_id for place in sorted(stage.children)]
            params = {"media_type": "CAROUSEL", "children": ",".join(ids)}
        elif _kind(content) == "story":
            return {**_source(outgoing.media[0]), "media_type": "STORIES"}
        else:
            params = _alone(outgoing.media[0])
        if options.get("collaborators"):
            params["collaborators"] = str(list(options["collaborators"])).replace("'", '"')
        if options.get("location_id"):
            params["location_id"] = str(options["location_id"])
        return {**params, "caption": content.text}

    async def _create(self, http: httpx.AsyncClient, outgoing: Outgoing, params: Mapping[str, str]) -> Container:
        url = self._graph(f"{outgoing.login.account.remote_id}/media")
        body = await self._call(http, "POST", url, data=params, token=outgoing.login.credentials)
        if not body.get("id"):
            raise Retry("Instagram took a picture but did not say where it put it.", code="no_id")
        return Container(remote_id=str(body["id"]), created_at=utc_now())

    async def _finish(
        self, http: httpx.AsyncClient, outgoing: Outgoing, stage: Staged, container: Container, checkpoint: Checkpoint
    ) -> None:
        if container.finished:
            return
        status, words = await self._state(http, outgoing.login, container)
        if status in ("FINISHED", "PUBLISHED"):
            container.finished = True
            await checkpoint(stage)
        elif status in ("ERROR", "EXPIRED"):
            raise await self._begin_again(stage, checkpoint, words)
        else:
            waited = (utc_now() - container.created_at).total_seconds()
            raise NotReady("Instagram is still processing the media.", retry_in_s=2 if waited < 30 else 30)

    async def _begin_again(self, stage: Staged, checkpoint: Checkpoint, words: str) -> PublishError:
        stage.children, stage.parent, stage.failures = {}, None, stage.failures + 1
        await checkpoint(stage)
        if stage.failures >= CONTAINER_TRIES:
            return Refused("Instagram could not process the media.", code="container_error", detail=words)
        return Retry("Instagram could not process the media this time.", code="container_error", detail=words)

    async def _state(self, http: httpx.AsyncClient, login: Login, container: Container) -> tuple[str, str]:
        url = self._graph(container.remote_id)
        body = await self._call(http, "GET", url, params={"fields": "id,status_code,status"}, token=login.credentials)
        words = str(body.get("status") or "")
        return str(body.get("status_code") or words.split(":")[0]).upper(), words

    async def commit(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel) -> Receipt:
        assert isinstance(staged, Staged)
        if staged.parent is None:
            raise StageLost("Nothing was prepared.")
        url = self._graph(f"{outgoing.login.account.remote_id}/media_publish")
        body = await self._call(
            http,
            "POST",
            url,
            data={"creation_id": staged.parent.remote_id},
            token=outgoing.login.credentials,
            commit=True,
        )
        if not body.get("id"):
            raise answers.lost("an answer without an id")
        return Receipt(remote_id=str(body["id"]))

    async def permalink(self, http: httpx.AsyncClient, login: Login, receipt: Receipt) -> str | None:
        if receipt.remote_id is None:
            return None
        url = self._graph(receipt.remote_id)
        body = await self._call(http, "GET", url, params={"fields": "id,permalink"}, token=login.credentials)
        return body.get("permalink")

    # -- reconciling -------------------------------------------------------------------------------------

    async def reconcile(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel, attempt: Attempt
    ) -> Verdict:
        assert isinstance(staged, Staged)
        if staged.parent is None:
            return Undecidable(why="What was handed to Instagram is no longer known here.")
        age = attempt.now - attempt.sent_at
        try:
            status, _ = await self._state(http, outgoing.login, staged.parent)
            found = await self._published(http, outgoing, attempt)
        except Unauthorized:
            raise
        except PublishError as error:
            if age > LONGEST_LOOKING:
                return Undecidable(why="Instagram could not be asked for a day whether the post is out.")
            return LookAgain(in_s=min(1800, 60 * 2**attempt.looks), why=f"Instagram cannot be asked: {error.sentence}")
        if found is not None:
            return Found(receipt=found)
        if status == "PUBLISHED":
            note = "Instagram says it is published; its link could not be found."
            return Found(receipt=Receipt(remote_id=None, notes=(note,)))
        if age < SETTLED:
            return LookAgain(in_s=60, why="It is not on the account so far. Looking again in a minute.", absent=True)
        if status == "FINISHED" and attempt.absent_looks > 0 and self.settings.instagram_republish == "auto":
            return SafeToResend(why="Instagram still holds it unpublished.")
        return Undecidable(why="Instagram does not say whether the post went out.")

    async def _published(self, http: httpx.AsyncClient, outgoing: Outgoing, attempt: Attempt) -> Receipt | None:
        """By caption, time and number of pictures; what another delivery owns is not ours."""
        url = self._graph(f"{outgoing.login.account.remote_id}/media")
        fields = "id,caption,timestamp,permalink,media_type,children{id}"
        query = {"fields": fields, "limit": "50"}
        body = await self._call(http, "GET", url, params=query, token=outgoing.login.credentials)
        since = attempt.first_sent_at - timedelta(seconds=60)
        for one in body.get("data") or []:
            children = len((one.get("children") or {}).get("data") or [])
            same = (one.get("caption") or "").strip() == outgoing.content.text.strip()
            many = children == len(outgoing.media) or (children == 0 and len(outgoing.media) == 1)
            if same and many and one.get("id") not in attempt.taken_remote_ids and _at(one) >= since:
                return Receipt(remote_id=str(one["id"]), permalink=one.get("permalink"))
        return None

    # -- answers -----------------------------------------------------------------------------------------

    async def _call(
        self,
        http: httpx.AsyncClient,
        method: str,
        url: str,
        *,
        token: Credentials | None = None,
        commit: bool = False,
        **request: Any,
    ) -> Mapping[str, Any]:
        headers = {"Authorization": f"Bearer {token.access_token.get_secret_value()}"} if token else {}
        answer = await answers.ask(http, method, url, commit=commit, headers=headers, **request)
        body = answers.parsed(answer)
        if answer.is_success and isinstance(body, Mapping) and "error" not in body:
            return body
        error = refusal(answer, body, commit=commit)
        if token and error.detail:  # Meta repeats a token it does not like
            error.detail = error.detail.replace(token.access_token.get_secret_value(), "…")
        raise error


def refusal(answer: httpx.Response, body: Any, *, commit: bool) -> PublishError:
    """Meta's codes -> ours. At the commit, whatever does not say plainly that nothing happened is unknown."""
    error = body.get("error") if isinstance(body, Mapping) else None
    if not isinstance(error, Mapping):
        if isinstance(body, Mapping) and body.get("error_message"):
            return Refused(f"Instagram refused it: {body['error_message']}", code="oauth")
        if commit:
            return answers.lost(f"HTTP {answer.status_code}")
        return Retry("Instagram has a fault.", code="server_fault", detail=f"HTTP {answer.status_code}")
    code, subcode = int(error.get("code") or 0), int(error.get("error_subcode") or 0)
    words = str(error.get("error_user_msg") or error.get("message") or "")[:300]
    detail = f"{code}/{subcode} {error.get('message', '')!s:.200} {error.get('fbtrace_id', '')}".strip()
    name = f"ig_{code}_{subcode}"
    if code in (190, 102):
        return Unauthorized(
            "Instagram no longer accepts this access.", next_step="Connect the account again.", detail=detail
        )
    if code in (10, 3) or 200 <= code < 300:
        return Unauthorized("Instagram did not grant what publishing needs.", next_step="Connect again.", detail=detail)
    if code in (17, 32, 613, 80002) or (code, subcode) == (9, 2207042):
        return Throttled(
            "Instagram asks to wait.", retry_in_s=answers.wait_s(answer.headers) or 900, code=name, detail=detail
        )
    if (code, subcode) == (9007, 2207027):
        return Retry("Instagram is not done with the media.", retry_in_s=15, code=name, detail=detail)
    if commit and (code in (1, 2, 4, 24, 341, -1, 100) or answer.status_code >= 500) and subcode < 2207023:
        return OutcomeUnknown("Instagram answered with a fault: the post may be out.", code=name, detail=detail)
    if commit and (code, subcode) == (4, 2207051):
        return OutcomeUnknown(
            "Instagram says it blocked the post; such posts went live before.", code=name, detail=detail
        )
    if code in (36000, 36001, 36003, 36004, 352, 25, 368) or 2207023 <= subcode <= 2207040 or subcode == 2207057:
        return Refused(f"Instagram refused it: {words}", code=name, next_step="Change the post.", detail=detail)
    if commit:
        return OutcomeUnknown("Instagram answered with a fault: the post may be out.", code=name, detail=detail)
    if code == 4:
        return Throttled("Instagram asks this app to wait.", retry_in_s=900, code=name, detail=detail)
    if code in (100,) and subcode not in (33,):
        return Refused(f"Instagram refused it: {words}", code=name, next_step="Change the post.", detail=detail)
    return Retry(f"Instagram has a fault: {words}", code=name, detail=detail)


def _credentials(body: Mapping[str, Any]) -> Credentials:
    if not body.get("access_token"):
        raise Retry("Instagram gave no access.", code="no_token")
    now = utc_now()
    return Credentials(
        access_token=SecretStr(str(body["access_token"])),
        scopes=SCOPES,
        issued_at=now,
        expires_at=now + timedelta(seconds=int(body.get("expires_in") or 60 * 86400)),
    )


def _options(content: Content) -> Mapping[str, Any]:
    return content.options.get("instagram") or {}


def _kind(content: Content) -> str:
    return str(_options(content).get("kind") or "post")


def _source(media: OutgoingMedia) -> dict[str, str]:
    return {"video_url" if media.kind is MediaKind.video else "image_url": media.public_url or ""}


def _alone(media: OutgoingMedia) -> dict[str, str]:
    if media.kind is MediaKind.video:
        return {**_source(media), "media_type": "REELS"}
    return {**_source(media), **({"alt_text": media.alt_text} if media.alt_text else {})}


def _child(media: OutgoingMedia) -> dict[str, str]:
    params = {**_source(media), "is_carousel_item": "true"}
    if media.kind is MediaKind.video:
        return {**params, "media_type": "VIDEO"}
    return {**params, **({"alt_text": media.alt_text} if media.alt_text else {})}


def _at(one: Mapping[str, Any]) -> datetime:
    """ "2026-11-23T10:00:00+0000": no colon in the zone."""
    try:
        return datetime.strptime(str(one.get("timestamp")), "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return datetime.min.replace(tzinfo=utc_now().tzinfo)
