"""Addresses of the Mastodon family: snac has others than the rest."""

from sandbox.core import links, model
from sandbox.core.instance import Instance


def profile_url(instance: Instance, account: model.Account) -> str:
    """/@carol, on snac /carol"""
    if instance.profile.ids == "snac":
        return f"{instance.url}/{account.username}"
    return links.profile_url(instance, account)


def status_url(instance: Instance, account: model.Account, status: model.Status) -> str:
    """/@carol/117020574470656417, on snac /carol/p/1795815314.999906"""
    last = f"p/{status.details['stamp']}" if "stamp" in status.details else status.id
    return f"{profile_url(instance, account)}/{last}"
