"""OAuth as the fediverse speaks it: app registration, consent, tokens, revocation (RFC 6749, 7009, 8414)."""

import secrets
import urllib.parse

from sandbox.core import model, pages, wire
from sandbox.core.call import Call
from sandbox.core.family import Route
from sandbox.fediverse import grants

OOB = "urn:ietf:wg:oauth:2.0:oob"
CODE_TTL_S = 600
VAPID = "BAhxXyHfAoMqrZECjRI56F5QrE4ynVlkZFMdKSpTIsWRNoWUVgut-Bnz2xsMSwiN4AF0b4I7ixF24OwiicOJivw="


async def register(call: Call) -> wire.Response:
    """POST /api/v1/apps"""
    family, given = call.profile.family, call.params
    window = call.network.limits.count(call.instance, "apps", call.request.peer, 5, 600)
    if window.over:
        raise wire.Answer(wire.as_json({"error": "Too many requests"}, 429))
    name = given.text("client_name").strip()
    uris = [uri for entry in given.many("redirect_uris") for uri in entry.split()]
    if not name or not uris or not all(_usable(uri) for uri in uris):
        what = "Redirect URI must be an absolute URI." if name else "Application name can't be blank"
        text = f"Bad Request: {what}" if family == "gotosocial" else f"Validation failed: {what}"
        status = {"gotosocial": 400, "pixelfed": 500}.get(family, 422)
        raise wire.Answer(wire.as_json({"error": text}, status))
    scopes = given.text("scopes", "read").split() or ["read"]
    if family == "mastodon" and not set(scopes) <= grants.known_scopes(call):
        text = "Validation failed: Scopes doesn't match configured on the server."
        raise wire.Answer(wire.as_json({"error": text}, 422))
    app = add_app(call, name, given.text("website") or None, uris, scopes)
    return wire.as_json(_app_body(call, app))


def add_app(call: Call, name: str, website: str | None, uris: list[str], scopes: list[str]) -> model.App:
    """Keep a new client."""
    store = call.network.store
    pixelfed = call.profile.family == "pixelfed"
    number = store.ulid() if call.profile.family == "gotosocial" else store.small_id()
    app = model.App(
        id=number if pixelfed else secrets.token_urlsafe(32),
        instance=call.instance.name,
        name=name,
        website=website,
        redirect_uris=uris,
        scopes=scopes,
        client_id="",
        client_secret=secrets.token_urlsafe(32),
        created_at=call.now,
    )
    app.client_id = app.id
    store.keep(app)
    return app


async def authorize(call: Call) -> wire.Response:
    """GET /oauth/authorize: who wants what, and may they?"""
    app = _asking_app(call)
    return pages.consent(call, app.name, app.website, _asked_scopes(call, app))


async def decide(call: Call) -> wire.Response:
    """POST /oauth/authorize: the person pressed Allow or Deny."""
    app, given = _asking_app(call), call.params
    scopes, uri = _asked_scopes(call, app), given.text("redirect_uri")
    if given.text("decision") != "allow":
        text = "The resource owner or authorization server denied the request."
        return _back(uri, given.text("state"), error="access_denied", error_description=text)
    account = pages.chosen_account(call)
    code = model.Code(
        id=secrets.token_urlsafe(32),
        instance=call.instance.name,
        client_id=app.client_id,
        account_ids=[account.id],
        redirect_uri=uri,
        scopes=scopes,
        challenge=given.text("code_challenge") or None,
        expires_at=call.now + CODE_TTL_S,
    )
    call.network.store.keep(code)
    if uri == OOB:
        return pages.show_code(call, code.id)
    return _back(uri, given.text("state"), code=code.id)


async def token(call: Call) -> wire.Response:
    """POST /oauth/token"""
    grant = call.params.text("grant_type")
    if grant not in ("authorization_code", "client_credentials", "refresh_token") or (
        grant == "refresh_token" and call.profile.family != "pixelfed"
    ):
        text = "The authorization grant type is not supported by the authorization server."
        grants.refuse(call, 400, "unsupported_grant_type", text)
    app = grants.authenticated_app(call)
    if grant == "authorization_code":
        return _token_body(call, grants.redeem(call, app))
    if grant == "refresh_token":
        return _token_body(call, grants.rotate(call, app))
    scopes = call.params.text("scope", "read").split()
    if not set(scopes) <= grants.within(call, app):
        grants.refuse(call, 400, "invalid_scope", "The requested scope is invalid, unknown, or malformed.")
    return _token_body(call, grants.issue(call, app, None, scopes, kind="app"))


async def revoke(call: Call) -> wire.Response:
    """POST /oauth/revoke: 200 for unknown tokens too; 403 when the token is somebody else's."""
    app = grants.authenticated_app(call)
    found = call.network.store.tokens.get(call.params.text("token"))
    if found and found.instance == call.instance.name:
        if found.client_id != app.client_id:
            text = "You are not authorized to revoke this token"
            grants.refuse(call, 403, "unauthorized_client", text)
        found.revoked = True
        call.network.store.keep(found)
    return wire.as_json({})


async def metadata(call: Call) -> wire.Response:
    """GET /.well-known/oauth-authorization-server (Mastodon 4.3 and newer)"""
    if not call.profile.oauth_metadata:
        return pages.not_found(call)
    body = {
        "issuer": call.url("/"),
        "service_documentation": "https://docs.joinmastodon.org/",
        "authorization_endpoint": call.url("/oauth/authorize"),
        "token_endpoint": call.url("/oauth/token"),
        "app_registration_endpoint": call.url("/api/v1/apps"),
        "revocation_endpoint": call.url("/oauth/revoke"),
        "scopes_supported": sorted(grants.SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "grant_types_supported": ["authorization_code", "client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
    }
    if call.profile.at_least("4.4"):
        body["userinfo_endpoint"] = call.url("/oauth/userinfo")
    return wire.as_json(body)


def _asking_app(call: Call) -> model.App:
    """The app behind an authorisation request; shows an error page when it or its redirect address is
    unknown.
    """
    app = call.network.store.apps.get(call.params.text("client_id"))
    if app is None or app.instance != call.instance.name:
        raise wire.Answer(pages.refusal(call, grants.CLIENT_TEXT, 401))
    uris = [urllib.parse.unquote(uri) for uri in app.redirect_uris] + app.redirect_uris
    if call.params.text("redirect_uri") not in uris:
        raise wire.Answer(pages.refusal(call, "The redirect uri included is not valid.", 400))
    if call.params.text("response_type") != "code":
        text = "The authorization server does not support this response type."
        raise wire.Answer(pages.refusal(call, text, 400))
    return app


def _asked_scopes(call: Call, app: model.App) -> list[str]:
    given, family = call.params, call.profile.family
    usual = "read write follow push" if family == "pixelfed" else "read"
    scopes = given.text("scope", usual).split()
    method = given.text("code_challenge_method") if given.has("code_challenge") else "S256"
    error, text = "", ""
    if not set(scopes) <= grants.within(call, app):
        error, text = "invalid_scope", "The requested scope is invalid, unknown, or malformed."
    elif call.profile.oauth_metadata and method != "S256":
        error, text = "invalid_code_challenge_method", "The code challenge method must be S256."
    if error:
        answer = _back(given.text("redirect_uri"), given.text("state"), error=error, error_description=text)
        raise wire.Answer(answer)
    return scopes


def _token_body(call: Call, token: model.Token) -> wire.Response:
    if call.profile.family == "pixelfed" and token.refresh_token:
        body = {"token_type": "Bearer", "expires_in": round((token.expires_at or 0) - call.now)}
        return wire.as_json({**body, "access_token": token.id, "refresh_token": token.refresh_token})
    body = {"access_token": token.id, "token_type": "Bearer", "scope": " ".join(token.scopes)}
    return wire.as_json({**body, "created_at": int(token.created_at)})


def _app_body(call: Call, app: model.App) -> dict[str, object]:
    number = app.id if call.profile.family == "pixelfed" else str(len(call.network.store.apps) + 1)
    body: dict[str, object] = {
        "id": number,
        "name": app.name,
        "website": None if call.profile.family == "pixelfed" else app.website,
        "redirect_uri": "\n".join(app.redirect_uris),
        "client_id": app.client_id,
        "client_secret": app.client_secret,
        "vapid_key": None if call.profile.family == "pixelfed" else VAPID,
    }
    if call.profile.oauth_metadata or call.profile.family == "gotosocial":
        body |= {"scopes": app.scopes, "redirect_uris": app.redirect_uris}
    if call.profile.oauth_metadata and call.profile.at_least("4.4"):
        body["client_secret_expires_at"] = 0
    return body


def _usable(uri: str) -> bool:
    return uri == OOB or bool(urllib.parse.urlsplit(urllib.parse.unquote(uri)).scheme)


def _back(uri: str, state: str, **answer: str) -> wire.Response:
    if uri == OOB:
        return wire.as_json(answer, 400)
    extra = urllib.parse.urlencode({**answer, **({"state": state} if state else {})})
    return wire.redirect(uri + ("&" if "?" in uri else "?") + extra)


ROUTES: list[Route] = [
    ("POST", r"/api/v1/apps", register),
    ("GET", r"/oauth/authorize", authorize),
    ("POST", r"/oauth/authorize", decide),
    ("POST", r"/oauth/token", token),
]
