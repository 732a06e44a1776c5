"""Instagram Business and Creator accounts, through Instagram Login or Facebook Login.

prepare    containers      one per picture (and one around a carousel); Meta fetches the media from our public links
commit     here            POST /{account}/media_publish: the one visible call
reconcile  reconciling     asks the container, then the account's media; never takes the newest post for ours

instagram_login, facebook_login (the two ways in) · graph (calls, tokens) · refusals (error codes) · usage (budgets) ·
options, composing (what may be written) · reachable (can Meta fetch from us) · signed_request (Meta's callbacks)
Facts: developers.facebook.com/docs/instagram-platform
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import httpx
from pydantic import BaseModel

from postflow import config
from postflow.errors import ConnectError, NotFound, PublishError, Refused, Retry, StageLost
from postflow.media import renditions
from postflow.models import (
    Account,
    AppRegistration,
    Attempt,
    Capabilities,
    Content,
    Credentials,
    Limits,
    Login,
    Media,
    Outgoing,
    Problem,
    Profile,
    Receipt,
    Server,
    Verdict,
    utc_now,
    web_address,
)
from postflow.platforms import answers, counting
from postflow.platforms.base import Authorization, Checkpoint, Connected, ConnectOption, OptionField, Platform
from postflow.platforms.instagram import (
    composing,
    containers,
    facebook_login,
    instagram_login,
    locating,
    options,
    reachable,
    reconciling,
)
from postflow.platforms.instagram.graph import Graph, Keys, keys_of

INSTAGRAM_LOGIN, FACEBOOK_LOGIN = "instagram-login", "facebook-login"
_WAYS = {INSTAGRAM_LOGIN: instagram_login, FACEBOOK_LOGIN: facebook_login}
REFRESH_AHEAD = timedelta(days=30)
YOUNGEST = timedelta(hours=24)  # a younger token cannot be refreshed
CHECK_EVERY = timedelta(hours=20)  # Facebook Login: once a day, whenever the periodic job comes by


class Instagram(Platform):
    name: ClassVar[str] = "instagram"
    label: ClassVar[str] = "Instagram"
    software: ClassVar[frozenset[str]] = frozenset()
    credentials_model: ClassVar[type[Credentials]] = Keys
    staged_model: ClassVar[type[BaseModel]] = containers.Staged
    prepare_lead_s: ClassVar[float] = 900
    staged_life_s: ClassVar[float] = containers.LIFE.total_seconds()
    fetches_media: ClassVar[bool] = True

    def __init__(self, settings: config.Settings | None = None) -> None:
        self._given = settings

    @property
    def settings(self) -> config.Settings:
        if self._given is None:
            self._given = config.load()
        return self._given

    # -- connecting --------------------------------------------------------------------------------------

    def connect_options(self) -> Sequence[ConnectOption]:
        return [
            self._option(INSTAGRAM_LOGIN, "Instagram", "Business and Creator accounts"),
            self._option(FACEBOOK_LOGIN, "Instagram through Facebook", "Accounts that belong to a Facebook Page"),
        ]

    def _option(self, key: str, label: str, hint: str) -> ConnectOption:
        missing = "" if self._app(key) else f"The operator sets {' and '.join(_WAYS[key].SETTINGS)} first."
        return ConnectOption(
            key=key,
            label=label,
            asks_for="nothing",
            hint=hint,
            available=not missing,
            unavailable_because=missing,
            warning=reachable.refusal(self.settings) or "",
        )

    def _app(self, option: str, redirect_uri: str = "") -> AppRegistration | None:
        """From the settings each time, so that a corrected secret counts at once."""
        settings = self.settings
        client_id, secret = settings.instagram_app_id, settings.instagram_app_secret
        if option == FACEBOOK_LOGIN:
            client_id, secret = settings.facebook_app_id, settings.facebook_app_secret
        if not (client_id and secret):
            return None
        scopes = _WAYS[option].SCOPES
        return AppRegistration(client_id=client_id, client_secret=secret, redirect_uri=redirect_uri, scopes=scopes)

    def option_fields(self) -> Sequence[OptionField]:
        return options.fields()

    def parse_options(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        return options.parse(raw)

    async def server(self, http: httpx.AsyncClient, base_url: str) -> Server:
        """One place for everybody; what is asked anew is whether Meta could fetch media from us."""
        return Server(
            platform=self.name,
            base_url=base_url,
            software="instagram",
            version=self.settings.instagram_api_version,
            title="Instagram",
            limits=composing.LIMITS,
            capabilities=Capabilities(source=False, fetch_fault=await reachable.probe(http, self.settings) or ""),
            fetched_at=utc_now(),
        )

    async def register(
        self, http: httpx.AsyncClient, server: Server, redirect_uri: str, option: str
    ) -> AppRegistration:
        if (app := self._app(option, redirect_uri)) is None:
            raise ConnectError(f"The operator sets {' and '.join(_WAYS[option].SETTINGS)} first.")
        return app

    async def authorize(self, server: Server, app: AppRegistration, *, state: str, option: str) -> Authorization:
        app = self._app(option, app.redirect_uri) or app
        return Authorization(url=_WAYS[option].consent_url(self.settings, app, state), memo={"option": option})

    async def exchange(
        self, http: httpx.AsyncClient, server: Server, app: AppRegistration, code: str, memo: Mapping[str, Any]
    ) -> Sequence[Connected]:
        option = str(memo.get("option") or INSTAGRAM_LOGIN)
        if option not in _WAYS:
            raise NotFound("There is no such way to connect.")
        try:
            return await _WAYS[option].exchange(http, self.settings, self._app(option, app.redirect_uri) or app, code)
        except PublishError as error:
            raise ConnectError(_not_let_in(error, _WAYS[option].SETTINGS)) from None

    # -- keeping alive -----------------------------------------------------------------------------------

    async def verify(self, http: httpx.AsyncClient, login: Login) -> Profile:
        try:
            if keys_of(login).flavour == "facebook":
                return await facebook_login.whose(http, self.settings, login)
            return (await instagram_login.whose(http, self.settings, keys_of(login)))[0]
        except Refused as error:
            raise Retry(f"Instagram did not show the account: {error.sentence}", detail=error.detail) from None

    def refresh_due(self, login: Login, *, now: datetime) -> bool:
        held = keys_of(login)
        if held.flavour == "facebook":
            return held.checked_at is None or now - held.checked_at >= CHECK_EVERY
        old_enough = held.issued_at is None or now - held.issued_at >= YOUNGEST
        return old_enough and held.expires_at is not None and held.expires_at - now < REFRESH_AHEAD

    async def refresh(self, http: httpx.AsyncClient, login: Login) -> Credentials:
        held = keys_of(login)
        way = facebook_login if held.flavour == "facebook" else instagram_login
        return await way.refresh(http, self.settings, held)

    async def revoke(self, http: httpx.AsyncClient, login: Login) -> None:
        """Instagram has no call for it: people remove PostFlow in their settings there."""

    # -- composing ---------------------------------------------------------------------------------------

    def count(self, content: Content, limits: Limits) -> int:
        return counting.instagram(content.text)

    def check(
        self, content: Content, media: Sequence[Media], server: Server, account: Account, *, is_reply: bool
    ) -> Sequence[Problem]:
        most = self.settings.instagram_max_hashtags
        found = list(composing.problems(content, media, server, most_hashtags=most))
        if is_reply:
            found.append(Problem(sentence="Instagram has no threads. Take this account off.", field="accounts"))
        if fault := reachable.refusal(self.settings):
            found.append(Problem(sentence=fault, field="accounts"))
        elif fault := server.capabilities.fetch_fault:
            found.append(Problem(sentence=fault, field="accounts", blocking=False))
        return found

    def recipe(
        self, content: Content, media: Media, server: Server, first: Media | None = None
    ) -> renditions.Recipe | None:
        return composing.recipe(content, media, server, first or media)

    # -- publishing --------------------------------------------------------------------------------------

    async def prepare(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel | None, checkpoint: Checkpoint
    ) -> BaseModel:
        stage = staged if isinstance(staged, containers.Staged) else containers.Staged()
        return await containers.prepare(self._as(http, outgoing.login), outgoing, stage, checkpoint)

    async def commit(self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel) -> Receipt:
        stage = _staged(staged)
        if stage.parent is None:
            raise StageLost("Nothing was prepared.")
        graph = self._as(http, outgoing.login)
        if outgoing.sent_before:
            await containers.still_unpublished(graph, stage.parent)
        path = f"{outgoing.login.account.remote_id}/media_publish"
        form = {"creation_id": stage.parent.remote_id}
        body = await graph.post(path, form, commit=True)
        if not body.get("id"):
            raise answers.lost("an answer without an id")
        return Receipt(remote_id=str(body["id"]))

    async def reconcile(
        self, http: httpx.AsyncClient, outgoing: Outgoing, staged: BaseModel, attempt: Attempt
    ) -> Verdict:
        graph, policy = self._as(http, outgoing.login), self.settings.instagram_republish
        return await reconciling.reconcile(graph, outgoing, _staged(staged), attempt, policy)

    def recognizes(self, content: Content) -> bool:
        """Stories have no caption."""
        return options.kind(content) != "story" and super().recognizes(content)

    async def permalink(self, http: httpx.AsyncClient, login: Login, receipt: Receipt) -> str | None:
        if receipt.remote_id is None:
            return None
        body = await self._as(http, login).read(receipt.remote_id, fields="id,permalink")
        return web_address(body.get("permalink"))

    async def located(self, http: httpx.AsyncClient, login: Login, link: str) -> Receipt:
        return await locating.located(self._as(http, login), login.account, link, elsewhere=self.settings.instagram_url)

    def _as(self, http: httpx.AsyncClient, login: Login) -> Graph:
        return Graph.of(http, self.settings, login)


def _staged(staged: BaseModel) -> containers.Staged:
    assert isinstance(staged, containers.Staged)
    return staged


def _not_let_in(error: PublishError, names: Sequence[str]) -> str:
    """A wrong app secret is the operator's to mend; Meta says it in English only, whatever the person's language."""
    words = (error.detail or "").lower()
    if "client secret" in words or "validating application" in words or "platform app" in words:
        return f"Meta does not know this PostFlow by its app id and secret: the operator checks {' and '.join(names)}."
    if error.code == "not_professional":
        return error.sentence
    return f"Instagram did not let you in: {error.sentence} Connect again."
