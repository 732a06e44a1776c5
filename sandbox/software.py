"""What each server software does, version by version: limits, idempotency, media handling. Every field can
be overridden.

Sources: the software's own code and observation of running servers; docs/sandbox.md names the quirks.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from typing import Any

IMAGES = ["image/jpeg", "image/png", "image/gif", "image/heic", "image/heif", "image/webp", "image/avif"]
VIDEOS = ["video/webm", "video/mp4", "video/quicktime", "video/ogg"]
AUDIO = ["audio/wave", "audio/wav", "audio/ogg", "audio/mpeg", "audio/mp3", "audio/flac", "audio/aac"]

PIXELFED_TYPES = (*IMAGES[:3], "image/heic", "image/webp", "image/avif", "video/mp4", "video/mov")
GOTOSOCIAL_TYPES = (*IMAGES[:3], "image/apng", "image/webp", "image/avif", *VIDEOS[:3])


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one instance behaves.

    family: mastodon | pixelfed | gotosocial | instagram (which module answers). idempotency: replay |
    bug500 (a repeat answers 500) | cached (whole answer replayed) | tripwire (400) | none. rate_limits:
    headers (counted, shown, never enforced) | enforce | off; rate_limit_overrides {family: limit} is
    enforced. counting: graphemes (links and names shortened) | clusters (in full) | codepoints | text (the
    warning is not counted). dead_token: doorkeeper (401 with WWW-Authenticate) | credentials (403, as Akkoma
    says it) | bare (401 without a body) | plain (400, text). lists: all | public.
    """

    family: str
    software: str
    version: str
    max_characters: int = 500
    max_media: int = 4
    url_length: int = 23
    counting: str = "graphemes"
    description_limit: int = 1500
    image_bytes: int = 16 * 1024 * 1024
    video_bytes: int = 99 * 1024 * 1024
    image_pixels: int = 33_177_600
    video_pixels: int = 8_294_400
    mime_types: tuple[str, ...] = (*IMAGES, *VIDEOS, *AUDIO)
    poll_options: int = 4
    poll_option_chars: int = 50
    poll_with_media: bool = False
    counts: bool = True  # False: takes texts of any length
    looks_into_media: bool = True  # False: takes files of any kind
    refusal: int = 422  # the status of a refused form
    empty_text: bool = True  # False: "" is refused, a text may only be left out
    ignores_lost_parent: bool = False
    json_polls: bool = True  # False: a poll is only read from a form
    form_booleans: bool = True  # False: true and false are taken from JSON only
    keeps_language: bool = True
    keeps_media_ids: bool = True  # False: in a status the uploads have other ids
    names_app: bool = True
    media_tells: bool = True  # GET media answers 404 once an upload is attached
    dead_token: str = "doorkeeper"
    lists: str = "all"
    gif_pixels: int | None = None
    idempotency: str = "none"
    idempotency_lock: bool = False
    idempotency_ttl_s: float = 3600
    lock_wait_s: float = 10
    media_guard: bool = False
    media_processing_s: float = 1.0
    async_media: bool = True
    instance_v2: bool = True
    oauth_metadata: bool = False
    nodeinfo: bool = True
    account_domain: str = ""
    closed: bool = False
    rate_limits: str = "headers"
    rate_limit_overrides: dict[str, int] = field(default_factory=dict)
    language: str = "en"
    image_processing_s: float = 0.0
    carousel_processing_s: float = 2.0
    publish_quota: int = 100
    container_quota: int = 400
    second_publish: str = "24/2207008"
    token_answer: str = "data"
    status_lag_s: float = 0.0
    listing_lag_s: float = 0.0
    app_id: str = "990000000000001"
    app_secret: str = "sandbox-instagram-secret"
    facebook_app_id: str = "880000000000001"
    facebook_app_secret: str = "sandbox-facebook-secret"
    redirect_uris: tuple[str, ...] = ()

    def at_least(self, version: str) -> bool:
        """Is this software's version the given one or newer? (`4.6.4+glitch` counts as 4.6.4.)"""
        return _numbers(self.version) >= _numbers(version)


def profile(software: str, version: str | None = None, **options: Any) -> Profile:
    """The usual behaviour of a software's version, changed by options (fields of Profile)."""
    maker = _MAKERS.get(software, _unknown)
    return changed(maker(software, version), options)


def changed(base: Profile, options: dict[str, Any]) -> Profile:
    """With other options; raises TypeError for one there is not."""
    for name in ("mime_types", "redirect_uris"):
        if name in options:
            options[name] = tuple(options[name])
    return dataclasses.replace(base, **options)


def _mastodon(software: str, version: str | None) -> Profile:
    version = version or "4.7.4"
    if software == "glitch" and "+" not in version:
        version += "+glitch"
    if software == "hometown" and "+" not in version:
        version += "+hometown-1.1.1"
    number = _numbers(version)
    buggy = (4, 6, 0) <= number <= (4, 6, 7) or (4, 7, 0) <= number <= (4, 7, 1)
    return Profile(
        family="mastodon",
        software="hometown" if software == "hometown" else "mastodon",
        version=version,
        description_limit=10_000 if number >= (4, 6) else 1500,
        gif_pixels=1280 * 720,
        idempotency="bug500" if buggy else "replay",
        idempotency_lock=number >= (4, 6),
        media_guard=number >= (4, 3),
        poll_with_media=number >= (4, 6),
        oauth_metadata=number >= (4, 3),
    )


def _pixelfed(software: str, version: str | None) -> Profile:
    return Profile(
        family="pixelfed",
        software="pixelfed",
        version=version or "0.12.6",
        counting="codepoints",
        description_limit=1000,
        image_bytes=15_000 * 1024,
        video_bytes=15_000 * 1024,
        image_pixels=2_073_600,
        video_pixels=2_073_600,
        mime_types=PIXELFED_TYPES,
        poll_options=0,
        poll_option_chars=0,
        idempotency="tripwire",
    )


def _gotosocial(software: str, version: str | None) -> Profile:
    return Profile(
        family="gotosocial",
        software="gotosocial",
        version=version or "0.20.0+git-57cb4fe",
        max_characters=5000,
        max_media=6,
        url_length=25,
        counting="codepoints",
        description_limit=5000,
        image_bytes=40 * 1024 * 1024,
        video_bytes=40 * 1024 * 1024,
        image_pixels=2_147_483_647,
        video_pixels=2_147_483_647,
        mime_types=(*GOTOSOCIAL_TYPES, "audio/mpeg", "audio/flac", "audio/ogg"),
        poll_options=6,
        media_guard=True,
        media_processing_s=0.0,
        async_media=False,
    )


def _akkoma(software: str, version: str | None) -> Profile:
    usual = "2.7.2 (compatible; Akkoma 3.15.2)" if software == "akkoma" else "2.7.2 (compatible; Pleroma 2.8.0)"
    return Profile(
        family="mastodon",
        software=software,
        version=version or usual,
        max_characters=5000,
        max_media=16,
        counting="clusters",
        description_limit=5000,
        ignores_lost_parent=True,
        names_app=False,
        media_tells=False,
        dead_token="credentials",
        idempotency="cached",
        idempotency_lock=True,
        idempotency_ttl_s=6 * 3600,
        instance_v2=False,
        async_media=False,
        media_processing_s=0.0,
    )


def _takahe(software: str, version: str | None) -> Profile:
    return Profile(
        family="mastodon",
        software=software,
        version=version or "0.11.0",
        counting="text",
        refusal=400,
        ignores_lost_parent=True,
        keeps_language=False,
        names_app=False,
        media_tells=False,
        dead_token="bare",
        async_media=False,
        media_processing_s=0.0,
    )


def _hollo(software: str, version: str | None) -> Profile:
    """Its key is looked up without a lock; an attached upload ends in a rolled back transaction and a 500."""
    return Profile(
        family="mastodon",
        software=software,
        version=version or "0.7.0",
        max_characters=10_000,
        max_media=8,
        url_length=256,
        counts=False,
        empty_text=False,
        names_app=False,
        media_tells=False,
        idempotency="replay",
        mime_types=(*IMAGES[:3], "image/webp", "video/mp4", "video/webm"),
        image_bytes=32 * 1024 * 1024,
        video_bytes=128 * 1024 * 1024,
        image_pixels=16_777_216,
        video_pixels=16_777_216,
        poll_options=10,
        poll_option_chars=100,
        oauth_metadata=True,
        async_media=False,
        media_processing_s=0.0,
    )


def _snac(software: str, version: str | None) -> Profile:
    return Profile(
        family="mastodon",
        software=software,
        version=version or "2.84",
        max_characters=100_000,
        url_length=32,
        counting="codepoints",
        counts=False,
        looks_into_media=False,
        ignores_lost_parent=True,
        json_polls=False,
        keeps_media_ids=False,
        names_app=False,
        media_tells=False,
        dead_token="bare",
        lists="public",
        poll_options=8,
        async_media=False,
        media_processing_s=0.0,
    )


def _instagram(software: str, version: str | None) -> Profile:
    return Profile(
        family="instagram",
        software="instagram",
        version=version or "v25.0",
        max_characters=2200,
        max_media=10,
        counting="codepoints",
        description_limit=1000,
        image_bytes=8 * 1024 * 1024,
        video_bytes=300 * 1024 * 1024,
        mime_types=("image/jpeg", "video/mp4", "video/quicktime"),
        media_processing_s=2.0,
        nodeinfo=False,
    )


def _unknown(software: str, version: str | None) -> Profile:
    return Profile(
        family="mastodon",
        software=software,
        version=version or "1.0",
        counting="codepoints",
        form_booleans=False,
        names_app=False,
        media_tells=False,
        dead_token="plain",
        instance_v2=False,
        async_media=False,
        media_processing_s=0.0,
    )


_MAKERS = {
    "mastodon": _mastodon,
    "glitch": _mastodon,
    "hometown": _mastodon,
    "pixelfed": _pixelfed,
    "gotosocial": _gotosocial,
    "akkoma": _akkoma,
    "pleroma": _akkoma,
    "takahe": _takahe,
    "hollo": _hollo,
    "snac": _snac,
    "instagram": _instagram,
}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])
