"""Facebook Login: a person says yes at facebook.com, and each of their Pages opens the Instagram account behind it.

The Page's token publishes; the person's is kept beside it while it lives, since some reads work with one only. Neither
can be renewed without the person: `check` asks daily whether they live, and when access to the data ends.
https://developers.facebook.com/docs/instagram-platform/instagram-api-with-facebook-login
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr

from postflow import config
from postflow.errors import ConnectError, Refused, Retry, Unauthorized
from postflow.models import AppRegistration, Login, Profile, utc_now
from postflow.platforms.base import Connected
from postflow.platforms.instagram.graph import Graph, Keys, address, rows, within
from postflow.platforms.instagram.instagram_login import profile_of

SCOPES = ("instagram_basic", "instagram_content_publish", "pages_show_list", "pages_read_engagement")
#: The first word about posts at risk comes fourteen days ahead; it should know why.
TOLD_AHEAD = timedelta(days=15)
SETTINGS = ("POSTFLOW_FACEBOOK_APP_ID", "POSTFLOW_FACEBOOK_APP_SECRET")
NO_PAGES = (
    "Facebook showed PostFlow no Page with a Business or Creator account on Instagram. Link the account to a Page of "
    "yours, then connect again and choose both."
)
_PAGE_FIELDS = "id,name,access_token,instagram_business_account{id,username,name,profile_picture_url}"


def consent_url(settings: config.Settings, app: AppRegistration, state: str) -> str:
    query = {
        "client_id": app.client_id,
        "redirect_uri": app.redirect_uri,
        "response_type": "code",
        "scope": ",".join(SCOPES),
        "state": state,
    }
    dialog = address(settings, "www.facebook.com", f"{settings.instagram_api_version}/dialog/oauth")
    return f"{dialog}?{urlencode(query)}"


async def exchange(
    http: httpx.AsyncClient, settings: config.Settings, app: AppRegistration, code: str
) -> Sequence[Connected]:
    """Code -> a person's token of an hour -> one of sixty days -> their Pages. Raises ConnectError, PublishError."""
    form = {"redirect_uri": app.redirect_uri, "code": code.removesuffix("#_")}
    short = await _token(http, settings, app, form)
    long = await _token(http, settings, app, {"grant_type": "fb_exchange_token", "fb_exchange_token": short})
    graph = Graph(http, settings, Keys(access_token=SecretStr(long), flavour="facebook"))
    granted = await _granted(graph)
    if missing := [scope for scope in SCOPES if scope not in granted]:
        raise ConnectError(
            f"You did not allow everything PostFlow needs (missing: {', '.join(missing)}). Connect again and leave all "
            "permissions switched on."
        )
    person = await graph.get("me", fields="id")
    found = [
        await _connected(http, settings, page, long, str(person.get("id") or ""))
        async for page in graph.pages("me/accounts", fields=_PAGE_FIELDS, limit="50")
        if page and page.get("access_token") and within(page, "instagram_business_account").get("id")
    ]
    if not found:
        raise ConnectError(NO_PAGES)
    return found


async def _token(
    http: httpx.AsyncClient, settings: config.Settings, app: AppRegistration, more: Mapping[str, str]
) -> str:
    query = {"client_id": app.client_id, "client_secret": app.client_secret.get_secret_value(), **more}
    url = address(settings, "graph.facebook.com", f"{settings.instagram_api_version}/oauth/access_token")
    body = await Graph(http, settings).call("GET", url, params=query)
    if not body.get("access_token"):
        raise Retry("Facebook gave no access.", code="no_token")
    return str(body["access_token"])


async def _granted(graph: Graph) -> set[str]:
    told = rows(await graph.get("me/permissions"))
    return {str(one.get("permission")) for one in told if one.get("status") == "granted"}


async def _connected(
    http: httpx.AsyncClient, settings: config.Settings, page: Mapping[str, Any], user_token: str, person_id: str
) -> Connected:
    account = page["instagram_business_account"]
    keys = Keys(
        access_token=SecretStr(str(page["access_token"])),
        user_token=SecretStr(user_token),
        scopes=SCOPES,
        flavour="facebook",
        person_ids=(person_id,) if person_id else (),
        issued_at=utc_now(),
    )
    profile = profile_of(settings, account, str(account["id"]))
    return Connected(profile=profile, credentials=await check(http, settings, keys))


async def whose(http: httpx.AsyncClient, settings: config.Settings, login: Login) -> Profile:
    remote_id = login.account.remote_id
    fields = "id,username,name,profile_picture_url"
    body = await Graph.of(http, settings, login).get(remote_id, fields=fields)  # by the token that publishes
    return profile_of(settings, body, remote_id)


async def refresh(http: httpx.AsyncClient, settings: config.Settings, keys: Keys) -> Keys:
    """Looks whether the access lives; near its end that is refused, so that the person hears of it in time."""
    checked = await check(http, settings, keys)
    if checked.expires_at and checked.expires_at - utc_now() < TOLD_AHEAD:
        raise Unauthorized(
            "Facebook ends this access soon, and only the person can renew it.",
            next_step="Connect the account again.",
            code="ends_soon",
        )
    return checked


async def check(http: httpx.AsyncClient, settings: config.Settings, keys: Keys) -> Keys:
    """debug_token. The Page's token decides: the person's ends after sixty days and is then left behind.

    Raises Unauthorized when the Page's is dead, Retry when Facebook does not tell.
    """
    page = await _debugged(http, settings, keys.access_token)
    if not page["is_valid"]:
        raise Unauthorized(
            "Facebook no longer accepts this access: the password, a permission or the Page's role changed.",
            next_step="Connect the account again.",
            code="debug_token",
        )
    person = keys.user_token
    if person and not (await _debugged(http, settings, person))["is_valid"]:
        person = None
    ends = [page.get(name) for name in ("expires_at", "data_access_expires_at")]
    instants = [datetime.fromtimestamp(one, UTC) for one in ends if isinstance(one, int) and 0 < one < 1e11]
    known = {"user_token": person, "expires_at": min(instants, default=None), "checked_at": utc_now()}
    return keys.model_copy(update=known)


async def _debugged(http: httpx.AsyncClient, settings: config.Settings, token: SecretStr) -> Mapping[str, Any]:
    secret = settings.facebook_app_secret
    if not (settings.facebook_app_id and secret):
        raise Retry(f"Facebook Login is not set up here any more: the operator sets {' and '.join(SETTINGS)}.")
    query = {
        "input_token": token.get_secret_value(),
        "access_token": f"{settings.facebook_app_id}|{secret.get_secret_value()}",
    }
    url = address(settings, "graph.facebook.com", f"{settings.instagram_api_version}/debug_token")
    try:
        told = (await Graph(http, settings).call("GET", url, params=query)).get("data")
    except (Unauthorized, Refused) as error:  # it is the app that is not let in, not the person
        raise Retry(f"Facebook did not check the access: {error.sentence}", detail=error.detail) from None
    if not isinstance(told, Mapping) or "is_valid" not in told:
        raise Retry("Facebook did not say whether the access lives.", code="debug_token")
    return told
