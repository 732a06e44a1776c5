"""Instagram Login: the account says yes at instagram.com and gets a token of its own for sixty days.

https://developers.facebook.com/docs/instagram-platform/instagram-api-with-instagram-login/business-login
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr

from postflow import config
from postflow.errors import ConnectError, PublishError, Refused, Retry, Unauthorized
from postflow.models import AppRegistration, Profile, utc_now
from postflow.platforms.base import Connected
from postflow.platforms.instagram.graph import Graph, Keys, address, rows

BASIC, PUBLISH = SCOPES = ("instagram_business_basic", "instagram_business_content_publish")
SETTINGS = ("POSTFLOW_INSTAGRAM_APP_ID", "POSTFLOW_INSTAGRAM_APP_SECRET")
USUAL_LIFE_S = 60 * 86400
NOT_PROFESSIONAL = (
    "This is a personal account, and Instagram lets only Business and Creator accounts publish from outside. Switch it "
    "in the Instagram app (Settings, Account type), then connect again."
)
_FIELDS = "id,user_id,username,name,account_type,profile_picture_url"


def consent_url(settings: config.Settings, app: AppRegistration, state: str) -> str:
    query = {
        "client_id": app.client_id,
        "redirect_uri": app.redirect_uri,
        "response_type": "code",
        "scope": ",".join(SCOPES),
        "state": state,
    }
    return f"{address(settings, 'www.instagram.com', 'oauth/authorize')}?{urlencode(query)}"


async def exchange(
    http: httpx.AsyncClient, settings: config.Settings, app: AppRegistration, code: str
) -> Sequence[Connected]:
    """Code -> a token of an hour -> one of sixty days -> whose it is. Raises ConnectError, PublishError."""
    graph, secret = Graph(http, settings), app.client_secret.get_secret_value()
    form = {
        "client_id": app.client_id,
        "client_secret": secret,
        "grant_type": "authorization_code",
        "redirect_uri": app.redirect_uri,
        "code": code.removesuffix("#_"),
    }
    short = await graph.call("POST", address(settings, "api.instagram.com", "oauth/access_token"), data=form)
    flat = next(iter(rows(short)), short)
    granted = _granted(flat.get("permissions"))
    if granted and (missing := [scope for scope in SCOPES if scope not in granted]):
        raise ConnectError(_not_granted(missing))
    query = {
        "grant_type": "ig_exchange_token",
        "client_secret": secret,
        "access_token": str(flat.get("access_token", "")),
    }
    long = await graph.call("GET", address(settings, "graph.instagram.com", "access_token"), params=query)
    keys = _keys(long, granted or SCOPES)
    profile, app_scoped_id = await whose(http, settings, keys)
    ids = {app_scoped_id, str(flat.get("user_id") or "")} - {"", profile.remote_id}
    return [Connected(profile=profile, credentials=keys.model_copy(update={"person_ids": tuple(sorted(ids))}))]


def _granted(told: Any) -> tuple[str, ...]:
    """A list or a comma list, depending on the day; () when it is not told."""
    words = told if isinstance(told, list) else str(told or "").replace(",", " ").split()
    return tuple(map(str, words))


def _not_granted(missing: Sequence[str]) -> str:
    what = "publish posts" if missing == [PUBLISH] else "read the profile" if missing == [BASIC] else "do anything"
    return f"You did not allow PostFlow to {what}. Connect again and leave both permissions switched on."


async def whose(http: httpx.AsyncClient, settings: config.Settings, keys: Keys) -> tuple[Profile, str]:
    """The profile, and the id that is valid inside this app only: paths need the professional account's `user_id`."""
    body = await Graph(http, settings, keys).get("me", fields=_FIELDS)
    if str(body.get("account_type") or "BUSINESS").upper() == "PERSONAL":
        raise Unauthorized(NOT_PROFESSIONAL, code="not_professional")
    if not body.get("user_id") or not body.get("username"):
        raise Retry("Instagram did not say which account this is.", code="no_account")
    return profile_of(settings, body, str(body["user_id"])), str(body.get("id") or "")


def profile_of(settings: config.Settings, body: Mapping[str, Any], remote_id: str) -> Profile:
    name = str(body.get("username") or "")
    return Profile(
        remote_id=remote_id,
        handle=f"@{name}",
        display_name=str(body.get("name") or name),
        avatar_url=body.get("profile_picture_url"),
        profile_url=address(settings, "www.instagram.com", f"{name}/"),
    )


async def refresh(http: httpx.AsyncClient, settings: config.Settings, keys: Keys) -> Keys:
    """Sixty more days. Safe to repeat: the old token lives on. Too young a token is refused, which changes nothing."""
    url = address(settings, "graph.instagram.com", "refresh_access_token")
    query = {"grant_type": "ig_refresh_token", "access_token": keys.access_token.get_secret_value()}
    try:
        body = await Graph(http, settings).call("GET", url, params=query)
    except Refused as error:
        raise Retry(f"The access was not renewed this time: {error.sentence}", detail=error.detail) from None
    except PublishError as error:
        if isinstance(error, Unauthorized):
            error.next_step = "Connect the account again."
        raise
    renewed = _keys(body, keys.scopes)
    return renewed.model_copy(update={"person_ids": keys.person_ids})


def _keys(body: Mapping[str, Any], scopes: Sequence[str]) -> Keys:
    if not body.get("access_token"):
        raise Retry("Instagram gave no access.", code="no_token")
    now, life_s = utc_now(), body.get("expires_in")
    life_s = life_s if isinstance(life_s, int | float) and life_s > 0 else USUAL_LIFE_S
    return Keys(
        access_token=SecretStr(str(body["access_token"])),
        scopes=tuple(scopes),
        issued_at=now,
        expires_at=now + timedelta(seconds=life_s),
    )
