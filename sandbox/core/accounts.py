"""Connected accounts without the consent page: what a test (or the demo data) needs in one line."""

from dataclasses import dataclass, field
from typing import Any

from sandbox.core import model, params, wire
from sandbox.core.call import Call
from sandbox.core.instance import Instance
from sandbox.core.network import Network


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
    network: Network,
    instance: Instance,
    handle: str,
    *,
    scopes: list[str] | str | None = None,
    app_name: str = "PostFlow",
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
    found = find(call, handle)
    account = found or add(call, handle, dict(traits))
    if found:
        found.traits |= traits
        network.store.keep(found)
    wanted = scopes.split() if isinstance(scopes, str) else scopes
    assert call.family.connect is not None, "nobody connects to the control port"
    made = call.family.connect(call, account, wanted, (app_name, website, redirect_uri), flavour)
    network.store.flush()
    return made


def add(call: Call, handle: str, traits: dict[str, Any]) -> model.Account:
    """A new person on this instance."""
    store = call.network.store
    account = model.Account(
        id=call.family.account_id(store),
        instance=call.instance.name,
        username=handle,
        display_name=traits.pop("display_name", "") or handle.replace("_", " ").replace(".", " ").title(),
        created_at=call.now,
        traits=traits,
    )
    store.keep(account)
    return account


def find(call: Call, handle: str) -> model.Account | None:
    """A person of this instance by name."""
    for one in call.network.store.accounts.values():
        if one.instance == call.instance.name and one.username == handle:
            return one
    return None


def end_tokens(network: Network, handle: str, instance: str | None, do: str) -> int:
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


def quiet_call(network: Network, instance: Instance) -> Call:
    """A call that came over no wire, for doing things from the inside."""
    request = wire.Request("GET", "/", "", {}, b"", 0, False, "inside")
    return Call(network, instance, request, params.Params({}, {}))


def credentials(call: Call, account: model.Account, token: model.Token, secret: str, **extra: str) -> Credentials:
    """What a client would have stored with this token."""
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
