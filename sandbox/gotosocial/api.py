"""GoToSocial 0.20's API: Mastodon's paths, ULIDs, 400 where Mastodon says 422, and no idempotency at all."""

import re
from collections.abc import Callable
from typing import Any, NoReturn

from sandbox.core import media, model, rate_limits, wire
from sandbox.core.call import Call
from sandbox.core.clock import from_iso, iso_ms
from sandbox.core.family import Family, Handler, Route
from sandbox.core.instance import Instance
from sandbox.core.software import IMAGES, VIDEOS, Profile
from sandbox.core.store import Store
from sandbox.faults.switches import Fault
from sandbox.fediverse import connections, entities, grants, instance_documents, oauth, statuses, timeline, uploads

_TYPES = (*IMAGES[:3], "image/apng", "image/webp", "image/avif", *VIDEOS[:3], "audio/mpeg", "audio/flac", "audio/ogg")
_FORMS = ("application/json", "application/x-www-form-urlencoded", "multipart/form-data")


def gate(scope: str, form: bool = False) -> Callable[[Handler], Handler]:
    """User agent (418), Accept (406), token (401), scope (403), body type (406), in this order."""

    def wrap(handler: Handler) -> Handler:
        async def checked(call: Call, *parts: str) -> wire.Response:
            check_client(call)
            _check_token(call, scope)
            kind = call.request.headers.get("content-type", "").partition(";")[0]
            if form and kind not in _FORMS:
                text = f"content-type {kind} not supported for this endpoint; supported content-types are "
                refuse(406, f"Not Acceptable: {text}{', '.join(_FORMS)}")
            if form and call.malformed:
                refuse(400, "Bad Request: unexpected EOF")
            return await handler(call, *parts)

        return checked

    return wrap


def check_client(call: Call) -> None:
    """A User-Agent is mandatory, and JSON must be acceptable."""
    headers = call.request.headers
    if not headers.get("user-agent", "").strip():
        refuse(418, "I'm a teapot: no user-agent sent with request")
    accept = headers.get("accept", "*/*")
    if "json" not in accept and "*/*" not in accept and "application/*" not in accept:
        refuse(406, "Not Acceptable: no format can be offered for requested media type(s)")
    if call.profile.rate_limits != "off":
        window = call.network.limits.count(call.instance, "calls", call.request.peer, 300, 300)
        call.headers += rate_limits.headers(window.limit, window.remaining, iso_ms(window.resets_at))
        if window.over:
            refuse(429, "rate limit reached")


@gate("profile|read:accounts")
async def verify_credentials(call: Call) -> wire.Response:
    """GET /api/v1/accounts/verify_credentials"""
    return wire.as_json(entities.credentials(call, call.me))


@gate("write:media")
async def upload(call: Call) -> wire.Response:
    """POST /api/v1/media and /api/v2/media: always 200 and ready"""
    file, profile = call.params.files.get("file"), call.profile
    if file is None:
        rule = "Error:Field validation for 'File' failed on the 'required' tag"
        refuse(400, f"Bad Request: Key: 'AttachmentRequest.File' {rule}")
    description, limit = call.params.text("description"), profile.description_limit
    if len(description) > limit:
        rule = f"image description length must be between 0 and {limit} characters (inclusive)"
        said = f"but provided image description was {len(description)} chars"
        refuse(400, f"Bad Request: {rule}, {said}")
    if len(file.body) > profile.image_bytes:
        size = f"{profile.image_bytes / 1024 / 1024:.1f}MiB"
        refuse(400, f"Bad Request: media exceeds configured max size: {size}")
    try:
        seen = media.look(file.body, thorough=True)
    except media.NotMedia:
        refuse(422, "Unprocessable Entity: error processing media")
    if not seen.intact or seen.mime not in profile.mime_types:
        refuse(422, "Unprocessable Entity: error processing media")
    kept = uploads.keep(call, file.body, seen, description or None, call.network.store.ulid())
    return wire.as_json(entities.attachment(call, kept))


@gate("read:media|write:media")
async def show_media(call: Call, key: str) -> wire.Response:
    """GET /api/v1/media/ID: works when attached too, so it tells nothing"""
    return wire.as_json(entities.attachment(call, _upload(call, key)))


@gate("write:media")
async def change_media(call: Call, key: str) -> wire.Response:
    """PUT /api/v1/media/ID"""
    found = _upload(call, key)
    uploads.change(call, found)
    return wire.as_json(entities.attachment(call, found))


@gate("write:statuses", form=True)
async def create_status(call: Call) -> wire.Response:
    """POST /api/v1/statuses; the Idempotency-Key is not looked at"""
    try:
        _check(call)
        draft = statuses.compose(call, call.me, call.request.headers.get("idempotency-key"))
    except wire.Answer as refusal:
        raise _translated(refusal) from refusal
    draft.id = call.network.store.ulid()
    at = _scheduled_at(call)
    if at is not None and at > call.now:
        draft.hidden, draft.details["scheduled_at"] = "scheduled", at
        statuses.commit(call, draft)
        return wire.as_json(statuses.scheduled(call, draft))
    draft.created_at = at if at is not None else draft.created_at
    await call.pause()
    statuses.commit(call, draft)
    return wire.as_json(status(call, draft))


@gate("read:statuses")
async def show_status(call: Call, key: str) -> wire.Response:
    """GET /api/v1/statuses/ID: never without a token"""
    found = timeline.visible(call, key)
    if found is None:
        refuse(404, "Not Found: target status not found")
    return wire.as_json(status(call, found))


@gate("read:statuses")
async def show_source(call: Call, key: str) -> wire.Response:
    """GET /api/v1/statuses/ID/source"""
    found = timeline.own(call, key)
    if found is None:
        refuse(404, "Not Found: target status not found")
    body = {"id": found.id, "text": found.text, "spoiler_text": found.spoiler_text}
    return wire.as_json({**body, "content_type": "text/plain"})


@gate("write:statuses")
async def delete_status(call: Call, key: str) -> wire.Response:
    """DELETE /api/v1/statuses/ID"""
    found = timeline.own(call, key)
    if found is None:
        refuse(404, "Not Found")
    body = {**status(call, found), "text": found.text}
    timeline.delete(call, found, free_media=False)
    return wire.as_json(body)


@gate("read:statuses|read:accounts")
async def account_statuses(call: Call, account_id: str) -> wire.Response:
    """GET /api/v1/accounts/ID/statuses: 30 at a time, needs read:statuses"""
    _check_token(call, "read:statuses")
    who = call.network.store.accounts.get(account_id)
    if who is None or who.instance != call.instance.name:
        refuse(404, "Not Found")
    return timeline.listing(call, who, default=30, most=80)


async def missing(call: Call) -> wire.Response:
    """Unknown paths answer JSON; a wrong method on a known path answers text."""
    if call.request.path == "/api/v1/statuses":
        return wire.Response(405, b"405 method not allowed", "text/plain")
    return wire.as_json({"error": "Not Found"}, 404)


def status(call: Call, record: model.Status) -> dict[str, Any]:
    """GoToSocial's status: Mastodon's with an interaction policy."""
    everybody = {"always": ["public", "me"], "automatic_approval": ["public", "me"]}
    rule = {**everybody, "manual_approval": [], "with_approval": []}
    policy = dict.fromkeys(("can_favourite", "can_reply", "can_reblog"), rule)
    body = {**entities.status(call, record), "text": record.text, "content_type": "text/plain"}
    return {**body, "interaction_policy": policy}


def refuse(code: int, text: str) -> NoReturn:
    """GoToSocial's error body."""
    raise wire.Answer(wire.as_json({"error": text}, code))


def _check_token(call: Call, scope: str) -> None:
    token = call.token
    if token is None or token.is_dead(call.now):
        refuse(401, "Unauthorized: token not supplied")
    if call.account is None:
        refuse(401, "Unauthorized: user not supplied or not authorized")
    if call.fault("permission_missing") or not any(grants.allows(token.scopes, one) for one in scope.split("|")):
        refuse(403, f"Forbidden: token has insufficient scope permission, requires {scope}")


def _check(call: Call) -> None:
    """What GoToSocial words differently from Mastodon."""
    given, profile, store = call.params, call.profile, call.network.store
    keys = given.many("media_ids")
    if len(keys) > profile.max_media:
        refuse(400, f"Bad Request: media files exceed max count ({profile.max_media})")
    for key in keys:
        upload = store.uploads.get(key)
        if upload is None or upload.deleted or upload.account_id != call.me.id:
            refuse(400, f"Bad Request: media not found: {key}")
        if upload.status_id is not None:
            refuse(400, f"Bad Request: media already attached to status: {key}")
    if not (given.text("status").strip() or keys or given.nested("poll") or given.text("spoiler_text")):
        refuse(400, "Bad Request: status contains no text, media or poll")
    if len(given.text("status")) + len(given.text("spoiler_text")) > profile.max_characters:
        refuse(400, f"Bad Request: text with spoiler exceed max chars ({profile.max_characters})")
    language = given.text("language")
    if language and not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]{2,4})?", language):
        refuse(400, f"Bad Request: invalid language tag: language: {language} is not well-formed")
    if given.text("visibility") not in ("", "mutuals_only", *statuses.VISIBILITIES):
        refuse(422, "Unprocessable Entity: processVisibility: invalid visibility")


def _translated(refusal: wire.Answer) -> wire.Answer:
    """Mastodon's 422 from the shared checks becomes GoToSocial's 400."""
    response = refusal.response
    if response.status == 422 and b"Unprocessable" not in response.body:
        response.status = 400
        response.body = response.body.replace(b'"error":"', b'"error":"Bad Request: ', 1)
    return refusal


def _scheduled_at(call: Call) -> float | None:
    text = call.params.text("scheduled_at")
    if not text:
        return None
    at = from_iso(text)
    if at is None:
        refuse(400, f"Bad Request: could not parse scheduled_at value {text} as ISO8601 time")
    if 0 < at - call.now < 300:
        refuse(422, "Unprocessable Entity: scheduled_at must be at least 5 minutes in the future")
    return at


def _upload(call: Call, key: str) -> model.Upload:
    found = uploads.find(call, key, attached_too=True)
    if found is None:
        refuse(404, "Not Found")
    return found


def status_url(instance: Instance, account: model.Account, status: model.Status) -> str:
    """/@wren/statuses/01KAV…"""
    return f"{instance.url}/@{account.username}/statuses/{status.id}"


def usual_profile(software: str, version: str | None) -> Profile:
    """GoToSocial 0.20."""
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
        mime_types=_TYPES,
        poll_options=6,
        media_guard=True,
        media_processing_s=0.0,
        async_media=False,
    )


def limited(call: Call, fault: Fault, seconds: float) -> wire.Response:
    """Its 429."""
    headers = rate_limits.headers(300, 0, iso_ms(call.now + seconds))
    return wire.as_json({"error": "rate limit reached"}, int(fault.option("status", 429)), headers)


ROUTES: list[Route] = [
    *oauth.ROUTES,
    ("POST", r"/oauth/revoke", oauth.revoke),
    *instance_documents.ROUTES,
    ("GET", r"/api/v1/accounts/verify_credentials", verify_credentials),
    ("POST", r"/api/v[12]/media", upload),
    ("GET", r"/api/v1/media/(\w+)", show_media),
    ("PUT", r"/api/v1/media/(\w+)", change_media),
    ("POST", r"/api/v1/statuses", create_status),
    ("GET", r"/api/v1/statuses/(\w+)", show_status),
    ("DELETE", r"/api/v1/statuses/(\w+)", delete_status),
    ("GET", r"/api/v1/statuses/(\w+)/source", show_source),
    ("GET", r"/api/v1/accounts/(\w+)/statuses", account_statuses),
]


FAMILY = Family(
    routes=ROUTES,
    missing=missing,
    software={"gotosocial": usual_profile},
    scopes=("profile", "read:accounts", "read:statuses", "write:media", "write:statuses"),
    connect=connections.connect,
    account_id=Store.ulid,
    status_url=status_url,
    limited=limited,
)
