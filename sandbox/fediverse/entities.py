"""JSON shapes of the Mastodon API family: account, media attachment, status, poll, instance."""

import html
import re
from typing import Any

from sandbox.core import links, model
from sandbox.core.call import Call
from sandbox.core.clock import iso_day, iso_ms
from sandbox.core.media import BLURHASH

URL = re.compile(r"https?://[^\s<>\"]+")
TAG = re.compile(r"(?<![\w/])#(\w*[^\W\d_]\w*)")


def account(call: Call, who: model.Account) -> dict[str, Any]:
    """An Account."""
    instance, posts = call.instance, call.network.store.by_account.get(who.id, [])
    visible = [post for post in posts if post.deleted_at is None and post.hidden is None]
    avatar, page = links.avatar_url(instance, who), call.family.profile_url(instance, who)
    newer: dict[str, Any] = {"noindex": False} if call.profile.family == "mastodon" else {}
    if is_newer(call):
        newer = {"uri": call.url(f"/users/{who.username}")}
    return {
        "id": who.id,
        "username": who.username,
        "acct": who.username,
        "display_name": who.display_name,
        "locked": bool(who.traits.get("locked")),
        "bot": False,
        "discoverable": None,
        "group": False,
        "created_at": iso_day(who.created_at) + "T00:00:00.000Z",
        "note": "",
        "url": page,
        "avatar": avatar,
        "avatar_static": avatar,
        "header": call.url("/headers/original/missing.png"),
        "header_static": call.url("/headers/original/missing.png"),
        "followers_count": 0,
        "following_count": 0,
        "statuses_count": len(visible),
        "last_status_at": iso_day(visible[-1].created_at) if visible else None,
        "emojis": [],
        "roles": [],
        "fields": [],
        **newer,
    }


def credentials(call: Call, who: model.Account) -> dict[str, Any]:
    """An Account with its private half, as verify_credentials gives it."""
    source = {
        "privacy": who.traits.get("default_visibility", "public"),
        "sensitive": False,
        "language": who.traits.get("language"),
        "note": "",
        "fields": [],
        "follow_requests_count": 0,
    }
    role = {"id": "-99", "name": "", "permissions": "65536", "color": "", "highlighted": False}
    return {**account(call, who), "source": source, "role": role}


def attachment(call: Call, upload: model.Upload) -> dict[str, Any]:
    """A MediaAttachment; url is null while it is processed."""
    ready = upload.ready_at <= call.now and not upload.failed and upload.polls_left <= 0
    original: dict[str, Any] = {"width": upload.width, "height": upload.height}
    original["size"] = f"{upload.width}x{upload.height}"
    original["aspect"] = upload.width / upload.height if upload.height else 0.0
    meta: dict[str, Any] = {"original": original, "small": dict(original)}
    if upload.focus and call.profile.keeps_focus:
        meta["focus"] = {"x": upload.focus[0], "y": upload.focus[1]}
    return {
        "id": upload.id,
        "type": upload.kind,
        "url": links.media_url(call.instance, upload) if ready else None,
        "preview_url": links.media_url(call.instance, upload, "small"),
        "remote_url": None,
        "preview_remote_url": None,
        "text_url": None,
        "meta": meta,
        "description": upload.description,
        "blurhash": BLURHASH,
    }


def _attached(call: Call, upload: model.Upload, number: int) -> dict[str, Any]:
    shown = attachment(call, upload)
    return shown if call.profile.keeps_media_ids else {**shown, "id": str(number)}


def status(call: Call, record: model.Status, source: bool = False) -> dict[str, Any]:
    """A Status; source=True gives `text` in place of `content`, as deleting does."""
    store = call.network.store
    author = store.accounts[record.account_id]
    parent = store.statuses.get(record.in_reply_to_id or "")
    page = call.network.url_of(record)
    body: dict[str, Any] = {
        "id": record.id,
        "created_at": iso_ms(record.created_at),
        "in_reply_to_id": record.in_reply_to_id,
        "in_reply_to_account_id": parent.account_id if parent else None,
        "sensitive": record.sensitive,
        "spoiler_text": record.spoiler_text,
        "visibility": record.visibility,
        "language": call.profile.says_language or record.language,
        "uri": page if "stamp" in record.details else call.url(f"/users/{author.username}/statuses/{record.id}"),
        "url": page,
        "replies_count": 0,
        "reblogs_count": 0,
        "favourites_count": 0,
        "edited_at": iso_ms(record.edited_at) if record.edited_at else None,
    }
    if call.account is not None:
        body |= dict.fromkeys(("favourited", "reblogged", "muted", "bookmarked", "pinned"), False)
        body["filtered"] = []
    body |= {"text": record.text} if source else {"content": render(call, record.text)}
    return body | {
        "reblog": None,
        "application": _application(call, record, author),
        "account": account(call, author),
        "media_attachments": [_attached(call, store.uploads[key], n) for n, key in enumerate(record.media_ids)],
        "mentions": [],
        "tags": [{"name": tag.lower(), "url": call.url(f"/tags/{tag.lower()}")} for tag in TAG.findall(record.text)],
        "emojis": [],
        "card": None,
        "poll": poll(call, record) if record.poll else None,
        **({"quote": None, "quotes_count": 0} if is_newer(call) else {}),
    }


def poll(call: Call, record: model.Status) -> dict[str, Any]:
    """A Poll nobody has voted in yet."""
    asked = record.poll or {}
    expires_at = record.created_at + asked["expires_in"]
    return {
        "id": record.id,
        "expires_at": iso_ms(expires_at),
        "expired": expires_at <= call.now,
        "multiple": asked["multiple"],
        "votes_count": 0,
        "voters_count": 0,
        "voted": True,
        "own_votes": [],
        "options": [{"title": title, "votes_count": 0} for title in asked["options"]],
        "emojis": [],
    }


def render(call: Call, text: str) -> str:
    """Text as the server's HTML: paragraphs, breaks, links and hashtags."""

    def linked(part: str) -> str:
        part = URL.sub(lambda m: f'<a href="{m[0]}" rel="nofollow noopener" target="_blank">{m[0]}</a>', part)
        tag = r'<a href="{}" class="mention hashtag" rel="tag">#<span>{}</span></a>'
        return TAG.sub(lambda m: tag.format(call.url(f"/tags/{m[1].lower()}"), m[1]), part)

    paragraphs = [linked(html.escape(part, quote=False)) for part in re.split(r"\n{2,}", text) if part]
    return "".join(f"<p>{part.replace(chr(10), '<br />')}</p>" for part in paragraphs)


def is_newer(call: Call) -> bool:
    """Mastodon 4.3 brought fields that older versions and other software do not send."""
    return call.profile.software == "mastodon" and call.profile.at_least("4.3")


def _application(call: Call, record: model.Status, author: model.Account) -> dict[str, Any] | None:
    if call.profile.family == "pixelfed":
        return {"name": "web", "website": None}
    if not call.profile.names_app:
        return None
    app = call.network.store.apps.get(record.client_id)
    own = call.account is not None and call.account.id == author.id
    return {"name": app.name, "website": app.website} if app and own else None
