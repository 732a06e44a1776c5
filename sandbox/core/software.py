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


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How one instance behaves.

    family: mastodon | pixelfed | gotosocial | instagram (a room each). idempotency: replay |
    bug500 (a repeat answers 500) | cached (whole answer replayed) | tripwire (400) | none. rate_limits:
    headers (counted, shown, never enforced) | enforce | off; rate_limit_overrides {family: limit} is
    enforced. counting: graphemes (links and names shortened) | clusters (in full) | codepoints | text (the
    warning is not counted). dead_token: doorkeeper (401 with WWW-Authenticate) | credentials (403, as Akkoma
    says it) | silent (401 without a body, 422 on verify_credentials) | plain (400, text). lists: all | public.
    ids: snowflake | uuid (Hollo) | snac (a second and the address's MD5, which is not in the address).
    says_language: what every status claims, whatever was stored. who_scope: opens verify_credentials.
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
    says_language: str = ""
    keeps_focus: bool = True
    ids: str = "snowflake"
    who_scope: str = "profile|read:accounts"
    keeps_media_ids: bool = True  # False: in a status the uploads have other ids
    names_app: bool = True
    media_tells: bool = True  # GET media answers 404 once an upload is attached
    dead_token: str = "doorkeeper"
    lists: str = "all"
    pages: bool = True  # False: max_id is ignored, so that only the newest page of a list can be read
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
        return numbers(self.version) >= numbers(version)


def changed(base: Profile, options: dict[str, Any]) -> Profile:
    """With other options; raises TypeError for one there is not."""
    for name in ("mime_types", "redirect_uris"):
        if name in options:
            options[name] = tuple(options[name])
    return dataclasses.replace(base, **options)


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0])[:3])
