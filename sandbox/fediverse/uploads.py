"""Uploaded media of the Mastodon family: accepting, describing, handing out, letting go."""

import hashlib
from typing import NoReturn

from sandbox.core import media, model, params, wire
from sandbox.core.call import Call
from sandbox.core.software import Profile
from sandbox.fediverse import entities

ORPHAN_S = 48 * 3600


def accept(call: Call) -> model.Upload:
    """Take the `file` of a multipart request; raises wire.Answer with Mastodon's refusals."""
    file = call.params.files.get("file")
    if file is None:
        _invalid("Validation failed: File can't be blank")
    description = call.params.text("description") or None
    profile = call.profile
    seen = _look(call, file)
    if not profile.looks_into_media:
        return keep(call, file.body, seen, description)
    limit = profile.image_bytes if seen.kind in ("image", "gifv") else profile.video_bytes
    if len(file.body) > limit:
        megabytes = limit // (1024 * 1024)
        text = f"File must be less than {megabytes} MB, File file size must be less than {megabytes} MB"
        _invalid(f"Validation failed: {text}")
    if seen.mime not in profile.mime_types:
        _invalid("Validation failed: File content type is invalid, File is invalid")
    if seen.width * seen.height > _most_pixels(profile, seen.kind):
        _invalid(f"{seen.width}x{seen.height} images are not supported")
    if description and len(description) > profile.description_limit:
        _invalid(f"Validation failed: Description is too long (maximum is {profile.description_limit} characters)")
    return keep(call, file.body, seen, description)


def keep(call: Call, body: bytes, seen: media.Look, description: str | None, key: str = "") -> model.Upload:
    """Store an accepted file; what needs processing is ready later."""
    store, author = call.network.store, call.me
    upload = model.Upload(
        id=key or store.snowflake(),
        instance=call.instance.name,
        account_id=author.id,
        kind=seen.kind,
        mime=seen.mime,
        description=description,
        focus=read_focus(call.params),
        width=seen.width,
        height=seen.height,
        size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        created_at=call.now,
        ready_at=call.now + (call.profile.media_processing_s if is_slow(call, seen.kind) else 0),
        has_exif=seen.has_exif,
        has_gps=seen.has_gps,
    )
    _bend(call, upload)
    store.keep_picture(upload.sha256, body)
    store.keep(upload)
    return upload


def find(call: Call, key: str, attached_too: bool = False, max_age_s: float = ORPHAN_S) -> model.Upload | None:
    """An own upload; attached, deleted and long forgotten ones are not found."""
    upload = call.network.store.uploads.get(key)
    if upload is None or call.account is None or upload.account_id != call.account.id or upload.deleted:
        return None
    if upload.status_id is not None:
        return upload if attached_too else None
    return upload if call.now - upload.created_at < max_age_s else None


def state(upload: model.Upload, now: float) -> int:
    """The status GET media answers: 200 ready, 206 processing, 422 failed. Counts down enforced waits."""
    if upload.polls_left > 0:
        upload.polls_left -= 1
        return 206
    if upload.ready_at > now:
        return 206
    return 422 if upload.failed else 200


def change(call: Call, upload: model.Upload) -> None:
    """PUT media: description and focus."""
    if call.params.has("description"):
        upload.description = call.params.text("description") or None
    upload.focus = read_focus(call.params) or upload.focus
    call.network.store.keep(upload)


def answer(call: Call, upload: model.Upload, status: int) -> wire.Response:
    """The attachment with a status of its own; failed ones answer with the error alone."""
    if status == 422:
        return wire.as_json({"error": "Error processing thumbnail for uploaded media"}, 422)
    return wire.as_json(entities.attachment(call, upload), status)


def is_slow(call: Call, kind: str) -> bool:
    """Videos, sound and animations are processed after the answer."""
    return call.profile.async_media and kind != "image"


def read_focus(given: params.Params) -> tuple[float, float] | None:
    """`"0.1,-0.2"` -> (0.1, -0.2)."""
    try:
        x, y = (float(part) for part in given.text("focus").split(","))
    except ValueError:
        return None
    return x, y


def _most_pixels(profile: Profile, kind: str) -> int:
    if kind == "gifv" and profile.gif_pixels is not None:
        return profile.gif_pixels
    return profile.image_pixels if kind == "image" else profile.video_pixels


def _bend(call: Call, upload: model.Upload) -> None:
    waiting = call.fault("still_processing")
    if waiting:
        upload.polls_left = int(waiting.option("polls", 3))
    if call.fault("media_failed"):
        upload.failed = True
        upload.polls_left = max(upload.polls_left, 1)
    if call.fault("media_lost"):
        upload.deleted = True


def _look(call: Call, file: params.File) -> media.Look:
    if not file.body:
        _invalid("Validation failed: File content type is invalid, File is invalid")
    try:
        return media.look(file.body)
    except media.NotMedia:
        if not call.profile.looks_into_media:
            return media.Look("image", file.content_type, 0, 0)
        text = "File Paperclip::Errors::NotIdentifiedByImageMagickError"
        _invalid(f"Validation failed: {text}, {text}")


def _invalid(text: str) -> NoReturn:
    raise wire.Answer(wire.as_json({"error": text}, 422))
