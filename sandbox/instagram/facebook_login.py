"""Facebook Login, the other way into Instagram: a person's token, and one per page."""

from typing import Any

from sandbox.core import links, model, wire
from sandbox.core.call import Call
from sandbox.instagram import graph, tokens


async def access_token(call: Call) -> wire.Response:
    """GET /vX/oauth/access_token: a code for an hour, or fb_exchange_token for sixty days"""
    given, profile = call.params, call.profile
    if given.text("client_id") != profile.facebook_app_id:
        graph.refuse(101, None, "Error validating application. Cannot get application info due to a system error.")
    if given.text("client_secret") != profile.facebook_app_secret:
        graph.refuse(1, None, "Error validating client secret.")
    if given.text("grant_type") == "fb_exchange_token":
        old = call.network.store.tokens.get(given.text("fb_exchange_token"))
        if old is None or old.revoked or (old.expires_at or 0) <= call.now:
            graph.refuse(190, 463, "Error validating access token: Session has expired.")
        token = tokens.issue(call, "facebook", old.account_ids, old.scopes, old.client_id, tokens.LONG_S)
    else:
        code = tokens.redeem(call)
        if code is None:
            graph.refuse(100, 36009, "This authorization code has been used.")
        token = tokens.issue(call, "facebook", code.account_ids, code.scopes, code.client_id, tokens.SHORT_S)
    body = {"access_token": token.id, "token_type": "bearer"}
    return wire.as_json({**body, "expires_in": round((token.expires_at or 0) - call.now)})


async def pages_of_user(call: Call) -> wire.Response:
    """GET /me/accounts: the pages, each with a token of its own and the Instagram account behind it"""
    token = graph.check_token(call)
    if token.kind != "facebook" or "pages_show_list" not in token.scopes:
        return wire.as_json({"data": []})
    entries = [_page(call, token, key) for key in token.account_ids]
    wanted = graph.fields(call, "id,name,access_token")
    return graph.page_of(call, [{n: v for n, v in entry.items() if n in [*wanted, "id"]} for entry in entries])


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


def page_id(account_id: str) -> str:
    """The Facebook page an Instagram account hangs on."""
    return "100" + account_id[3:]


def _page(call: Call, token: model.Token, account_id: str) -> dict[str, Any]:
    account = call.network.store.accounts[account_id]
    life = None if (token.expires_at or 0) - token.created_at > tokens.SHORT_S else tokens.SHORT_S
    own = next(
        (
            one
            for one in call.network.store.tokens.values()
            if one.kind == "page" and one.account_ids == [account_id] and not one.revoked and one.expires_at is None
        ),
        None,
    )
    own = own or tokens.issue(call, "page", [account_id], token.scopes, token.client_id, life)
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
