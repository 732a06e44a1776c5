"""Making a status the way Mastodon makes one: what is refused, what the key is good for, which pictures may
be attached.

Akkoma, Takahe and unknown servers run through here too, with their differences in the Profile.
"""

import hashlib
import re
import secrets
import time
from typing import NoReturn

import regex

from sandbox.core import model, wire
from sandbox.core.call import Call
from sandbox.core.clock import from_iso, iso_ms
from sandbox.fediverse import entities, idempotency, uploads

VISIBILITIES = ("public", "unlisted", "private", "direct")
_GRAPHEME = regex.compile(r"\X")
_REMOTE = re.compile(r"(@\w+)@[\w.:-]+")


async def create(call: Call) -> wire.Response:
    """POST /api/v1/statuses, with the caller's token and scope already checked."""
    if call.malformed:
        return wire.Response(400, b"", "text/html; charset=UTF-8")
    key, author = call.request.headers.get("idempotency-key"), call.me
    repeat = idempotency.recall(call, author, key)
    if repeat is not None:
        return repeat
    lock = f"{author.id}:{key}"
    if key and call.profile.idempotency_lock:
        await idempotency.take_lock(call, lock)
        repeat = idempotency.recall(call, author, key)
    try:
        return repeat or await _make(call, author, key)
    finally:
        call.instance.locks.discard(lock)


async def _make(call: Call, author: model.Account, key: str | None) -> wire.Response:
    draft: model.Status | None = None
    try:
        draft = compose(call, author, key)
        await call.pause()
        response = _save(call, draft)
    except wire.Answer as refusal:
        response = refusal.response
    if call.profile.idempotency == "cached":
        idempotency.remember(call, author, key, answer_status=response.status, answer_body=response.body.decode())
    elif response.status == 200 and draft and draft.hidden is None:
        idempotency.remember(call, author, key, status_id=draft.id)
    return response


def compose(call: Call, author: model.Account, key: str | None) -> model.Status:
    """Check everything a server checks and build the record; raises wire.Answer with the refusal."""
    given, profile = call.params, call.profile
    _refuse_oddities(call)
    poll = _poll(call)
    attached = _attachable(call, given.many("media_ids"))
    text, spoiler = given.text("status").strip(), given.text("spoiler_text")
    text = text.replace(f"@{call.instance.domain}", "")
    if not text and spoiler:
        text, spoiler = spoiler, ""
    if poll and attached and not profile.poll_with_media:
        invalid("Cannot attach a poll to a post with media")
    if not text and not attached and not poll:
        invalid("Validation failed: Text can't be blank", profile.refusal)
    if profile.counts and length(call, spoiler, text) > profile.max_characters:
        invalid(f"Validation failed: Text character limit of {profile.max_characters} exceeded", profile.refusal)
    number, stamp = _identity(call, author)
    return model.Status(
        id=number,
        instance=call.instance.name,
        account_id=author.id,
        created_at=call.now,
        committed_ns=0,
        text=text,
        spoiler_text=spoiler,
        sensitive=given.flag("sensitive", bool(spoiler)) or bool(spoiler),
        visibility=_visibility(call, author),
        language=_language(call, author),
        in_reply_to_id=_parent(call),
        media_ids=[] if call.fault("drop_media") else [upload.id for upload in attached],
        poll=poll,
        client_id=call.token.client_id if call.token else "",
        idempotency_key=key,
        hidden="dropped" if call.fault("silently_drop") else None,
        details={"quote_approval_policy": given.text("quote_approval_policy") or None, **stamp},
    )


def _identity(call: Call, author: model.Account) -> tuple[str, dict[str, str]]:
    """A new status's id as this software makes them, and what of it stands in its address where that is another."""
    store = call.network.store
    number = int(store.snowflake())
    if call.profile.ids == "uuid":  # version 7
        head, tail = f"{number >> 16:012x}", f"{number & 0xFFFF:04x}"
        return f"{head[:8]}-{head[8:]}-7{tail[:3]}-8{tail[3]}00-{secrets.token_hex(6)}", {}
    if call.profile.ids == "snac":  # the second is made to grow: real ids of one second are in any order
        stamp = f"{(number >> 16) / 1000:.3f}{number % 1000:03d}"
        digest = hashlib.md5(
            f"{call.family.profile_url(call.instance, author)}/p/{stamp}".encode(), usedforsecurity=False
        )
        return f"{store.second():010d}{digest.hexdigest()}", {"stamp": stamp}
    return str(number), {}


def commit(call: Call, record: model.Status) -> None:
    """The moment a status becomes real: kept, and its pictures taken."""
    store = call.network.store
    record.committed_ns = time.time_ns()
    store.keep(record)
    if record.hidden == "dropped":
        return
    for key in record.media_ids:
        upload = store.uploads[key]
        upload.status_id = record.id
        store.keep(upload)


def length(call: Call, spoiler: str, text: str) -> int:
    """Characters as this software counts them."""
    counting = call.profile.counting
    if counting in ("codepoints", "text"):
        return len(text) + (len(spoiler) if counting == "codepoints" else 0)
    if counting == "clusters":
        return len(_GRAPHEME.findall(spoiler)) + len(_GRAPHEME.findall(text))
    shortened = entities.URL.sub("x" * call.profile.url_length, text)
    shortened = _REMOTE.sub(r"\1", shortened)
    return len(_GRAPHEME.findall(spoiler)) + len(_GRAPHEME.findall(shortened))


def invalid(text: str, status: int = 422) -> NoReturn:
    """Refuse with Mastodon's error body."""
    raise wire.Answer(wire.as_json({"error": text}, status))


def _save(call: Call, draft: model.Status) -> wire.Response:
    at = from_iso(call.params.text("scheduled_at")) if call.params.text("scheduled_at") else None
    if call.params.text("scheduled_at") and at is None:
        invalid("Record invalid")
    if at is not None and at - call.now >= 300:
        draft.hidden = "scheduled"
        draft.details["scheduled_at"] = at
        commit(call, draft)
        return wire.as_json(scheduled(call, draft))
    commit(call, draft)
    return wire.as_json(entities.status(call, draft))


def scheduled(call: Call, record: model.Status) -> dict[str, object]:
    """A ScheduledStatus: in somebody else's queue, with an id of another space."""
    attached = [call.network.store.uploads[key] for key in record.media_ids]
    return {
        "id": str(int(record.id[-6:])) if record.id.isdigit() else record.id,
        "scheduled_at": iso_ms(record.details["scheduled_at"]),
        "params": {
            **dict.fromkeys(("poll", "in_reply_to_id", "application_id", "idempotency", "scheduled_at")),
            "text": record.text,
            "visibility": record.visibility,
            "language": record.language,
            "spoiler_text": record.spoiler_text,
            "sensitive": record.sensitive,
            "media_ids": record.media_ids or None,
            "with_rate_limit": False,
        },
        "media_attachments": [entities.attachment(call, upload) for upload in attached],
    }


def _refuse_oddities(call: Call) -> None:
    """What some servers take offence at, and others do not even look at."""
    given, profile = call.params, call.profile
    if not profile.empty_text and given.has("status") and given.text("status") == "":
        invalid("invalid_request")
    as_form = "json" not in call.request.headers.get("content-type", "")
    if as_form and not profile.form_booleans and given.has("sensitive"):
        invalid("sensitive: expected a boolean", 400)


def _parent(call: Call) -> str | None:
    parent = call.params.text("in_reply_to_id") or None
    if parent is None or _exists(call, parent):
        return parent
    if call.profile.ignores_lost_parent:
        return None
    raise wire.Answer(wire.as_json({"error": "The post you are trying to reply to does not appear to exist."}, 404))


def _attachable(call: Call, keys: list[str]) -> list[model.Upload]:
    profile = call.profile
    if len(keys) > profile.max_media:
        invalid(f"Cannot attach more than {profile.max_media} files")
    if vanishing := call.fault("media_vanishes"):
        for key in keys[: int(vanishing.option("count", 1))]:
            call.network.store.uploads[key].deleted = True
    again = profile.software in ("takahe", "akkoma", "pleroma", "snac")
    found = [one for key in keys if (one := uploads.find(call, key, attached_too=again))]
    lost = [key for key in keys if key not in {one.id for one in found}]
    if lost and profile.software == "hollo":  # the transaction is rolled back by an exception nobody catches
        raise wire.Answer(wire.Response(500, b"Internal Server Error", "text/plain"))
    if lost and profile.software == "takahe":
        raise wire.Answer(wire.as_json({"error": "Not Found"}, 404))
    if lost and profile.media_guard:
        invalid(f"Media {', '.join(lost)} not found or already attached to another post")
    if any(upload.ready_at > call.now or upload.polls_left > 0 or upload.failed for upload in found):
        invalid("Cannot attach files that have not finished processing. Try again in a moment!")
    alone = profile.software in ("mastodon", "hometown")
    if alone and len(found) > 1 and any(upload.kind in ("audio", "video") for upload in found):
        invalid("Cannot attach a video to a post that already contains images")
    return found


def _poll(call: Call) -> dict[str, object] | None:
    asked, profile = call.params.nested("poll"), call.profile
    as_json = "json" in call.request.headers.get("content-type", "")
    if not asked or (as_json and not profile.json_polls):
        return None
    options = [str(option).strip() for option in asked.get("options") or []]
    try:
        expires_in = int(asked.get("expires_in") or 0)
    except ValueError:
        expires_in = 0
    if not 2 <= len(options) <= profile.poll_options:
        invalid(f"Validation failed: Options must be between 2 and {profile.poll_options} items")
    if any(not option or len(_GRAPHEME.findall(option)) > profile.poll_option_chars for option in options):
        invalid(f"Validation failed: Options can be no longer than {profile.poll_option_chars} characters each")
    if len(set(options)) < len(options):
        invalid("Validation failed: Options contain duplicate items")
    if not 300 <= expires_in <= 2_629_746:
        invalid("Validation failed: Duration is too short" if expires_in < 300 else "Duration is too long")
    flags = {name: str(asked.get(name, "")).lower() in ("1", "true", "on") for name in ("multiple", "hide_totals")}
    return {"options": options, "expires_in": expires_in, **flags}


def _visibility(call: Call, author: model.Account) -> str:
    wanted = call.params.text("visibility") or author.traits.get("default_visibility", "public")
    if wanted not in VISIBILITIES:
        if call.profile.software == "mastodon" and not call.profile.at_least("4.3"):
            raise wire.Answer(wire.Response(500, b"", "text/html; charset=UTF-8"))
        invalid("Validation failed: Visibility is not included in the list")
    silenced = author.traits.get("silenced") or call.fault("change_visibility")
    return "unlisted" if wanted == "public" and silenced else wanted


def _language(call: Call, author: model.Account) -> str | None:
    if not call.profile.keeps_language:
        return None
    given = call.params.text("language")  # nonsense falls back to the account's own
    known = re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]{2,4})?", given)
    return given if known else author.traits.get("language") or call.profile.language


def _exists(call: Call, key: str) -> bool:
    parent = call.network.store.statuses.get(key)
    return parent is not None and parent.instance == call.instance.name and parent.deleted_at is None
