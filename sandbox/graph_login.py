"""Both ways into Instagram: Instagram Login (a token of its own, refreshable) and Facebook Login (user and page tokens)."""

import secrets
import time
import urllib.parse
from typing import Any

from sandbox import graph, links, model, pages, wire
from sandbox.instance import Call

CODE_TTL_S = 3600
SHORT_S = 3600
LONG_S = 5_183_944
INSTAGRAM_SCOPES = ["instagram_business_basic", "instagram_business_content_publish"]


def publish_permission(token: model.Token) -> str:
    """The permission publishing needs with this kind of token."""
    return "instagram_content_publish" if token.kind in ("facebook", "page") else INSTAGRAM_SCOPES[1]


async def authorize(call: Call) -> wire.Response:
    """GET /oauth/authorize and /vX/dialog/oauth: the consent page"""
    _check_client(call)
    scopes = call.params.text("scope").replace(",", " ").split()
    return pages.consent(call, "PostFlow", None, scopes)


async def decide(call: Call) -> wire.Response:
    """The person pressed Allow or Deny; Instagram appends `#_` to the way back."""
    _check_client(call)
    given, store = call.params, call.network.store
    uri, state = given.text("redirect_uri"), given.text("state")
    if given.text("decision") != "allow":
        answer = {
            "error": "access_denied",
            "error_reason": "user_denied",
            "error_description": "Permissions error",
        }
        return _back(uri, {**answer, "state": state}, "")
    account = pages.chosen_account(call)
    chosen = [account.id, *(key for key in given.many("more") if key in store.accounts)]
    code = model.Code(
        id=secrets.token_urlsafe(90),
        instance=call.instance.name,
        client_id=given.text("client_id"),
        account_ids=list(dict.fromkeys(chosen)),
        redirect_uri=uri,
        scopes=given.text("scope").replace(",", " ").split(),
        challenge=None,
        expires_at=call.now + CODE_TTL_S,
    )
    store.keep(code)
    return _back(uri, {"code": code.id, "state": state}, "#_")


async def access_token(call: Call) -> wire.Response:
    """POST /oauth/access_token: Instagram's short token; with a Facebook app id it is the other flavour"""
    given, profile = call.params, call.profile
    if given.text("client_id") == profile.facebook_app_id or given.has("fb_exchange_token"):
        return await facebook_token(call)
    if given.text("client_id") != profile.app_id or given.text("client_secret") != profile.app_secret:
        raise _login_error("Error validating client secret.")
    if given.text("grant_type") != "authorization_code":
        raise _login_error("Invalid grant_type")
    code = _redeem(call)
    if code is None:
        raise _login_error("This authorization code has been used or is invalid")
    token = issue(call, "short", code.account_ids[:1], code.scopes, profile.app_id, SHORT_S)
    body = {
        "access_token": token.id,
        "user_id": int(token.account_id or 0),
        "permissions": ",".join(token.scopes),
    }
    if profile.token_answer == "flat":
        return wire.as_json({**body, "permissions": token.scopes})
    return wire.as_json({"data": [body]})


async def long_token(call: Call) -> wire.Response:
    """GET /access_token?grant_type=ig_exchange_token"""
    if call.params.text("client_secret") != call.profile.app_secret:
        graph.refuse(101, None, "Error validating client secret.")
    token = graph.check_token(call)
    if call.params.text("grant_type") != "ig_exchange_token" or token.kind != "short":
        graph.refuse(
            452, None, "Session key invalid. This could be because the session key has an incorrect format"
        )
    return _long(call, issue(call, "long", token.account_ids, token.scopes, token.client_id, LONG_S))


async def refresh(call: Call) -> wire.Response:
    """GET /refresh_access_token: only for tokens at least 24 hours old and still alive; the old one stays valid"""
    token = graph.check_token(call)
    if call.params.text("grant_type") != "ig_refresh_token" or token.kind != "long":
        graph.refuse(100, None, "(#100) Invalid grant_type or token")
    if call.now - token.created_at < graph.DAY_S:
        graph.refuse(100, None, "(#100) The access token must be at least 24 hours old to be refreshed")
    if INSTAGRAM_SCOPES[0] not in token.scopes:
        graph.refuse(10, None, "(#10) Application does not have permission for this action", 403)
    return _long(call, issue(call, "long", token.account_ids, token.scopes, token.client_id, LONG_S))


async def facebook_token(call: Call) -> wire.Response:
    """GET /vX/oauth/access_token: a code for an hour, or fb_exchange_token for sixty days"""
    given, profile = call.params, call.profile
    if given.text("client_id") != profile.facebook_app_id:
        graph.refuse(
            101, None, "Error validating application. Cannot get application info due to a system error."
        )
    if given.text("client_secret") != profile.facebook_app_secret:
        graph.refuse(1, None, "Error validating client secret.")
    if given.text("grant_type") == "fb_exchange_token":
        old = call.network.store.tokens.get(given.text("fb_exchange_token"))
        if old is None or old.revoked or (old.expires_at or 0) <= call.now:
            graph.refuse(190, 463, "Error validating access token: Session has expired.")
        token = issue(call, "facebook", old.account_ids, old.scopes, old.client_id, LONG_S)
    else:
        code = _redeem(call)
        if code is None:
            graph.refuse(100, 36009, "This authorization code has been used.")
        token = issue(call, "facebook", code.account_ids, code.scopes, code.client_id, SHORT_S)
    body = {"access_token": token.id, "token_type": "bearer"}
    return wire.as_json({**body, "expires_in": round((token.expires_at or 0) - call.now)})


async def pages_of_user(call: Call) -> wire.Response:
    """GET /me/accounts: the pages, each with a token of its own and the Instagram account behind it"""
    token = graph.check_token(call)
    if token.kind != "facebook" or "pages_show_list" not in token.scopes:
        return wire.as_json({"data": []})
    entries = [_page(call, token, key) for key in token.account_ids]
    wanted = graph.fields(call, "id,name,access_token")
    return graph.page_of(
        call, [{n: v for n, v in entry.items() if n in [*wanted, "id"]} for entry in entries]
    )


async def permissions(call: Call) -> wire.Response:
    """GET /me/permissions"""
    token = graph.check_token(call)
    return wire.as_json({"data": [{"permission": scope, "status": "granted"} for scope in token.scopes]})


async def debug_token(call: Call) -> wire.Response:
    """GET /debug_token?input_token=&access_token=APPID|SECRET"""
    profile = call.profile
    apps = {profile.facebook_app_id: profile.facebook_app_secret, profile.app_id: profile.app_secret}
    app_id, _, secret = call.params.text("access_token").partition("|")
    if apps.get(app_id) != secret:
        graph.refuse(190, None, "Invalid OAuth access token signature.")
    token = call.network.store.tokens.get(call.params.text("input_token"))
    if token is None or token.instance != call.instance.name:
        error = {"code": 190, "message": "Invalid OAuth access token"}
        return wire.as_json({"data": {"is_valid": False, "error": error, "scopes": []}})
    alive = not token.revoked and (token.expires_at is None or token.expires_at > call.now)
    data: dict[str, Any] = {
        "app_id": app_id,
        "type": "PAGE" if token.kind == "page" else "USER",
        "is_valid": alive,
        "issued_at": int(token.created_at),
        "expires_at": int(token.expires_at or 0),
        "data_access_expires_at": int(token.created_at + 90 * graph.DAY_S),
        "scopes": token.scopes,
        "granular_scopes": [{"scope": scope, "target_ids": token.account_ids} for scope in token.scopes],
        "user_id": f"77{token.account_ids[0]}",
    }
    if not alive:
        data["error"] = {"code": 190, "subcode": 463, "message": "Error validating access token"}
    return wire.as_json({"data": data})


def issue(
    call: Call, kind: str, account_ids: list[str], scopes: list[str], client_id: str, life_s: float | None
) -> model.Token:
    """A new Graph API token of this kind."""
    head = "EAA" if kind in ("facebook", "page") else "IGAA"
    token = model.Token(
        id=head + secrets.token_hex(70),
        instance=call.instance.name,
        kind=kind,
        client_id=client_id,
        account_id=account_ids[0] if account_ids else None,
        account_ids=account_ids,
        scopes=scopes,
        created_at=call.now,
        expires_at=call.now + life_s if life_s else None,
    )
    call.network.store.keep(token)
    return token


def page_id(account_id: str) -> str:
    """The Facebook page an Instagram account hangs on."""
    return "100" + account_id[3:]


def _page(call: Call, token: model.Token, account_id: str) -> dict[str, Any]:
    account = call.network.store.accounts[account_id]
    life = None if (token.expires_at or 0) - token.created_at > SHORT_S else SHORT_S
    own = next(
        (
            one
            for one in call.network.store.tokens.values()
            if one.kind == "page"
            and one.account_ids == [account_id]
            and not one.revoked
            and one.expires_at is None
        ),
        None,
    )
    own = own or issue(call, "page", [account_id], token.scopes, token.client_id, life)
    body: dict[str, Any] = {
        "id": page_id(account_id),
        "name": f"{account.display_name} Page",
        "access_token": own.id,
    }
    if account.traits.get("account_type", "BUSINESS") != "PERSONAL":
        body["instagram_business_account"] = {
            "id": account.id,
            "username": account.username,
            "name": account.display_name,
            "profile_picture_url": links.avatar_url(call.instance, account),
        }
    return body


def _check_client(call: Call) -> None:
    given, profile = call.params, call.profile
    if given.text("client_id") not in (profile.app_id, profile.facebook_app_id):
        raise wire.Answer(pages.refusal(call, "Invalid platform app: the client_id is not known here.", 400))
    uri = given.text("redirect_uri")
    known = not profile.redirect_uris or uri in profile.redirect_uris
    if not urllib.parse.urlsplit(uri).scheme or not known:
        raise wire.Answer(
            pages.refusal(call, "Invalid redirect_uri: it is not registered for this app.", 400)
        )
    if given.text("response_type", "code") != "code":
        raise wire.Answer(pages.refusal(call, "Invalid response_type.", 400))


def _redeem(call: Call) -> model.Code | None:
    store, given = call.network.store, call.params
    code = store.codes.get(given.text("code").removesuffix("#_"))
    if code is None or code.used or code.expires_at <= call.now or code.instance != call.instance.name:
        return None
    if code.client_id != given.text("client_id") or code.redirect_uri != given.text("redirect_uri"):
        return None
    code.used = True
    store.keep(code)
    return code


def _long(call: Call, token: model.Token) -> wire.Response:
    left = round((token.expires_at or time.time()) - call.now)
    body = {"access_token": token.id, "token_type": "bearer", "expires_in": left}
    return wire.as_json({**body, "permissions": ",".join(token.scopes)})


def _login_error(text: str) -> wire.Answer:
    """The login host has an error shape of its own."""
    return wire.Answer(
        wire.as_json({"error_type": "OAuthException", "code": 400, "error_message": text}, 400)
    )


def _back(uri: str, answer: dict[str, str], tail: str) -> wire.Response:
    extra = urllib.parse.urlencode({name: value for name, value in answer.items() if value})
    return wire.redirect(uri + ("&" if "?" in uri else "?") + extra + tail)
