"""The Instagram Graph API as one host: every path of both flavours, with any version prefix or none.

The commit point is `publish`; what lies before it is in containers.py, how to get a token in both logins.
"""

import time
from typing import Any

from sandbox.core import links, model, pages, wire
from sandbox.core.call import Call
from sandbox.core.clock import iso_graph
from sandbox.core.family import Family, Handler, Route
from sandbox.core.software import Profile
from sandbox.instagram import (
    callbacks,
    connections,
    containers,
    facebook_login,
    graph,
    instagram_login,
    permalinks,
    tokens,
)

_MEDIA_FIELDS = "id"
_CONSENT = """<label>Kind of account <select name="account_type"><option value="BUSINESS">Business</option>
<option value="MEDIA_CREATOR">Creator</option><option value="PERSONAL">Personal (cannot publish)</option></select></label>"""


async def me(call: Call) -> wire.Response:
    """GET /me: `user_id` is the account for paths; `id` is only valid inside this app"""
    token = graph.check_token(call)
    if token.kind == "facebook":
        return wire.as_json({"id": f"77{token.account_ids[0]}", "name": "Sandbox Person"})
    account = graph.account_of(call, token, "me")
    return wire.as_json(graph.select(call, _account_fields(call, account, f"26{account.id}"), "id,username"))


async def create_container(call: Call, account_id: str) -> wire.Response:
    """POST /{ig-id}/media"""
    token = graph.check_token(call)
    graph.check_permission(call, token, tokens.publish_permission(token))
    account = graph.account_of(call, token, account_id)
    _check_professional(account)
    return await containers.create(call, account)


async def publish(call: Call, account_id: str) -> wire.Response:
    """POST /{ig-id}/media_publish: the commit point"""
    token = graph.check_token(call)
    graph.check_permission(call, token, tokens.publish_permission(token))
    account = graph.account_of(call, token, account_id)
    container = _publishable(call, account)
    await call.pause()
    record = _commit(call, account, container)
    if call.fault("publish_error_but_live"):
        graph.refuse(4, 2207051, "Application request limit reached", 403)
    return wire.as_json({"id": record.id})


async def quota(call: Call, account_id: str) -> wire.Response:
    """GET /{ig-id}/content_publishing_limit"""
    account = graph.account_of(call, graph.check_token(call), account_id)
    since = call.params.number("since", int(call.now) - graph.DAY_S)
    used = call.profile.publish_quota if call.fault("quota_full") else _used(call, account, since)
    config = {"quota_total": call.profile.publish_quota, "quota_duration": graph.DAY_S}
    return wire.as_json({"data": [{"quota_usage": used, "config": config}]})


async def list_media(call: Call, account_id: str) -> wire.Response:
    """GET /{ig-id}/media: newest first, without stories"""
    return _listing(call, account_id, stories=False)


async def list_stories(call: Call, account_id: str) -> wire.Response:
    """GET /{ig-id}/stories: those of the last 24 hours"""
    return _listing(call, account_id, stories=True)


async def show(call: Call, key: str) -> wire.Response:
    """GET /{id}: a container, a medium, an account or a page"""
    token, store = graph.check_token(call), call.network.store
    container, record = store.containers.get(key), store.statuses.get(key)
    if container is not None and container.account_id in token.account_ids:
        call.account = store.accounts[container.account_id]
        return wire.as_json(graph.select(call, containers.body(call, container), "id"))
    if record is not None and record.account_id in token.account_ids and _listed(call, record):
        call.account = store.accounts[record.account_id]
        return wire.as_json(graph.select(call, _media_fields(call, record), _MEDIA_FIELDS))
    for account_id in token.account_ids:
        if key == facebook_login.page_id(account_id):
            body = {"id": key, "name": "Page", "instagram_business_account": {"id": account_id}}
            return wire.as_json(graph.select(call, body, "id,name"))
    account = graph.account_of(call, token, key)
    return wire.as_json(graph.select(call, _account_fields(call, account, account.id), "id"))


async def delete(call: Call, key: str) -> wire.Response:
    """DELETE /{media}: needs instagram_manage_contents"""
    token, store = graph.check_token(call, "instagram_manage_contents"), call.network.store
    record = store.statuses.get(key)
    if record is None or record.account_id not in token.account_ids or record.deleted_at is not None:
        graph.gone(call, key)
    record.deleted_at = call.now
    store.keep(record)
    return wire.as_json({"success": True})


async def missing(call: Call) -> wire.Response:
    """Unknown paths are error 2500."""
    body = {
        "message": "Unknown path components",
        "type": "OAuthException",
        "code": 2500,
        "fbtrace_id": "Asandbox",
    }
    return wire.as_json({"error": body}, 400)


def _publishable(call: Call, account: model.Account) -> model.Container:
    key = call.params.text("creation_id")
    container = call.network.store.containers.get(key)
    if container is None or container.account_id != account.id or container.is_child:
        graph.refuse(24, 2207006, "The media with this id cannot be found")
    if call.fault("media_vanishes"):
        containers.expire(call, container)
    if container.published_at is not None:
        _second_time(call)
    elif (state := containers.state(call, container)) == "IN_PROGRESS":
        graph.refuse(9007, 2207027, "The media is not ready to be published. Please wait a moment.")
    elif state != "FINISHED":
        graph.refuse(24, 2207008, "The requested resource does not exist")
    full = _used(call, account, int(call.now) - graph.DAY_S) >= call.profile.publish_quota
    if full or call.fault("quota_full"):
        graph.refuse(9, 2207042, "The user has reached the maximum number of posts that is allowed via the API.")
    return container


def _second_time(call: Call) -> None:
    """Publishing one container twice is undocumented; `second_publish` of the profile picks what happens."""
    if call.profile.second_publish == "again":
        return
    code, _, subcode = call.profile.second_publish.partition("/")
    graph.refuse(int(code), int(subcode or 0) or None, "The requested resource does not exist")


def _commit(call: Call, account: model.Account, container: model.Container) -> model.Status:
    store, params = call.network.store, container.params
    parts = [store.containers[key] for key in container.children] or [container]
    lag = call.fault("status_lag")
    record = model.Status(
        id=store.graph_id("180"),
        instance=call.instance.name,
        account_id=account.id,
        created_at=call.now,
        committed_ns=time.time_ns(),
        text="" if container.media_type == "STORIES" else str(params.get("caption") or ""),
        media_ids=list(container.upload_ids),
        client_id=call.token.client_id if call.token else "",
        hidden="dropped" if call.fault("silently_drop") else None,
        visible_at=call.now + (float(lag.option("seconds", 60)) if lag else call.profile.listing_lag_s),
        details={
            "container": container.id,
            "media_type": _media_type(store.uploads, container),
            "media_product_type": {"REELS": "REELS", "STORIES": "STORY"}.get(container.media_type, "FEED"),
            "user_tags_by_media": {one.upload_ids[0]: containers.user_tags(one.params) for one in parts},
            "collaborators": containers.collaborators(params),
            "location_id": params.get("location_id"),
            "options": {n: params[n] for n in ("share_to_feed", "cover_url", "thumb_offset") if n in params},
        },
    )
    store.keep(record)
    container.published_at, container.media_id = call.now, record.id
    container.reported_after = call.now + (float(lag.option("seconds", 60)) if lag else call.profile.status_lag_s)
    store.keep(container)
    return record


def _media_type(uploads: dict[str, model.Upload], container: model.Container) -> str:
    if container.media_type == "CAROUSEL":
        return "CAROUSEL_ALBUM"
    return "VIDEO" if uploads[container.upload_ids[0]].kind == "video" else "IMAGE"


def _listing(call: Call, account_id: str, stories: bool) -> wire.Response:
    account = graph.account_of(call, graph.check_token(call), account_id)
    given = call.params
    since, until = given.number("since", 0), given.number("until", int(call.now) + graph.DAY_S)
    found = [
        record
        for record in reversed(call.network.store.by_account.get(account.id, []))
        if _listed(call, record)
        and (record.details["media_product_type"] == "STORY") == stories
        and since <= record.created_at <= until
        and not (stories and call.now - record.created_at > graph.DAY_S)
    ]
    return graph.page_of(call, [graph.select(call, _media_fields(call, one), _MEDIA_FIELDS) for one in found])


def _listed(call: Call, record: model.Status) -> bool:
    return record.deleted_at is None and record.hidden is None and record.visible_at <= call.now


def _used(call: Call, account: model.Account, since: int) -> int:
    posts = call.network.store.by_account.get(account.id, [])
    return sum(one.created_at >= since and one.hidden is None for one in posts)


def _media_fields(call: Call, record: model.Status) -> dict[str, Any]:
    """Every field of a published medium that can be asked for."""
    store, account = call.network.store, call.network.store.accounts[record.account_id]
    uploads = [store.uploads[key] for key in record.media_ids]
    children = [{"id": one.id, "media_url": links.media_url(call.instance, one)} for one in uploads]
    return {
        "id": record.id,
        "ig_id": record.id,
        "caption": record.text or None,
        "alt_text": uploads[0].description if len(uploads) == 1 else None,
        "permalink": call.network.url_of(record),
        "shortcode": permalinks.shortcode(record.id),
        "timestamp": iso_graph(record.created_at),
        "media_type": record.details["media_type"],
        "media_product_type": record.details["media_product_type"],
        "media_url": links.media_url(call.instance, uploads[0]),
        "thumbnail_url": None,
        "username": account.username,
        "owner": {"id": account.id},
        "children": {"data": children} if len(uploads) > 1 else None,
        "like_count": 0,
        "comments_count": 0,
        "is_comment_enabled": True,
    }


def _account_fields(call: Call, account: model.Account, number: str) -> dict[str, Any]:
    return {
        "id": number,
        "user_id": account.id,
        "username": account.username,
        "name": account.display_name,
        "account_type": account.traits.get("account_type", "BUSINESS"),
        "profile_picture_url": links.avatar_url(call.instance, account),
        "followers_count": 0,
        "follows_count": 0,
        "media_count": sum(
            one.deleted_at is None and one.hidden is None and one.details["media_product_type"] != "STORY"
            for one in call.network.store.by_account.get(account.id, [])
        ),
        "biography": None,
        "website": None,
    }


def _check_professional(account: model.Account) -> None:
    if account.traits.get("account_type", "BUSINESS") == "PERSONAL":
        graph.refuse(10, None, "(#10) This account is not a professional account.", 403)
    if account.traits.get("restricted"):
        graph.refuse(25, 2207050, "The Instagram account is restricted.")


def _everywhere(method: str, path: str, handler: Handler) -> Route:
    """The same path with any version in front, or none."""
    return method, r"(?:/v\d+\.\d+)?" + path, handler


async def permalink(call: Call, code: str) -> wire.Response:
    """GET /p/CODE/ and /reel/CODE/"""
    return await pages.permalink(call, permalinks.from_shortcode(code))


def usual_profile(software: str, version: str | None) -> Profile:
    """Instagram, by the Graph API's version."""
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


ROUTES: list[Route] = [
    ("GET", r"/oauth/authorize", instagram_login.authorize),
    ("POST", r"/oauth/authorize", instagram_login.decide),
    _everywhere("GET", r"/dialog/oauth", instagram_login.authorize),
    _everywhere("POST", r"/dialog/oauth", instagram_login.decide),
    _everywhere("POST", r"/oauth/access_token", instagram_login.access_token),
    _everywhere("GET", r"/oauth/access_token", facebook_login.access_token),
    _everywhere("GET", r"/access_token", instagram_login.long_token),
    _everywhere("GET", r"/refresh_access_token", instagram_login.refresh),
    _everywhere("GET", r"/debug_token", facebook_login.debug_token),
    _everywhere("GET", r"/me", me),
    _everywhere("GET", r"/me/accounts", facebook_login.pages_of_user),
    _everywhere("GET", r"/me/permissions", facebook_login.permissions),
    _everywhere("POST", r"/(\d+|me)/media", create_container),
    _everywhere("GET", r"/(\d+|me)/media", list_media),
    _everywhere("POST", r"/(\d+|me)/media_publish", publish),
    _everywhere("GET", r"/(\d+|me)/content_publishing_limit", quota),
    _everywhere("GET", r"/(\d+|me)/stories", list_stories),
    _everywhere("GET", r"/(\d+)", show),
    _everywhere("DELETE", r"/(\d+)", delete),
    ("GET", r"/(?:p|reel)/([\w-]+)/", permalink),
]


FAMILY = Family(
    routes=ROUTES,
    missing=missing,
    software={"instagram": usual_profile},
    connect=connections.connect,
    account_id=lambda store: store.graph_id("178"),
    profile_url=permalinks.profile_url,
    status_url=permalinks.status_url,
    limited=graph.limited,
    answers={"graph_error": graph.failed},
    consent=_CONSENT,
    control=callbacks.ROUTES,
)
