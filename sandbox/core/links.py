"""Addresses of what people see: profiles, permalinks, avatars, media files."""

from sandbox.core import model
from sandbox.core.instance import Instance
from sandbox.core.media import EXTENSIONS


def profile_url(instance: Instance, account: model.Account) -> str:
    """The page of a person, as most have it."""
    return f"{instance.url}/@{account.username}"


def status_url(instance: Instance, account: model.Account, status: model.Status) -> str:
    """The permalink of a status, as most have it."""
    return f"{profile_url(instance, account)}/{status.id}"


def avatar_url(instance: Instance, account: model.Account) -> str:
    """A small PNG, drawn from the name."""
    return f"{instance.url}/avatars/{account.username}.png"


def media_url(instance: Instance, upload: model.Upload, size: str = "original") -> str:
    """The file of an upload; size is original or small (the same bytes here)."""
    extension = EXTENSIONS.get(upload.mime, "bin")
    return f"{instance.url}/system/media/{upload.id}/{size}/{upload.sha256[:16]}.{extension}"
