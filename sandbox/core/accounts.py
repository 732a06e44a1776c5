"""Connected accounts without the consent page: what a test (or the demo data) needs in one line."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sandbox.core import model, pages, params, wire
from sandbox.core.instance import Call, Instance
from sandbox.fediverse import grants, oauth
from sandbox.instagram import facebook_login, instagram_login

if TYPE_CHECKING:
    from sandbox.core.network import Network

_APP = "PostFlow"
_USUAL = {
    "mastodon": ["profile", "read:accounts", "read:statuses", "write:media", "write:statuses"],
    "gotosocial": ["profile", "read:accounts", "read:statuses", "write:media", "write:statuses"],
    "pixelfed": ["read", "write"],
    "instagram": instagram_login.INSTAGRAM_SCOPES,
}
FACEBOOK_SCOPES = ["instagram_basic", "instagram_content_publish", "pages_show_list", "pages_read_engagement"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """All a client would have stored after connecting. `account_id` is the remote id; expires_at is epoch
    seconds or None.

    On Instagram with flavour="facebook", access_token is the page's and user_token the person's.
    """

    instance: str
    url: str
    handle: str
    account_id: str
    access_token: str = field(repr=False)
    scopes: list[str]
    client_id: str
    client_secret: str = field(repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    created_at: float = 0.0
    page_id: str | None = None
    user_token: str | None = field(default=None, repr=False)


def connect(
    network: "Network",
    instance: Instance,
    handle: str,
    *,
    scopes: list[str] | str | None = None,
    app_name: str = _APP,
    website: str | None = None,
    redirect_uri: str = "http://127.0.0.1/callback",
    flavour: str = "instagram",
    **traits: Any,
) -> Credentials:
    """Make (or find) a person and give them a token. traits: locked, silenced, disabled, locale,
    pending, unconfirmed, never_logged_in, default_visibility, language, display_name, account_type (BUSINESS | MEDIA_CREATOR |
    PERSONAL), restricted.
    """
    call = quiet_call(network, instance)
    handle = handle.lstrip("@")
    found = pages.find_account(call, handle)
    account = found or pages.add_account(call, handle, dict(traits))
    if found:
        found.traits |= traits
        network.store.keep(found)
    wanted = scopes.split() if isinstance(scopes, str) else scopes
    if instance.profile.family == "instagram":
        made = _connect_instagram(call, account, wanted, flavour)
    else:
        made = _connect_fediverse(call, account, wanted, (app_name, website, redirect_uri))
    network.store.flush()
    return made


def end_tokens(network: "Network", handle: str, instance: str | None, do: str) -> int:
    """Expire or revoke every token of a person; returns how many."""
    ended = 0
    for token in list(network.store.tokens.values()):
        names = {network.store.accounts[key].username for key in token.account_ids} | set(token.account_ids)
        if handle.lstrip("@") in names and instance in (None, token.instance):
            token.revoked = token.revoked or do == "revoke"
            token.expires_at = network.clock.now() - 1 if do == "expire" else token.expires_at
            network.store.keep(token)
            ended += 1
    network.store.flush()
    return ended


def quiet_call(network: "Network", instance: Instance) -> Call:
    """A call that came over no wire, for doing things from the inside."""
    request = wire.Request("GET", "/", "", {}, b"", 0, False, "inside")
    return Call(network, instance, request, params.Params({}, {}))


def _connect_fediverse(
    call: Call, account: model.Account, scopes: list[str] | None, app: tuple[str, str | None, str]
) -> Credentials:
    usual = [scope for scope in _USUAL.get(call.profile.family, []) if scope in grants.known_scopes(call)]
    usual += [call.profile.who_scope] if call.profile.who_scope == "read" else []
    wanted, (name, website, redirect_uri) = scopes or usual, app
    known = (
        one
        for one in call.network.store.apps.values()
        if one.instance == call.instance.name and one.name == name and one.redirect_uris == [redirect_uri]
    )
    client = next(known, None) or oauth.add_app(call, name, website, [redirect_uri], wanted)
    token = grants.issue(call, client, account, wanted)
    return _credentials(call, account, token, client.client_secret)


def _connect_instagram(call: Call, account: model.Account, scopes: list[str] | None, flavour: str) -> Credentials:
    profile = call.profile
    if flavour != "facebook":
        wanted = scopes or instagram_login.INSTAGRAM_SCOPES
        token = instagram_login.issue(call, "long", [account.id], wanted, profile.app_id, instagram_login.LONG_S)
        return _credentials(call, account, token, profile.app_secret)
    wanted = scopes or FACEBOOK_SCOPES
    app_id = profile.facebook_app_id
    user = instagram_login.issue(call, "facebook", [account.id], wanted, app_id, instagram_login.LONG_S)
    page = instagram_login.issue(call, "page", [account.id], wanted, app_id, None)
    extra = {"page_id": facebook_login.page_id(account.id), "user_token": user.id}
    return _credentials(call, account, page, profile.facebook_app_secret, **extra)


def _credentials(call: Call, account: model.Account, token: model.Token, secret: str, **extra: str) -> Credentials:
    return Credentials(
        instance=call.instance.name,
        url=call.instance.url,
        handle=account.username,
        account_id=account.id,
        access_token=token.id,
        scopes=token.scopes,
        client_id=token.client_id,
        client_secret=secret,
        refresh_token=token.refresh_token,
        expires_at=token.expires_at,
        created_at=token.created_at,
        page_id=extra.get("page_id"),
        user_token=extra.get("user_token"),
    )
