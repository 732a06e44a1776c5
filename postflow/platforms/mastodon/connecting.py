"""Connecting: which server it is and what it takes, PostFlow as its app, the person's consent, access given back."""

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr

from postflow.errors import AppForgotten, ConnectError, OutcomeUnknown, PublishError, Refused, Unauthorized
from postflow.models import AppRegistration, Credentials, Login, Profile, Server, utc_now
from postflow.platforms import answers, software, split_domains
from postflow.platforms.base import Authorization, Connected
from postflow.platforms.mastodon import instance, manual_token, token_refusals
from postflow.platforms.mastodon.api import Speaking

#: A server that forgets its keys leaves looking as the only way to settle a lost answer.
_MUST_READ = (
    "PostFlow may not read what is on this account, so after a lost answer it could not tell whether a post is out."
)


class Connecting(Speaking):
    name: ClassVar[str]

    async def server(self, http: httpx.AsyncClient, base_url: str) -> Server:
        kind, version = await software.detect(http, base_url)
        said = await instance.read(http, base_url)
        version = version or str(said.get("version") or "")
        offers = await software.offers(http, base_url)
        return Server(
            platform=self.name,
            base_url=base_url,
            software=kind or "unknown",
            version=version,
            title=str(said.get("title") or ""),
            limits=software.limits(kind, version, said),
            capabilities=software.capabilities(kind, version).model_copy(update=offers),
            fetched_at=utc_now(),
        )

    # -- PostFlow as an app of this server ---------------------------------------------------------------

    def scopes(self, server: Server) -> tuple[str, ...]:
        if server.software in software.WHOLE_READ:
            return ("read", "write:media", "write:statuses")
        who = "profile" if server.capabilities.profile_scope else "read:accounts"
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
            client_secret=SecretStr(str(body.get("client_secret"))),
            redirect_uri=redirect_uri,
            scopes=scopes,
        )

    async def knows_app(self, http: httpx.AsyncClient, server: Server, app: AppRegistration) -> bool:
        """Mastodon before 4.3 forgets apps nobody used. Asking for a token of the app's own tells, and keeps it alive.

        Elsewhere a code that cannot exist is asked about, which leaves nothing behind. A registration for less than is
        needed by now is no better than none.
        """
        if app.scopes and not all(_covers(app.scopes, scope) for scope in self.scopes(server)):
            return False
        asked = {"grant_type": "authorization_code", "code": "still-known", "redirect_uri": app.redirect_uri}
        if server.software in ("mastodon", "hometown"):
            asked = {"grant_type": "client_credentials", "scope": app.scopes[-1] if app.scopes else "read"}
        try:
            answer = await answers.ask(http, "POST", f"{server.base_url}/oauth/token", data={**asked, **_proof(app)})
        except PublishError:
            return True
        return not _forgotten(answer)

    # -- the person's consent ----------------------------------------------------------------------------

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
            profile = await self._introduced(http, server, credentials)
        except PublishError as error:
            next_step = error.next_step or "Connect again."
            raise ConnectError(f"{server.base_url} did not let you in: {error.sentence} {next_step}") from None
        return [Connected(profile=profile, credentials=credentials, notes=_granted(server, credentials))]

    async def sign_in(self, http: httpx.AsyncClient, server: Server, typed: Mapping[str, str]) -> Sequence[Connected]:
        """With a token made by hand: one that can do all PostFlow does, or the person is told what it cannot."""
        credentials = Credentials(access_token=SecretStr(typed["token"]))
        wanted = f"Make one with these scopes: {' '.join(self.scopes(server))}."
        try:
            profile = await self._introduced(http, server, credentials)
            lacking = await manual_token.missing_scopes(
                http, server.base_url, self.bearer(credentials), profile.remote_id
            )
        except Unauthorized as error:
            if error.code == "scopes":  # it may not even say whose it is
                raise ConnectError(
                    f"This token does not let PostFlow {manual_token.said(self.scopes(server)[:1])}. {wanted}"
                ) from None
            if error.code in ("unauthorized", "token"):
                raise ConnectError(
                    "The server does not accept this token. Copy it once more, or make a new one."
                ) from None
            raise ConnectError(f"{error.sentence} {wanted if error.code == 'shut_out' else error.next_step}") from None
        except PublishError as error:
            raise ConnectError(f"{error.sentence} {error.next_step or 'Try again in a moment.'}") from None
        if lacking:
            raise ConnectError(f"This token does not let PostFlow {manual_token.said(lacking)}. {wanted}")
        return [Connected(profile=profile, credentials=credentials)]

    async def _introduced(self, http: httpx.AsyncClient, server: Server, credentials: Credentials) -> Profile:
        """The profile, with the handle under which the rest of the network knows it."""
        profile = await self._profile(http, server.base_url, credentials)
        name = profile.handle.lstrip("@").partition("@")[0]
        return profile.model_copy(update={"handle": await split_domains.handle(http, server.base_url, name)})

    async def _token(
        self, http: httpx.AsyncClient, base_url: str, app: AppRegistration, asked: Mapping[str, str]
    ) -> Credentials:
        try:
            answer = await answers.ask(
                http, "POST", f"{base_url}/oauth/token", commit=True, data={**asked, **_proof(app)}
            )
        except OutcomeUnknown as error:
            raise _about_access(error) from None
        body = answers.parsed(answer)
        if _forgotten(answer):
            host = base_url.split("://", 1)[-1]
            raise AppForgotten(f"{host} no longer knows PostFlow. Connect again: it is registered anew.")
        if not answer.is_success:
            raise _about_access(answers.refusal(answer, commit=True))
        if not isinstance(body, Mapping) or not body.get("access_token"):
            raise _about_access(answers.lost("no token in the answer"))
        now, life_s = utc_now(), _seconds(body.get("expires_in"))
        refresh = body.get("refresh_token")
        return Credentials(
            access_token=SecretStr(str(body["access_token"])),
            refresh_token=SecretStr(str(refresh)) if refresh else None,
            scopes=tuple(str(body.get("scope") or " ".join(app.scopes)).split()),
            issued_at=now,
            expires_at=now + timedelta(seconds=life_s) if life_s else None,
        )

    # -- keeping alive -----------------------------------------------------------------------------------

    async def is_itself(self, http: httpx.AsyncClient, base_url: str) -> bool:
        return await instance.speaks(http, base_url)

    async def verify(self, http: httpx.AsyncClient, login: Login) -> Profile:
        return await self._profile(http, login.account.base_url, login.credentials)

    async def _profile(self, http: httpx.AsyncClient, base_url: str, credentials: Credentials) -> Profile:
        url, headers = f"{base_url}/api/v1/accounts/verify_credentials", self.bearer(credentials)
        answer = await answers.ask(http, "GET", url, headers=headers)
        if token_refusals.is_refusal(answer):
            raise await token_refusals.meant(http, url, headers, answer)
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

    async def revoke(self, http: httpx.AsyncClient, login: Login) -> None:
        if login.app is None:
            return
        asked = {**_proof(login.app), "token": login.credentials.access_token.get_secret_value()}
        answer = await answers.ask(http, "POST", f"{login.account.base_url}/oauth/revoke", data=asked)
        if not answer.is_success:
            raise Refused("The server did not take the access back.", code="not_revoked")


def _proof(app: AppRegistration) -> dict[str, str]:
    return {"client_id": app.client_id, "client_secret": app.client_secret.get_secret_value()}


def _covers(scopes: Sequence[str], wanted: str) -> bool:
    """`read` covers each of its parts; `profile` is the newer and smaller `read:accounts`."""
    wider = {wanted, wanted.partition(":")[0]} | ({"read", "read:accounts"} if wanted == "profile" else set())
    return bool(wider & set(scopes))


def _forgotten(answer: httpx.Response) -> bool:
    body = answers.parsed(answer)
    return not answer.is_success and isinstance(body, Mapping) and body.get("error") == "invalid_client"


def _granted(server: Server, credentials: Credentials) -> tuple[str, ...]:
    """What the person (or the server) left out of what was asked for. Raises ConnectError where nothing would work."""
    have = set(credentials.scopes)
    missing = [scope for scope in ("write:statuses", "write:media") if not have & {scope, "write"}]
    if missing:
        raise ConnectError(f"You did not allow PostFlow to publish ({', '.join(missing)}). Connect again and allow it.")
    if have & {"read", "read:statuses"}:
        return ()
    if server.capabilities.idempotency == "none":
        raise ConnectError(f"{_MUST_READ} Connect again and allow read:statuses.")
    return (f"{_MUST_READ} It will ask you then. Connect again and allow read:statuses to spare yourself that.",)


def _seconds(told: Any) -> float | None:
    """A token's life; what is no number does not keep anybody from storing the token."""
    try:
        return min(float(told), 10 * 365 * 86400.0) if told else None
    except (TypeError, ValueError):
        return None


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
