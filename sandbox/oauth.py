"""OAuth as the fediverse speaks it: app registration, the consent page, codes, tokens, refresh and revocation.

Differences: Mastodon hands the same token out again for the same app, person and scopes and never lets it expire;
Pixelfed's last 365 days and rotate with their refresh token; GoToSocial answers 400 where Mastodon says 401.
"""

import base64
import binascii
import hashlib
import secrets
import urllib.parse
from typing import NoReturn

from sandbox import model, pages, wire
from sandbox.instance import Call, Route

OOB = "urn:ietf:wg:oauth:2.0:oob"
CODE_TTL_S = 600
YEAR_S = 365 * 86400
PIXELFED_SCOPES = {"read", "write", "follow", "push", "admin:read", "admin:write"}
SCOPES = {
    *("read", "write", "follow", "push", "profile"),
    *(
        f"read:{name}"
        for name in ("accounts", "statuses", "notifications", "lists", "search", "filters", "follows")
    ),
    *(
        f"write:{name}"
        for name in ("accounts", "statuses", "media", "lists", "filters", "follows", "favourites")
    ),
}
_GRANT_TEXT = (
    "The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used in the "
    "authorization request, or was issued to another client."
)
_CLIENT_TEXT = (
    "Client authentication failed due to unknown client, no client authentication included, or unsupported "
    "authentication method."
)
VAPID = "BAhxXyHfAoMqrZECjRI56F5QrE4ynVlkZFMdKSpTIsWRNoWUVgut-Bnz2xsMSwiN4AF0b4I7ixF24OwiicOJivw="


async def register(call: Call) -> wire.Response:
    """POST /api/v1/apps"""
    family, given = call.profile.family, call.params
    window = call.network.limits.count(call, "apps", call.request.peer, 5, 600)
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
    if family == "mastodon" and not set(scopes) <= known_scopes(call):
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
        _refuse(call, 400, "unsupported_grant_type", text)
    app = _authenticated_app(call)
    if grant == "authorization_code":
        return _token_body(call, _redeem(call, app))
    if grant == "refresh_token":
        return _token_body(call, _rotate(call, app))
    scopes = call.params.text("scope", "read").split()
    if not set(scopes) <= set(_with_children(app.scopes)):
        _refuse(call, 400, "invalid_scope", "The requested scope is invalid, unknown, or malformed.")
    return _token_body(call, issue(call, app, None, scopes, kind="app"))


async def revoke(call: Call) -> wire.Response:
    """POST /oauth/revoke: 200 for unknown tokens too; 403 when the token is somebody else's."""
    app = _authenticated_app(call)
    found = call.network.store.tokens.get(call.params.text("token"))
    if found and found.instance == call.instance.name:
        if found.client_id != app.client_id:
            text = "You are not authorized to revoke this token"
            _refuse(call, 403, "unauthorized_client", text)
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
        "scopes_supported": sorted(SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query", "fragment", "form_post"],
        "grant_types_supported": ["authorization_code", "client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
    }
    if call.profile.at_least("4.4"):
        body["userinfo_endpoint"] = call.url("/oauth/userinfo")
    return wire.as_json(body)


def issue(
    call: Call, app: model.App, account: model.Account | None, scopes: list[str], kind: str = "user"
) -> model.Token:
    """A token for this app and person; Mastodon gives the same one again."""
    store, family = call.network.store, call.profile.family
    who = account.id if account else None
    if family == "mastodon" and (same := _reusable(call, app, who, scopes)):
        return same
    fresh = model.Token(
        id=_token_text(family),
        instance=call.instance.name,
        kind=kind,
        client_id=app.client_id,
        account_id=who,
        account_ids=[who] if who else [],
        scopes=scopes,
        created_at=call.now,
    )
    if family == "pixelfed" and account:
        fresh.expires_at = call.now + YEAR_S
        fresh.refresh_token = "def50200" + secrets.token_hex(300)
        fresh.refresh_expires_at = call.now + 400 * 86400
    store.keep(fresh)
    return fresh


def known_scopes(call: Call) -> set[str]:
    """The scopes this server knows."""
    if call.profile.family == "pixelfed":
        return PIXELFED_SCOPES
    if call.profile.software in ("mastodon", "hometown") and not call.profile.at_least("4.3"):
        return SCOPES - {"profile"}
    return SCOPES


def allows(scopes: list[str], wanted: str) -> bool:
    """Does `write` cover `write:media`? It does."""
    return wanted in scopes or wanted.partition(":")[0] in scopes


def _asking_app(call: Call) -> model.App:
    """The app behind an authorisation request; shows an error page when it or its redirect address is unknown."""
    app = call.network.store.apps.get(call.params.text("client_id"))
    if app is None or app.instance != call.instance.name:
        raise wire.Answer(pages.refusal(call, _CLIENT_TEXT, 401))
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
    within = known_scopes(call) if family == "pixelfed" else set(_with_children(app.scopes))
    problem = ""
    if not set(scopes) <= within:
        problem = "invalid_scope", "The requested scope is invalid, unknown, or malformed."
    elif call.profile.oauth_metadata and given.has("code_challenge"):
        if given.text("code_challenge_method") != "S256":
            problem = "invalid_code_challenge_method", "The code challenge method must be S256."
    if problem:
        error, text = problem
        uri = given.text("redirect_uri")
        raise wire.Answer(_back(uri, given.text("state"), error=error, error_description=text))
    return scopes


def _redeem(call: Call, app: model.App) -> model.Token:
    store, given = call.network.store, call.params
    code = store.codes.get(given.text("code"))
    good = (
        code is not None
        and code.instance == call.instance.name
        and code.client_id == app.client_id
        and not code.used
        and code.expires_at > call.now
        and code.redirect_uri == given.text("redirect_uri")
        and _verified(call, code.challenge, given.text("code_verifier"))
    )
    if code is None or not good:
        _refuse(call, 400, "invalid_grant", _GRANT_TEXT)
    code.used = True
    store.keep(code)
    return issue(call, app, store.accounts[code.account_ids[0]], code.scopes)


def _rotate(call: Call, app: model.App) -> model.Token:
    """Pixelfed: the old access token and the old refresh token die at once."""
    store = call.network.store
    old = store.tokens.get(store.by_refresh.get(call.params.text("refresh_token"), ""))
    if (
        old is None
        or old.revoked
        or old.client_id != app.client_id
        or (old.refresh_expires_at or 0) < call.now
    ):
        text = "The refresh token is invalid."
        body = {"error": "invalid_request", "error_description": text, "hint": "Token has been revoked"}
        raise wire.Answer(wire.as_json({**body, "message": text}, 401))
    old.revoked = True
    store.keep(old)
    return issue(call, app, store.accounts[old.account_id or ""], old.scopes)


def _verified(call: Call, challenge: str | None, verifier: str) -> bool:
    if challenge is None or (call.profile.family == "mastodon" and not call.profile.oauth_metadata):
        return True
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge


def _authenticated_app(call: Call) -> model.App:
    client_id, secret = call.params.text("client_id"), call.params.text("client_secret")
    scheme, _, basic = call.request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            client_id, _, secret = base64.b64decode(basic).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            client_id = ""
    app = call.network.store.apps.get(client_id)
    if app is None or app.instance != call.instance.name or app.client_secret != secret:
        status = 400 if call.profile.family == "gotosocial" else 401
        _refuse(call, status, "invalid_client", _CLIENT_TEXT)
    return app


def _reusable(call: Call, app: model.App, who: str | None, scopes: list[str]) -> model.Token | None:
    for token in call.network.store.tokens.values():
        same = token.client_id == app.client_id and token.account_id == who
        if same and not token.revoked and token.expires_at is None and set(token.scopes) == set(scopes):
            return token
    return None


def _token_text(family: str) -> str:
    if family != "pixelfed":
        return secrets.token_urlsafe(32)
    head = base64.urlsafe_b64encode(b'{"typ":"JWT","alg":"RS256"}').rstrip(b"=").decode()
    return f"{head}.{secrets.token_urlsafe(240)}.{secrets.token_urlsafe(512)}"


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
    if call.profile.oauth_metadata:
        body |= {"scopes": app.scopes, "redirect_uris": app.redirect_uris}
    if call.profile.oauth_metadata and call.profile.at_least("4.4"):
        body["client_secret_expires_at"] = 0
    return body


def _with_children(scopes: list[str]) -> list[str]:
    narrow = [scope for scope in SCOPES if scope.partition(":")[0] in scopes]
    return [*scopes, *narrow, *(["profile"] if "read" in scopes else [])]


def _usable(uri: str) -> bool:
    return uri == OOB or bool(urllib.parse.urlsplit(urllib.parse.unquote(uri)).scheme)


def _back(uri: str, state: str, **answer: str) -> wire.Response:
    if uri == OOB:
        return wire.as_json(answer, 400)
    extra = urllib.parse.urlencode({**answer, **({"state": state} if state else {})})
    return wire.redirect(uri + ("&" if "?" in uri else "?") + extra)


def _refuse(call: Call, status: int, error: str, text: str) -> NoReturn:
    header = f'Bearer realm="Doorkeeper", error="{error}", error_description="{text}"'
    headers = [("WWW-Authenticate", header)] if call.profile.family == "mastodon" else []
    raise wire.Answer(wire.as_json({"error": error, "error_description": text}, status, headers))


ROUTES: list[Route] = [
    ("POST", r"/api/v1/apps", register),
    ("GET", r"/oauth/authorize", authorize),
    ("POST", r"/oauth/authorize", decide),
    ("POST", r"/oauth/token", token),
]
