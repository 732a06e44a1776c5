"""The tokens behind the fediverse's logins: which client asks, what a code is worth, how tokens are renewed.

Mastodon hands the same token out again for the same app, person and scopes and never lets it expire;
Pixelfed's last 365 days and rotate with their refresh token; GoToSocial answers 400 where Mastodon says 401.
"""

import base64
import binascii
import hashlib
import secrets
from typing import NoReturn

from sandbox.core import model, wire
from sandbox.core.call import Call

YEAR_S = 365 * 86400
PIXELFED_SCOPES = {"read", "write", "follow", "push", "admin:read", "admin:write"}
SCOPES = {
    *("read", "write", "follow", "push", "profile"),
    *(f"read:{name}" for name in ("accounts", "statuses", "notifications", "lists", "search", "filters", "follows")),
    *(f"write:{name}" for name in ("accounts", "statuses", "media", "lists", "filters", "follows", "favourites")),
}
_GRANT_TEXT = (
    "The provided authorization grant is invalid, expired, revoked, does not match the redirection URI used "
    "in the authorization request, or was issued to another client."
)
CLIENT_TEXT = (
    "Client authentication failed due to unknown client, no client authentication included, or unsupported "
    "authentication method."
)


def redeem(call: Call, app: model.App) -> model.Token:
    """A token for a code: once, in time, for the right client, address and verifier."""
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
        refuse(call, 400, "invalid_grant", _GRANT_TEXT)
    code.used = True
    store.keep(code)
    return issue(call, app, store.accounts[code.account_ids[0]], code.scopes)


def rotate(call: Call, app: model.App) -> model.Token:
    """Pixelfed: the old access token and the old refresh token die at once."""
    store = call.network.store
    old = store.tokens.get(store.by_refresh.get(call.params.text("refresh_token"), ""))
    if old is None or old.revoked or old.client_id != app.client_id or (old.refresh_expires_at or 0) < call.now:
        text = "The refresh token is invalid."
        body = {"error": "invalid_request", "error_description": text, "hint": "Token has been revoked"}
        raise wire.Answer(wire.as_json({**body, "message": text}, 401))
    old.revoked = True
    store.keep(old)
    return issue(call, app, store.accounts[old.account_id or ""], old.scopes)


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


def authenticated_app(call: Call) -> model.App:
    """The client by its id and secret, from the form or a Basic header."""
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
        refuse(call, status, "invalid_client", CLIENT_TEXT)
    return app


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


def within(call: Call, app: model.App) -> set[str]:
    """What this client may ask for: on Mastodon exactly what it registered, elsewhere children too."""
    if call.profile.family == "pixelfed":
        return PIXELFED_SCOPES
    if call.profile.family == "mastodon":
        return set(app.scopes)
    return {scope for scope in SCOPES if allows(app.scopes, scope)}


def refuse(call: Call, status: int, error: str, text: str) -> NoReturn:
    """Stop with an OAuth error; Doorkeeper repeats it in WWW-Authenticate."""
    header = f'Bearer realm="Doorkeeper", error="{error}", error_description="{text}"'
    headers = [("WWW-Authenticate", header)] if call.profile.family == "mastodon" else []
    raise wire.Answer(wire.as_json({"error": error, "error_description": text}, status, headers))


def _verified(call: Call, challenge: str | None, verifier: str) -> bool:
    if challenge is None or (call.profile.family == "mastodon" and not call.profile.oauth_metadata):
        return True
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge


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
