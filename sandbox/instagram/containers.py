"""Instagram's media containers: made from addresses we really fetch, watched through their states, published
once.
"""

import asyncio
import hashlib
import json
import re
from typing import Any

import httpx

from sandbox.core import media, model, wire
from sandbox.core.call import Call
from sandbox.instagram import graph

LIFE_S = 24 * 3600
_SENTENCES = {
    "FINISHED": "Finished: Media has been uploaded and it is ready to be published.",
    "IN_PROGRESS": "In Progress: Media is still being processed.",
    "PUBLISHED": "Published: Media has already been published.",
    "EXPIRED": "Expired: Media is expired and was not published within 24 hours.",
}


async def create(call: Call, account: model.Account) -> wire.Response:
    """POST /{ig-id}/media -> {"id": container}; pictures are fetched before the answer, videos after it."""
    given, store = call.params, call.network.store
    kind = given.text("media_type") or "IMAGE"
    child = given.flag("is_carousel_item")
    _check(call, kind, child)
    recent = [one for one in store.containers.values() if one.account_id == account.id]
    if sum(call.now - one.created_at < LIFE_S for one in recent) >= call.profile.container_quota:
        graph.refuse(9, 2207042, "(#9) The user has reached the maximum number of containers in 24 hours.")
    container = model.Container(
        id=store.graph_id("179"),
        instance=call.instance.name,
        account_id=account.id,
        media_type=kind,
        params={n: v for n, v in given.values.items() if n != "access_token"},
        created_at=call.now,
        ready_at=call.now + _processing_s(call, kind),
        is_child=child,
        children=_children(call, account) if kind == "CAROUSEL" else [],
    )
    await _gather(call, container)
    fault = call.fault("container_error")
    if fault:
        container.error = f"Error: Media upload has failed with error code {fault.option('code', 2207026)}"
    store.keep(container)
    return wire.as_json({"id": container.id})


def state(call: Call, container: model.Container) -> str:
    """IN_PROGRESS | FINISHED | ERROR | EXPIRED | PUBLISHED, as it is told to the outside (which may lag)."""
    if container.published_at is not None and call.now >= container.reported_after:
        return "PUBLISHED" if call.now - container.created_at < LIFE_S else "EXPIRED"
    if container.error:
        return "ERROR"
    if call.now - container.created_at >= LIFE_S:
        return "EXPIRED"
    children = [call.network.store.containers[key] for key in container.children]
    states = {state(call, one) for one in children}
    if "ERROR" in states or "EXPIRED" in states:
        return "ERROR"
    if container.fetching or call.now < container.ready_at or "IN_PROGRESS" in states:
        return "IN_PROGRESS"
    return "FINISHED"


def expire(call: Call, container: model.Container) -> None:
    """Its day is over, and with it what it was made of."""
    container.created_at = call.now - LIFE_S
    call.network.store.keep(container)


def body(call: Call, container: model.Container) -> dict[str, Any]:
    """Every field of a container that can be asked for."""
    code = state(call, container)
    sentence = _SENTENCES.get(code) or container.error or "Error: a carousel item has failed"
    return {"id": container.id, "status_code": code, "status": sentence, "copyright_check_status": None}


def _check(call: Call, kind: str, child: bool) -> None:
    given = call.params
    if kind not in ("IMAGE", "VIDEO", "REELS", "STORIES", "CAROUSEL"):
        graph.refuse(100, 2207023, f"(#100) Unknown media_type {kind}")
    if kind == "VIDEO" and not child:
        graph.refuse(100, 2207067, "(#100) The VIDEO value for media_type is no longer supported. Use REELS.")
    if kind == "IMAGE" and not given.text("image_url"):
        graph.refuse(100, None, "(#100) The parameter image_url is required")
    if kind in ("VIDEO", "REELS") and not given.text("video_url"):
        graph.refuse(100, None, "(#100) The parameter video_url is required")
    if kind == "STORIES" and not (given.text("image_url") or given.text("video_url")):
        graph.refuse(100, None, "(#100) The parameter image_url or video_url is required")
    caption = given.text("caption")
    tags, mentions = re.findall(r"#\w+", caption), re.findall(r"(?<!\w)@\w+", caption)
    if len(caption) > call.profile.max_characters or len(tags) > 30:
        graph.refuse(36004, 2207010, "The caption was too long or has too many hashtags.")
    if len(mentions) > 20:
        graph.refuse(100, 2207040, "(#100) Cannot use more than 20 tags per created media.")
    if len(given.text("alt_text")) > 1000:
        graph.refuse(100, None, "(#100) alt_text must be at most 1000 characters long")
    if len(_listed(given.values.get("collaborators"))) > 3:
        graph.refuse(100, 2207035, "(#100) At most 3 collaborators can be invited")
    if any("x" not in tag or "y" not in tag for tag in user_tags(given.values)) and kind == "IMAGE":
        graph.refuse(100, 2207036, "(#100) The tag must contain x and y")


def user_tags(params: dict[str, Any]) -> list[dict[str, Any]]:
    """`[{"username", "x", "y"}]` from the parameter, sent as JSON text or as a list."""
    return [tag for tag in _listed(params.get("user_tags")) if isinstance(tag, dict)]


def collaborators(params: dict[str, Any]) -> list[str]:
    """The invited usernames."""
    return [str(name) for name in _listed(params.get("collaborators"))]


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str) and value:
        try:
            value = json.loads(value)
        except ValueError:
            return [part.strip() for part in value.split(",")]
    return value if isinstance(value, list) else []


def _children(call: Call, account: model.Account) -> list[str]:
    raw = call.params.values.get("children")
    keys = [str(key) for key in raw] if isinstance(raw, list) else [k for k in str(raw or "").split(",") if k]
    keys = [key.strip() for key in keys]
    if not 2 <= len(keys) <= call.profile.max_media:
        graph.refuse(100, 2207028, "(#100) The carousel needs between 2 and 10 photos or videos.")
    for key in keys:
        one = call.network.store.containers.get(key)
        if one is None or one.account_id != account.id or not one.is_child:
            graph.refuse(100, 2207028, f"(#100) {key} is not a carousel item")
        if state(call, one) == "EXPIRED":
            graph.refuse(-2, 2207020, "The media you are trying to access has expired.")
    return keys


def _processing_s(call: Call, kind: str) -> float:
    if kind == "CAROUSEL":
        return call.profile.carousel_processing_s
    moving = kind in ("VIDEO", "REELS") or bool(call.params.text("video_url"))
    return call.profile.media_processing_s if moving else call.profile.image_processing_s


async def _gather(call: Call, container: model.Container) -> None:
    """Fetch what the container points at: a picture now, a video in the background."""
    if container.media_type == "CAROUSEL":
        containers = call.network.store.containers
        container.upload_ids = [key for one in container.children for key in containers[one].upload_ids]
        return
    address = call.params.text("video_url")
    if not address:
        taken = await _fetch(call, call.params.text("image_url"))
        container.upload_ids = [_take_picture(call, container, taken).id]
        return
    container.fetching = True
    task = asyncio.get_running_loop().create_task(_fetch_video(call, container, address))
    call.network.background.add(task)
    task.add_done_callback(call.network.background.discard)


async def _fetch_video(call: Call, container: model.Container, address: str) -> None:
    try:
        taken = await _fetch(call, address)
        seen = _looked(taken)
        if seen.kind != "video" or not seen.intact:
            graph.refuse(352, 2207026, "The video format is not supported.")
        if len(taken) > call.profile.video_bytes:
            graph.refuse(36000, 2207004, "The video is too large.")
        container.upload_ids = [_keep(call, container, taken, seen).id]
    except wire.Answer as refusal:
        subcode = json.loads(refusal.response.body)["error"]["error_subcode"]
        container.error = f"Error: Media upload has failed with error code {subcode}"
    finally:
        container.fetching = False
        call.network.store.keep(container)
        call.network.store.flush()


async def _fetch(call: Call, address: str) -> bytes:
    """Like Meta's fetcher: plain public addresses, one try, ten seconds."""
    unreachable = "The media could not be fetched from this URI."
    if call.fault("unfetchable") or not address.isascii() or not address.startswith(("http://", "https://")):
        graph.refuse(9004, 2207052, unreachable)
    try:
        answer = await call.network.http.get(address, headers={"User-Agent": "facebookexternalhit/1.1"})
    except httpx.TimeoutException:
        graph.refuse(-2, 2207003, "It takes too long to download the media.")
    except (httpx.HTTPError, httpx.InvalidURL):
        graph.refuse(9004, 2207052, unreachable)
    kind = answer.headers.get("content-type", "")
    if answer.status_code != 200 or kind.startswith("text/"):
        graph.refuse(9004, 2207052, "Only photo or video can be accepted as media type.")
    return answer.content


def _take_picture(call: Call, container: model.Container, taken: bytes) -> model.Upload:
    seen = _looked(taken)
    if len(taken) > call.profile.image_bytes:
        graph.refuse(36000, 2207004, "The image is too large to download. It should be less than 8 MiB.")
    if seen.mime != "image/jpeg":
        graph.refuse(36001, 2207005, "The image format is not supported. Please use JPEG.")
    ratio = seen.width / max(seen.height, 1)
    if container.media_type == "IMAGE" and not 0.795 <= ratio <= 1.915:
        graph.refuse(36003, 2207009, "The submitted image has an aspect ratio that is not between 4:5 and 1.91:1.")
    return _keep(call, container, taken, seen)


def _looked(taken: bytes) -> media.Look:
    try:
        return media.look(taken)
    except media.NotMedia:
        graph.refuse(9004, 2207052, "Only photo or video can be accepted as media type.")


def _keep(call: Call, container: model.Container, taken: bytes, seen: media.Look) -> model.Upload:
    store = call.network.store
    upload = model.Upload(
        id=store.graph_id("178"),
        instance=call.instance.name,
        account_id=container.account_id,
        kind=seen.kind,
        mime=seen.mime,
        description=container.params.get("alt_text") or None,
        focus=None,
        width=seen.width,
        height=seen.height,
        size_bytes=len(taken),
        sha256=hashlib.sha256(taken).hexdigest(),
        created_at=call.now,
        ready_at=call.now,
        has_exif=seen.has_exif,
        has_gps=seen.has_gps,
        details={"source_url": container.params.get("image_url") or container.params.get("video_url")},
    )
    store.keep_picture(upload.sha256, taken)
    store.keep(upload)
    return upload
