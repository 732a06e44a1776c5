"""Addresses of what people see: permalinks, profiles, avatars, media files."""

from typing import TYPE_CHECKING

from sandbox.core import model
from sandbox.core.media import EXTENSIONS

if TYPE_CHECKING:
    from sandbox.core.instance import Instance
    from sandbox.core.network import Network

_SHORT = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def status_url(network: "Network", status: model.Status) -> str:
    """The permalink of a status on its instance."""
    instance = network.instances.get(status.instance)
    if instance is None:
        return ""
    account = network.store.accounts[status.account_id]
    if instance.profile.family == "instagram":
        section = "reel" if status.details.get("media_product_type") == "REELS" else "p"
        return f"{instance.url}/{section}/{shortcode(status.id)}/"
    if instance.profile.family == "pixelfed":
        return f"{instance.url}/p/{account.username}/{status.id}"
    if "stamp" in status.details:
        return snac_url(instance, account, status.details["stamp"])
    middle = "statuses/" if instance.profile.family == "gotosocial" else ""
    return f"{profile_url(instance, account)}/{middle}{status.id}"


def snac_url(instance: "Instance", account: model.Account, stamp: str) -> str:
    """/carol/p/1795815314.999906"""
    return f"{profile_url(instance, account)}/p/{stamp}"


def profile_url(instance: "Instance", account: model.Account) -> str:
    """The page of a person."""
    plain = instance.profile.family in ("pixelfed", "instagram") or instance.profile.ids == "snac"
    at = "" if plain else "@"
    return f"{instance.url}/{at}{account.username}"


def avatar_url(instance: "Instance", account: model.Account) -> str:
    """A small PNG, drawn from the name."""
    return f"{instance.url}/avatars/{account.username}.png"


def media_url(instance: "Instance", upload: model.Upload, size: str = "original") -> str:
    """The file of an upload; size is original or small (the same bytes here)."""
    extension = EXTENSIONS.get(upload.mime, "bin")
    return f"{instance.url}/system/media/{upload.id}/{size}/{upload.sha256[:16]}.{extension}"


def shortcode(number: str) -> str:
    """Instagram's way of writing a number in a link."""
    value, code = int(number), ""
    while value:
        value, digit = divmod(value, 64)
        code = _SHORT[digit] + code
    return code


def from_shortcode(code: str) -> str:
    """The number behind a shortcode; empty when it is none."""
    value = 0
    for letter in code:
        digit = _SHORT.find(letter)
        if digit < 0:
            return ""
        value = value * 64 + digit
    return str(value)
