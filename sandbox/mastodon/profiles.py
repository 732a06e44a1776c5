"""What Mastodon and those that speak its API usually do, by version: limits, idempotency, media, and oddities."""

from collections.abc import Callable

from sandbox.core.software import IMAGES, Profile, numbers


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


def unknown(software: str, version: str | None) -> Profile:
    """Software nobody has heard of, with the API's bare bones."""
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


SOFTWARE: dict[str, Callable[[str, str | None], Profile]] = {
    "mastodon": _mastodon,
    "glitch": _mastodon,
    "hometown": _mastodon,
    "akkoma": _akkoma,
    "pleroma": _akkoma,
    "takahe": _takahe,
    "hollo": _hollo,
    "snac": _snac,
}
