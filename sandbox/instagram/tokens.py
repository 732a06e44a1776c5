"""Graph API tokens: how long each kind lives, what it may, and the code one is given for."""

import secrets

from sandbox.core import model
from sandbox.core.call import Call

SHORT_S = 3600
LONG_S = 5_183_944
INSTAGRAM_SCOPES = ["instagram_business_basic", "instagram_business_content_publish"]


def publish_permission(token: model.Token) -> str:
    """The permission publishing needs with this kind of token."""
    return "instagram_content_publish" if token.kind in ("facebook", "page") else INSTAGRAM_SCOPES[1]


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


def redeem(call: Call) -> model.Code | None:
    """The code, used up; None when it is unknown, late, used, or another client's."""
    store, given = call.network.store, call.params
    code = store.codes.get(given.text("code").removesuffix("#_"))
    if code is None or code.used or code.expires_at <= call.now or code.instance != call.instance.name:
        return None
    if code.client_id != given.text("client_id") or code.redirect_uri != given.text("redirect_uri"):
        return None
    code.used = True
    store.keep(code)
    return code
