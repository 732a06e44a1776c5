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
    listed = links.get("links") if isinstance(links, Mapping) else None
    for link in listed if isinstance(listed, list) else []:
        href = str(link.get("href", "")) if isinstance(link, Mapping) else ""
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
    if software == "pixelfed":
        return Capabilities(idempotency="tripwire", async_media=False, source=False)
    if software in ("mastodon", "hometown") or "glitch" in version:
        bug = (4, 6, 0) <= number < (4, 6, 8) or (4, 7, 0) <= number < (4, 7, 2)
        return Capabilities(
            idempotency="bug500" if bug else "replay",
            media_guard=number >= (4, 3),
            pkce=number >= (4, 3),
            media_v2=True,
        )
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
        "max_chars": _first(statuses.get("max_characters"), instance.get("max_toot_chars"), usual.max_chars),
        "chars_per_url": _first(statuses.get("characters_reserved_per_url"), usual.chars_per_url),
        "max_media": _first(
            statuses.get("max_media_attachments"), instance.get("max_media_attachments"), usual.max_media
        ),
        "mime_types": _names(media.get("supported_mime_types")) or usual.mime_types,
        "max_image_bytes": _first(media.get("image_size_limit"), instance.get("upload_limit"), usual.max_image_bytes),
        "max_image_pixels": _first(media.get("image_matrix_limit"), usual.max_image_pixels),
        "max_video_bytes": _first(media.get("video_size_limit"), instance.get("upload_limit"), usual.max_video_bytes),
        "max_description_chars": _first(media.get("description_limit"), usual.max_description_chars),
    }
    if software in ("mastodon", "hometown"):
        known |= {"mixed_media": False, "poll_with_media": numbers(str(instance.get("version", ""))) >= (4, 6)}
    else:
        known["max_videos"] = known["max_media"]
    if software == "pixelfed":
        known |= {"min_media": 1, "mixed_media": False, "max_spoiler_chars": 140, "visibilities": PUBLIC_ONLY}
        known |= {"language": False, "focus": False, "max_description_chars": 1000}
    elif _first(polls.get("max_options"), 0):
        known["polls"] = PollLimits(
            max_options=_first(polls.get("max_options"), 4),
            max_option_chars=_first(polls.get("max_characters_per_option"), polls.get("max_option_chars"), 50),
            min_expiration_s=_first(polls.get("min_expiration"), 300),
            max_expiration_s=_first(polls.get("max_expiration"), 2_629_746),
        )
    return Limits(**known)


def _first(*said: Any) -> int:
    """The first positive whole number; servers leave fields out, or put null, 0 or words there."""
    for value in said:
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0


def _names(value: Any) -> tuple[str, ...]:
    return tuple(one for one in value if isinstance(one, str)) if isinstance(value, list) else ()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
