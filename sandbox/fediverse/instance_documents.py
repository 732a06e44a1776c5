"""What an instance says about itself: nodeinfo and the instance documents, version 1 and 2."""

from typing import Any

from sandbox.core import accounts, pages, wire
from sandbox.core.call import Call
from sandbox.core.family import Route
from sandbox.fediverse import entities
from sandbox.fediverse.oauth import VAPID


async def nodeinfo_links(call: Call) -> wire.Response:
    """GET /.well-known/nodeinfo"""
    if not call.profile.nodeinfo:
        return pages.not_found(call)
    link = {"rel": "http://nodeinfo.diaspora.software/ns/schema/2.0", "href": call.url("/nodeinfo/2.0")}
    return wire.as_json({"links": [link]})


async def webfinger(call: Call) -> wire.Response:
    """GET /.well-known/webfinger?resource=acct:…: the handle as the rest of the network knows it"""
    name, _, domain = call.params.text("resource").removeprefix("acct:").partition("@")
    account = accounts.find(call, name)
    if account is None or domain not in (call.instance.domain, call.profile.account_domain):
        return pages.not_found(call)
    subject = f"acct:{account.username}@{call.profile.account_domain or call.instance.domain}"
    link = {"rel": "self", "type": "application/activity+json", "href": call.url(f"/users/{account.username}")}
    return wire.as_json({"subject": subject, "links": [link]})


async def nodeinfo(call: Call) -> wire.Response:
    """GET /nodeinfo/2.0: the software's name decides what a client may rely on."""
    software, version = call.profile.software, call.profile.version
    if "compatible;" in version:
        version = version.split("compatible;")[1].strip(" )").split()[-1]
    return wire.as_json(
        {
            "version": "2.0",
            "software": {"name": software, "version": version},
            "protocols": ["activitypub"],
            "services": {"outbound": [], "inbound": []},
            "usage": {"users": {"total": 1, "activeMonth": 1, "activeHalfyear": 1}, "localPosts": 1},
            "openRegistrations": True,
            "metadata": {"nodeName": call.instance.title},
        }
    )


async def instance_v2(call: Call) -> wire.Response:
    """GET /api/v2/instance"""
    if not call.profile.instance_v2:
        return pages.not_found(call)
    configuration = _configuration(call)
    configuration |= {
        "urls": {"streaming": call.instance.url.replace("http", "ws", 1), "status": None},
        "accounts": {"max_featured_tags": 10},
        "translation": {"enabled": False},
    }
    if entities.is_newer(call) or call.profile.family == "gotosocial":
        configuration["vapid"] = {"public_key": VAPID}
    if call.profile.family == "gotosocial" or (
        call.profile.software in ("mastodon", "hometown") and call.profile.at_least("4.4")
    ):
        configuration["media_attachments"]["description_limit"] = call.profile.description_limit
    body: dict[str, Any] = {
        "domain": call.instance.domain,
        "title": call.instance.title,
        "version": _version(call),
        "source_url": "https://example.org/source",
        "description": "",
        "usage": {"users": {"active_month": 1}},
        "thumbnail": {"url": call.url("/static/preview.png")},
        "languages": [call.profile.language],
        "configuration": configuration,
        "registrations": {"enabled": True, "approval_required": False, "message": None},
        "contact": {"email": "", "account": None},
        "rules": [],
    }
    if call.profile.oauth_metadata:
        body["api_versions"] = {"mastodon": 11 if call.profile.at_least("4.6") else 6}
    return wire.as_json(body)


async def instance_v1(call: Call) -> wire.Response:
    """GET /api/v1/instance, with the top-level fields some forks add"""
    profile = call.profile
    body: dict[str, Any] = {
        "uri": call.instance.domain,
        "title": call.instance.title,
        "short_description": "",
        "description": "",
        "email": "",
        "version": _version(call),
        "urls": {"streaming_api": call.instance.url.replace("http", "ws", 1)},
        "stats": {"user_count": 1, "status_count": 0, "domain_count": 0},
        "thumbnail": call.url("/static/preview.png"),
        "languages": [profile.language],
        "registrations": True,
        "approval_required": False,
        "invites_enabled": False,
        "rules": [],
    }
    if profile.software not in ("akkoma", "pleroma"):
        body["configuration"] = _configuration(call)
    if profile.software in ("akkoma", "pleroma") or "+glitch" in profile.version:
        body["max_toot_chars"] = profile.max_characters
        body["poll_limits"] = {
            "max_options": profile.poll_options,
            "max_option_chars": profile.poll_option_chars,
        }
        body["upload_limit"] = profile.image_bytes
        body["max_media_attachments"] = profile.max_media
        body["description_limit"] = profile.description_limit
    elif profile.family == "gotosocial":
        body["max_toot_chars"] = profile.max_characters
    return wire.as_json(body)


def _configuration(call: Call) -> dict[str, Any]:
    profile = call.profile
    return {
        "statuses": {
            "max_characters": profile.max_characters,
            "max_media_attachments": profile.max_media,
            "characters_reserved_per_url": profile.url_length,
        },
        "media_attachments": {
            "supported_mime_types": list(profile.mime_types),
            "image_size_limit": profile.image_bytes,
            "image_matrix_limit": profile.image_pixels,
            "video_size_limit": profile.video_bytes,
            "video_frame_rate_limit": 120,
            "video_matrix_limit": profile.video_pixels,
        },
        "polls": {
            "max_options": profile.poll_options,
            "max_characters_per_option": profile.poll_option_chars,
            "min_expiration": 300 if profile.poll_options else 0,
            "max_expiration": 2629746 if profile.poll_options else 0,
        },
    }


def _version(call: Call) -> str:
    if call.profile.family == "pixelfed":
        return f"3.5.3 (compatible; Pixelfed {call.profile.version})"
    if call.profile.software == "takahe":
        return f"takahe/{call.profile.version}"
    return call.profile.version


ROUTES: list[Route] = [
    ("GET", r"/\.well-known/nodeinfo", nodeinfo_links),
    ("GET", r"/\.well-known/webfinger", webfinger),
    ("GET", r"/nodeinfo/2\.[01]", nodeinfo),
    ("GET", r"/api/v2/instance/?", instance_v2),
    ("GET", r"/api/v1/instance/?", instance_v1),
]
