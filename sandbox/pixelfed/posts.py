"""Making a post as Pixelfed does: validated, key burned, saved as a draft, then given its pictures."""

import re
import time
from typing import Any, NoReturn

from sandbox.core import links, model, wire
from sandbox.core.call import Call
from sandbox.fediverse import entities, idempotency, statuses, uploads

UPLOAD_S = 2 * 3600
_CW_CHARS = 140


async def create(call: Call, me: model.Account) -> wire.Response:
    """POST /api/v1/statuses with the token already checked."""
    if me.traits.get("never_logged_in"):
        return wire.as_json([])
    _validate(call)
    visibility = call.params.text("visibility") or "public"
    if visibility == "direct":
        abort(400, "Direct visibility is not available.")
    _burn(call, me)
    if call.params.nested("poll") or not (call.params.many("media_ids") or call.params.text("in_reply_to_id")):
        abort(403, "Empty statuses are not allowed")
    await call.pause()
    return _save(call, me, "private" if me.traits.get("locked") else visibility)


def _validate(call: Call) -> None:
    given, profile = call.params, call.profile
    if call.malformed:
        unprocessable("status", "The request body is not readable.")
    if len(given.text("status")) > profile.max_characters:
        unprocessable("status", f"The status must not be greater than {profile.max_characters} characters.")
    if len(given.many("media_ids")) > profile.max_media:
        unprocessable("media_ids", f"The media ids must not have more than {profile.max_media} items.")
    if len(given.text("spoiler_text")) > _CW_CHARS:
        unprocessable("spoiler_text", f"The spoiler text must not be greater than {_CW_CHARS} characters.")
    if given.text("visibility") not in ("", "public", "unlisted", "private", "direct"):
        unprocessable("visibility", "The selected visibility is invalid.")


def _burn(call: Call, me: model.Account) -> None:
    """The key is spent before anything is done, and stays spent when the rest fails."""
    key = call.request.headers.get("idempotency-key")
    repeat = idempotency.recall(call, me, key)
    if repeat is not None:
        raise wire.Answer(repeat)
    idempotency.remember(call, me, key)


def _save(call: Call, me: model.Account, visibility: str) -> wire.Response:
    given, store = call.params, call.network.store
    keys = given.many("media_ids")
    free = [found for key in keys if (found := uploads.find(call, key, max_age_s=UPLOAD_S))]
    if keys and not free:
        abort(400, "Invalid media_ids")
    sensitive = given.flag("sensitive")
    record = model.Status(
        id=store.snowflake(),
        instance=call.instance.name,
        account_id=me.id,
        created_at=call.now,
        committed_ns=time.time_ns(),
        text=re.sub(r"<[^>]*>", "", given.text("status")),
        spoiler_text=given.text("spoiler_text") if sensitive else "",
        sensitive=sensitive,
        visibility=visibility,
        language="en",
        in_reply_to_id=given.text("in_reply_to_id") or None,
        media_ids=[upload.id for upload in free],
        client_id=call.token.client_id if call.token else "",
        idempotency_key=call.request.headers.get("idempotency-key"),
    )
    stuck = len(free) < len(keys) or call.fault("stuck_draft") is not None
    mixed = len({upload.kind == "video" for upload in free}) > 1
    record.hidden = "draft" if stuck else "mixed" if mixed else None
    statuses.commit(call, record)
    if stuck:
        no_model("Media", next((key for key in keys if key not in record.media_ids), "0"))
    if call.fault("silently_drop"):
        record.hidden = "dropped"
        store.keep(record)
    return wire.as_json(status(call, record))


def attachment(call: Call, upload: model.Upload) -> dict[str, Any]:
    """Pixelfed's media with its own extra fields."""
    extras = {
        "mime": upload.mime,
        "optimized_url": None,
        "license": None,
        "is_nsfw": False,
        "orientation": None,
        "filter_name": None,
        "filter_class": None,
        "preview_url": links.media_url(call.instance, upload, "small"),
    }
    return {**entities.attachment(call, upload), **extras}


def status(call: Call, record: model.Status) -> dict[str, Any]:
    """Pixelfed's status: Mastodon's, always by the application `web` and in English."""
    album = len(record.media_ids) > 1
    first = call.network.store.uploads[record.media_ids[0]].kind if record.media_ids else "text"
    kind = {"image": "photo", "gifv": "photo"}.get(first, first)
    extras = {"language": "en", "content_text": record.text, "pf_type": f"{kind}:album" if album else kind}
    return {**entities.status(call, record), **extras, "content": record.text.replace("\n", "<br />\n")}


def abort(status: int, text: str) -> NoReturn:
    """Laravel's abort(): the status is kept."""
    raise wire.Answer(wire.as_json({"error": text}, status))


def unprocessable(field: str, text: str) -> NoReturn:
    """Validation: 500 with an `errors` object (422 on newer builds)."""
    raise wire.Answer(wire.as_json({"message": text, "errors": {field: [text]}}, 500))


def no_model(kind: str, key: str) -> NoReturn:
    """A missing row: 500 with a text that names the model."""
    raise wire.Answer(wire.as_json({"error": f"No query results for model [App\\{kind}] {key}"}, 500))
