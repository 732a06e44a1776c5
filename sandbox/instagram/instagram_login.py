"""Instagram Login, with a refreshable token of its own; its consent page is that of Facebook Login, too."""

import secrets
import time
import urllib.parse

from sandbox.core import model, pages, wire
from sandbox.core.call import Call
from sandbox.instagram import facebook_login, graph, tokens

CODE_TTL_S = 3600


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
        return await facebook_login.access_token(call)
    if given.text("client_id") != profile.app_id or given.text("client_secret") != profile.app_secret:
        raise _login_error("Error validating client secret.")
    if given.text("grant_type") != "authorization_code":
        raise _login_error("Invalid grant_type")
    code = tokens.redeem(call)
    if code is None:
        raise _login_error("This authorization code has been used or is invalid")
    token = tokens.issue(call, "short", code.account_ids[:1], code.scopes, profile.app_id, tokens.SHORT_S)
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
        graph.refuse(452, None, "Session key invalid. This could be because the session key has an incorrect format")
    return _long(call, tokens.issue(call, "long", token.account_ids, token.scopes, token.client_id, tokens.LONG_S))


async def refresh(call: Call) -> wire.Response:
    """GET /refresh_access_token: only for tokens at least 24 hours old and still alive; the old one stays
    valid
    """
    token = graph.check_token(call)
    if call.params.text("grant_type") != "ig_refresh_token" or token.kind != "long":
        graph.refuse(100, None, "(#100) Invalid grant_type or token")
    if call.now - token.created_at < graph.DAY_S:
        graph.refuse(100, None, "(#100) The access token must be at least 24 hours old to be refreshed")
    if tokens.INSTAGRAM_SCOPES[0] not in token.scopes:
        graph.refuse(10, None, "(#10) Application does not have permission for this action", 403)
    return _long(call, tokens.issue(call, "long", token.account_ids, token.scopes, token.client_id, tokens.LONG_S))


def _check_client(call: Call) -> None:
    given, profile = call.params, call.profile
    if given.text("client_id") not in (profile.app_id, profile.facebook_app_id):
        raise wire.Answer(pages.refusal(call, "Invalid platform app: the client_id is not known here.", 400))
    uri = given.text("redirect_uri")
    known = not profile.redirect_uris or uri in profile.redirect_uris
    if not urllib.parse.urlsplit(uri).scheme or not known:
        raise wire.Answer(pages.refusal(call, "Invalid redirect_uri: it is not registered for this app.", 400))
    if given.text("response_type", "code") != "code":
        raise wire.Answer(pages.refusal(call, "Invalid response_type.", 400))


def _long(call: Call, token: model.Token) -> wire.Response:
    left = round((token.expires_at or time.time()) - call.now)
    body = {"access_token": token.id, "token_type": "bearer", "expires_in": left}
    return wire.as_json({**body, "permissions": ",".join(token.scopes)})


def _login_error(text: str) -> wire.Answer:
    """The login host has an error shape of its own."""
    return wire.Answer(wire.as_json({"error_type": "OAuthException", "code": 400, "error_message": text}, 400))


def _back(uri: str, answer: dict[str, str], tail: str) -> wire.Response:
    extra = urllib.parse.urlencode({name: value for name, value in answer.items() if value})
    return wire.redirect(uri + ("&" if "?" in uri else "?") + extra + tail)
