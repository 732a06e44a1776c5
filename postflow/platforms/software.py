"""Which server is it? nodeinfo decides, never the host's name; a table says how far each software can be trusted."""

import re
from collections.abc import Mapping
from typing import Any

import httpx

from postflow.errors import ConnectError, PublishError
from postflow.models import Capabilities, Limits, PollLimits, Visibility
from postflow.platforms import answers

PUBLIC_ONLY = (Visibility.public, Visibility.unlisted, Visibility.private)


async def detect(http: httpx.AsyncClient, base_url: str) -> tuple[str, str]:
    """(software, version), lower case. Raises ConnectError in plain words."""
    links = await _read(http, f"{base_url}/.well-known/nodeinfo", base_url)
    for link in links.get("links", []) if isinstance(links, Mapping) else []:
        href = link.get("href", "") if isinstance(link, Mapping) else ""
        if "nodeinfo" in str(link.get("rel", "")) and href.startswith(base_url):
            info = await _read(http, href, base_url)
            software = info.get("software") if isinstance(info, Mapping) else None
            if isinstance(software, Mapping):
                return str(software.get("name", "")).lower(), str(software.get("version", ""))
    return "", ""


async def _read(http: httpx.AsyncClient, url: str, base_url: str) -> Any:
    try:
        answer = await answers.ask(http, "GET", url)
    except PublishError:
        raise ConnectError(f"{base_url} cannot be reached. Check the address, or try again later.") from None
    return answers.parsed(answer) if answer.is_success else {}


def capabilities(software: str, version: str) -> Capabilities:
    """One row per software; docs/networks.md shows the table. Unknown software is trusted with nothing."""
    number = numbers(version)
    if software in ("mastodon", "hometown") or "glitch" in version:
        bug = (4, 6, 0) <= number < (4, 6, 8) or (4, 7, 0) <= number < (4, 7, 2)
        return Capabilities(
            idempotency="bug500" if bug else "replay",
            media_guard=number >= (4, 3),
            pkce=number >= (4, 3),
            media_v2=True,
        )
    if software == "pixelfed":
        return Capabilities(idempotency="tripwire", async_media=False, source=False)
    if software == "gotosocial":
        return Capabilities(idempotency="none", media_guard=True, async_media=False)
    if software in ("akkoma", "pleroma"):
        return Capabilities(idempotency="cached")
    return Capabilities(idempotency="none", source=False)


def numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else (0,)


def limits(software: str, instance: Mapping[str, Any]) -> Limits:
    """From /api/v2/instance or v1: `configuration`, else the fields of forks, else what is usual."""
    said = _mapping(instance.get("configuration"))
    statuses, media = _mapping(said.get("statuses")), _mapping(said.get("media_attachments"))
    polls = _mapping(said.get("polls")) or _mapping(instance.get("poll_limits"))
    usual = Limits()
    known: dict[str, Any] = {
        "counting": {"pixelfed": "pixelfed", "gotosocial": "gotosocial", "takahe": "plain"}.get(software, "mastodon"),
        "max_chars": statuses.get("max_characters") or instance.get("max_toot_chars") or usual.max_chars,
        "chars_per_url": statuses.get("characters_reserved_per_url") or usual.chars_per_url,
        "max_media": statuses.get("max_media_attachments") or usual.max_media,
        "mime_types": tuple(media.get("supported_mime_types") or usual.mime_types),
        "max_image_bytes": media.get("image_size_limit") or instance.get("upload_limit") or usual.max_image_bytes,
        "max_image_pixels": media.get("image_matrix_limit") or usual.max_image_pixels,
        "max_video_bytes": media.get("video_size_limit") or usual.max_video_bytes,
        "max_description_chars": media.get("description_limit") or usual.max_description_chars,
    }
    if software == "pixelfed":
        known |= {"min_media": 1, "mixed_media": False, "max_spoiler_chars": 140, "visibilities": PUBLIC_ONLY}
        known |= {"language": False, "focus": False, "max_description_chars": 1000, "max_videos": known["max_media"]}
    elif polls.get("max_options"):
        known["polls"] = PollLimits(
            max_options=polls["max_options"],
            max_option_chars=polls.get("max_characters_per_option") or polls.get("max_option_chars") or 50,
            min_expiration_s=polls.get("min_expiration") or 300,
            max_expiration_s=polls.get("max_expiration") or 2_629_746,
        )
    return Limits(**known)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
