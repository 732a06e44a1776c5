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
    enforced. counting: graphemes | codepoints.
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
    base = maker(software, version)
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
    return Profile(
        family="mastodon",
        software=software,
        version=version or "2.7.2 (compatible; Akkoma 3.15.2)",
        max_characters=5000,
        max_media=16,
        counting="codepoints",
        idempotency="cached",
        idempotency_lock=True,
        idempotency_ttl_s=6 * 3600,
        instance_v2=False,
        async_media=False,
        media_processing_s=0.0,
    )


def _takahe(software: str, version: str | None) -> Profile:
    return Profile(family="mastodon", software=software, version=version or "0.11.0", counting="codepoints")


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
    "instagram": _instagram,
}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])
