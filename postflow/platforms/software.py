"""Which server is it? nodeinfo decides, never the host's name; tables say what each software accepts and how far it can
be trusted. docs/networks.md shows both tables; a test holds the two together.
"""

import re
from collections.abc import Mapping
from typing import Any

import httpx

from postflow.errors import ConnectError, PublishError
from postflow.models import Capabilities, Limits, PollLimits, Visibility
from postflow.platforms import answers

PUBLIC_ONLY = (Visibility.public, Visibility.unlisted, Visibility.private)
#: How each software counts; whatever is not here is taken to count every character of text and warning.
COUNTING = {
    "mastodon": "mastodon",
    "hometown": "mastodon",
    "gotosocial": "gotosocial",
    "akkoma": "graphemes",
    "pleroma": "graphemes",
    "takahe": "plain",
    "pixelfed": "pixelfed",
}
#: Whose statuses say the language that was stored. snac says "en" of everything, Pixelfed and Takahe keep none.
TELLS_LANGUAGE = frozenset({"mastodon", "hometown", "gotosocial", "akkoma", "pleroma", "hollo"})
#: They take a focal point and forget it.
WITHOUT_FOCUS = frozenset({"akkoma", "pleroma", "takahe", "hollo", "snac", "pixelfed"})
#: Only the whole `read` opens verify_credentials there, no part of it.
WHOLE_READ = frozenset({"takahe"})
#: Mastodon takes no larger animations, and does not say so.
MASTODON_GIF_PIXELS = 1280 * 720


# -- asking ----------------------------------------------------------------------------------------------------


async def detect(http: httpx.AsyncClient, base_url: str) -> tuple[str, str]:
    """(software, version), lower case. Raises ConnectError in plain words."""
    links = await _read(http, f"{base_url}/.well-known/nodeinfo", base_url)
    for link in answers.objects(_mapping(links).get("links")):
        href = str(link.get("href", ""))
        if "nodeinfo" in str(link.get("rel", "")) and href.startswith(base_url + "/"):
            info = await _read(http, href, base_url)
            software = info.get("software") if isinstance(info, Mapping) else None
            if isinstance(software, Mapping):
                return str(software.get("name", "")).lower(), str(software.get("version", ""))
    return "", ""


async def offers(http: httpx.AsyncClient, base_url: str) -> dict[str, bool]:
    """What the server says of its login (RFC 8414), as fields of Capabilities; nothing where it keeps silent."""
    said = await _read(http, f"{base_url}/.well-known/oauth-authorization-server", base_url)
    if not isinstance(said, Mapping) or "token_endpoint" not in said:
        return {}
    return {
        "pkce": "S256" in _names(said.get("code_challenge_methods_supported")),
        "profile_scope": "profile" in _names(said.get("scopes_supported")),
    }


async def _read(http: httpx.AsyncClient, url: str, base_url: str) -> Any:
    try:
        answer = await answers.ask(http, "GET", url)
    except PublishError:
        raise ConnectError(f"{base_url} cannot be reached. Check the address, or try again later.") from None
    return answers.parsed(answer) if answer.is_success else {}


# -- how far it can be trusted ---------------------------------------------------------------------------------


def capabilities(software: str, version: str) -> Capabilities:
    """One row per software; unknown software is trusted with nothing."""
    if software in ("mastodon", "hometown"):  # glitch-soc calls itself mastodon
        return _mastodon(numbers(version))
    if software == "pixelfed":
        return Capabilities(
            idempotency="tripwire",
            media_guard=True,
            async_media=False,
            media_tells=True,
            keeps_media_ids=True,
            lists_all=True,
            source=False,
        )
    if software == "gotosocial":
        return Capabilities(
            media_guard=True,
            async_media=False,
            keeps_media_ids=True,
            lists_all=True,
            names_app=True,
            profile_scope=True,
            source=numbers(version) >= (0, 18),  # before edits it puts a notice above the words
        )
    if software in ("akkoma", "pleroma"):
        return Capabilities(idempotency="cached", keeps_media_ids=True, lists_all=True)
    if software == "takahe":
        return Capabilities(keeps_media_ids=True)
    if software == "hollo":
        return Capabilities(idempotency="replay", keeps_media_ids=True, empty_text=False)
    return Capabilities(source=False)


def guards_repeat(known: Capabilities, *, uploads: bool) -> bool:
    """Sent again, it cannot become a second post though the first request arrives after all: the server knows its key, or
    refuses its uploads.
    """
    return known.idempotency in ("replay", "bug500", "cached") or (known.media_guard and uploads)


def _mastodon(number: tuple[int, ...]) -> Capabilities:
    bug = (4, 6, 0) <= number < (4, 6, 8) or (4, 7, 0) <= number < (4, 7, 2)
    newer = number >= (4, 3)
    return Capabilities(
        idempotency="bug500" if bug else "replay",
        media_guard=newer,
        media_tells=True,
        keeps_media_ids=True,
        lists_all=True,
        names_app=True,
        pkce=newer,
        profile_scope=newer,
    )


def numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else (0,)


# -- what it accepts -------------------------------------------------------------------------------------------


def says_its_limits(instance: Mapping[str, Any]) -> bool:
    statuses = _mapping(_mapping(instance.get("configuration")).get("statuses"))
    return bool(_first(statuses.get("max_characters"), instance.get("max_toot_chars")))


def merged(newer: Mapping[str, Any], older: Mapping[str, Any]) -> dict[str, Any]:
    """Version 2 of the instance document, where it keeps silent version 1."""
    both = {**older, **{name: value for name, value in newer.items() if value}}
    return both | {"configuration": {**_mapping(older.get("configuration")), **_mapping(newer.get("configuration"))}}


def limits(software: str, version: str, instance: Mapping[str, Any]) -> Limits:
    """From `configuration`, else the fields of forks, else what is usual."""
    said = _mapping(instance.get("configuration"))
    media, polls = _mapping(said.get("media_attachments")), _mapping(said.get("polls"))
    known = {**_text(software, said, instance), **_media(media, instance)}
    known["polls"] = _polls(polls or _mapping(instance.get("poll_limits")))
    if software in ("mastodon", "hometown"):
        known |= {"mixed_media": False, "max_gif_pixels": MASTODON_GIF_PIXELS, "max_videos": 1}
        known["poll_with_media"] = numbers(version) >= (4, 6)
    if software == "pixelfed":
        known |= {"min_media": 1, "mixed_media": False, "max_spoiler_chars": 140, "visibilities": PUBLIC_ONLY}
        known |= {"language": False, "max_description_chars": 1000, "polls": None}
        known |= {"max_video_pixels": None}  # what it says there is what it scales down to
    if software == "takahe":
        known |= {"language": False}
    known["focus"] = software not in WITHOUT_FOCUS
    if software == "snac":
        known |= {"polls": None}  # it reads them from forms only, and drops those that come as JSON
    return Limits(**known)


def _text(software: str, said: Mapping[str, Any], instance: Mapping[str, Any]) -> dict[str, Any]:
    statuses, usual = _mapping(said.get("statuses")), Limits()
    most_media = _first(statuses.get("max_media_attachments"), instance.get("max_media_attachments"), usual.max_media)
    return {
        "counting": COUNTING.get(software, "gotosocial"),
        "max_chars": _first(statuses.get("max_characters"), instance.get("max_toot_chars"), usual.max_chars),
        "chars_per_url": _first(statuses.get("characters_reserved_per_url"), usual.chars_per_url),
        "max_media": most_media,
        "max_videos": most_media,
    }


def _media(media: Mapping[str, Any], instance: Mapping[str, Any]) -> dict[str, Any]:
    usual, upload = Limits(), instance.get("upload_limit")
    return {
        "mime_types": _names(media.get("supported_mime_types")) or usual.mime_types,
        "max_image_bytes": _first(media.get("image_size_limit"), upload, usual.max_image_bytes),
        "max_image_pixels": _first(media.get("image_matrix_limit"), usual.max_image_pixels),
        "max_video_bytes": _first(media.get("video_size_limit"), upload, usual.max_video_bytes),
        "max_video_pixels": _first(media.get("video_matrix_limit")) or None,
        "max_description_chars": _first(
            media.get("description_limit"), instance.get("description_limit"), usual.max_description_chars
        ),
    }


def _polls(polls: Mapping[str, Any]) -> PollLimits | None:
    usual = PollLimits()
    if not _first(polls.get("max_options")):
        return None
    return PollLimits(
        max_options=_first(polls.get("max_options")),
        max_option_chars=_first(
            polls.get("max_characters_per_option"), polls.get("max_option_chars"), usual.max_option_chars
        ),
        min_expiration_s=_first(polls.get("min_expiration"), usual.min_expiration_s),
        max_expiration_s=_first(polls.get("max_expiration"), usual.max_expiration_s),
    )


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
