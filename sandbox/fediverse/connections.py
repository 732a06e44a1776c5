"""A person connected without the consent page."""

from sandbox.core import accounts, model
from sandbox.core.call import Call
from sandbox.fediverse import grants, oauth


def connect(
    call: Call,
    account: model.Account,
    scopes: list[str] | None,
    app: tuple[str, str | None, str],
    _flavour: str,
) -> accounts.Credentials:
    """A token by a client of that (name, website, redirect URI), for what the network's clients usually ask for."""
    usual = [scope for scope in call.family.scopes if scope in grants.known_scopes(call)]
    usual += [call.profile.who_scope] if call.profile.who_scope == "read" else []
    wanted, (name, website, redirect_uri) = scopes or usual, app
    known = (
        one
        for one in call.network.store.apps.values()
        if one.instance == call.instance.name and one.name == name and one.redirect_uris == [redirect_uri]
    )
    client = next(known, None) or oauth.add_app(call, name, website, [redirect_uri], wanted)
    token = grants.issue(call, client, account, wanted)
    return accounts.credentials(call, account, token, client.client_secret)
