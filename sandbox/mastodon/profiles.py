"""What each software and version usually does, as a Profile: limits, idempotency, media, and its oddities."""

from typing import Any

from sandbox.core.software import GOTOSOCIAL_TYPES, IMAGES, PIXELFED_TYPES, Profile, changed, numbers


def profile(software: str, version: str | None = None, **options: Any) -> Profile:
    """The usual behaviour of a software's version, changed by options (fields of Profile)."""
    maker = _MAKERS.get(software, _unknown)
    return changed(maker(software, version), options)


def _mastodon(software: str, version: str | None) -> Profile:
    version = version or "4.7.4"
    if software == "glitch" and "+" not in version:
        version += "+glitch"
    if software == "hometown" and "+" not in version:
        version += "+hometown-1.1.1"
    number = numbers(version)
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
        keeps_focus=False,
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
        keeps_focus=False,
        who_scope="read",
        names_app=False,
        media_tells=False,
        dead_token="plain",
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
        keeps_focus=False,
        ids="uuid",
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
        keeps_focus=False,
        ids="snac",
        says_language="en",
        names_app=False,
        media_tells=False,
        dead_token="silent",
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
