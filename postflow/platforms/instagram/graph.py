"""The Graph API as one account sees it: hosts, tokens, answers. Both logins speak the same paths on different hosts."""

import hashlib
import hmac
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Literal

import httpx
from pydantic import SecretStr, field_serializer

from postflow import config
from postflow.errors import PublishError, Throttled, Unauthorized
from postflow.models import Credentials, Login
from postflow.platforms import answers
from postflow.platforms.instagram import refusals, usage

#: Nobody has more pages of media in a day; a listing that does not end here is not taken for complete.
MOST_PAGES = 40


class Keys(Credentials):
    """What opens an Instagram account.

    Through Instagram Login `access_token` is the account's own. Through Facebook Login it is the Page's, and
    `user_token` the person's: some reads work with one only. `person_ids` are the ids Meta's callbacks may name.
    """

    flavour: Literal["instagram", "facebook"] = "instagram"
    user_token: SecretStr | None = None
    person_ids: tuple[str, ...] = ()
    checked_at: datetime | None = None  # Facebook Login: when debug_token last found them alive

    @field_serializer("user_token", when_used="json")
    def _reveal_user(self, secret: SecretStr | None) -> str | None:
        return secret.get_secret_value() if secret else None


def keys_of(login: Login) -> Keys:
    held = login.credentials
    return held if isinstance(held, Keys) else Keys(**held.model_dump())


def address(settings: config.Settings, host: str, path: str) -> str:
    """`instagram_url` stands for every host of Meta's: the sandbox."""
    return f"{settings.instagram_url or f'https://{host}'}/{path}"


def rows(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The entries of `{"data": […]}`; whatever is none is left out."""
    found = body.get("data")
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def within(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside an answer; an empty one when it is something else."""
    found = body.get(name)
    return found if isinstance(found, Mapping) else {}


class Graph:
    """Calls as one account, or as nobody yet (`keys` None). Made anew for each story, never shared."""

    def __init__(self, http: httpx.AsyncClient, settings: config.Settings, keys: Keys | None = None) -> None:
        self._http = http
        self._settings = settings
        self._keys = keys
        self._regain_s = 0.0
        self.percent = 0.0

    @classmethod
    def of(cls, http: httpx.AsyncClient, settings: config.Settings, login: Login) -> "Graph":
        return cls(http, settings, keys_of(login))

    def url(self, path: str) -> str:
        flavour = self._keys.flavour if self._keys else "instagram"
        return address(self._settings, f"graph.{flavour}.com", f"{self._settings.instagram_api_version}/{path}")

    async def get(self, path: str, **query: str) -> Mapping[str, Any]:
        return await self.call("GET", self.url(path), params=query, token=self._token())

    async def post(self, path: str, form: Mapping[str, str], *, commit: bool = False) -> Mapping[str, Any]:
        return await self.call("POST", self.url(path), data=form, token=self._token(), commit=commit)

    async def read(self, path: str, **query: str) -> Mapping[str, Any]:
        """GET with the Page's token and, where that is not let in, with the person's (Facebook Login). When neither
        helps, the Page's answer counts: it is the one that publishes.
        """
        try:
            return await self.get(path, **query)
        except PublishError as error:
            other = self._keys.user_token if self._keys else None
            if other is None or not (isinstance(error, Unauthorized) or error.code == "ig_100_33"):
                raise
            try:
                return await self.call("GET", self.url(path), params=query, token=other)
            except PublishError:
                raise error from None

    async def pages(self, path: str, **query: str) -> AsyncIterator[Mapping[str, Any] | None]:
        """Every entry of a listing; a last None when there is more of it, or when it was no listing."""
        after: str | None = None
        for _ in range(MOST_PAGES):
            body = await self.read(path, **query, **({"after": after} if after else {}))
            if not isinstance(body.get("data"), list):
                break
            for one in rows(body):
                yield one
            paging = within(body, "paging")
            if not paging.get("next"):
                return
            after = within(paging, "cursors").get("after")
            if not isinstance(after, str) or not after:
                break
        yield None

    def _token(self) -> SecretStr | None:
        return self._keys.access_token if self._keys else None

    async def call(
        self,
        method: str,
        url: str,
        *,
        token: SecretStr | None = None,
        commit: bool = False,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        """One request -> the answer's object. Raises PublishError."""
        if self._regain_s and not commit:
            raise Throttled("Instagram asks this account to wait.", retry_in_s=self._regain_s, code="usage")
        request: dict[str, Any] = {"headers": {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}}
        if method == "GET":
            request["params"] = {**(params or {}), **self._proof(token)}
        else:
            request["data"] = {**(data or {}), **self._proof(token)}
        answer = await answers.ask(self._http, method, url, commit=commit, **request)
        self._regain_s, self.percent = usage.regain_s(answer.headers), usage.percent(answer.headers)
        body = answers.parsed(answer)
        if answer.is_success and isinstance(body, Mapping) and "error" not in body:
            return body
        raise self._scrubbed(refusals.error(answer, body, commit=commit), {**(params or {}), **(data or {})})

    def _proof(self, token: SecretStr | None) -> dict[str, str]:
        """appsecret_proof: shows that the token is used by the app it was given to, not by who stole it."""
        secret = self._settings.facebook_app_secret
        if not (token and secret and self._keys and self._keys.flavour == "facebook"):
            return {}
        key, said = secret.get_secret_value().encode(), token.get_secret_value().encode()
        return {"appsecret_proof": hmac.digest(key, said, hashlib.sha256).hex()}

    def _scrubbed(self, error: PublishError, sent: Mapping[str, str]) -> PublishError:
        """Meta repeats a token it does not like, wherever it came from."""
        held = [self._keys.access_token, self._keys.user_token] if self._keys else []
        held += [self._settings.instagram_app_secret, self._settings.facebook_app_secret]
        secrets = [one.get_secret_value() for one in held if one]
        secrets += [value for name, value in sent.items() if "token" in name or "secret" in name or name == "code"]
        for secret in filter(None, secrets):
            error.sentence = error.sentence.replace(secret, "…")
            error.detail = error.detail.replace(secret, "…") if error.detail else None
        error.args = (error.sentence,)
        return error
