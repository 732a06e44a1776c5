"""What a lost request left on the account: the account's own statuses, and which of them is the one we sent.

A status with our uploads is ours. Without uploads, or where statuses do not keep the uploads' ids, it must be of our
app, newer than the anchor (or than the request), an answer to the same status, and have our words as its source; rendered
content alone never proves that it is not ours.
"""

import html
import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import httpx
from pydantic import BaseModel, ConfigDict

from postflow.errors import Retry
from postflow.models import Attempt, Login, Outgoing
from postflow.platforms import answers
from postflow.platforms.mastodon.speaking import Speaking

Status = Mapping[str, Any]
Match = Literal["ours", "another", "unclear"]

#: The clocks of two machines differ; a status may look older than the request that made it.
SKEW = timedelta(minutes=2)
FURTHEST_SKEW = timedelta(hours=1)
PAGE = 40
_MENTION = re.compile(r"(?<![\w/])@([\w.-]*\w)(?:@[\w.-]+\w)?")
MOST_PAGES = 30


class Upload(BaseModel):
    model_config = ConfigDict(extra="forbid")

    media_id: int
    remote_id: str
    uploaded_at: datetime
    ready: bool


class Staged(BaseModel):
    """What is on the server already, unseen."""

    model_config = ConfigDict(extra="forbid")

    uploads: list[Upload] = []
    anchor: str | None = None
    anchored: bool = False


async def page(
    platform: Speaking,
    http: httpx.AsyncClient,
    login: Login,
    *,
    limit: int = PAGE,
    before: str | None = None,
    as_stranger: bool = False,
) -> httpx.Response:
    """The newest own statuses, or those older than `before`; without a token only what everybody sees."""
    params: dict[str, Any] = {"limit": limit, "exclude_reblogs": "true"}
    if before:
        params["max_id"] = before
    url = f"{login.account.base_url}/api/v1/accounts/{login.account.remote_id}/statuses"
    headers = {} if as_stranger else platform.bearer(login.credentials)
    return await answers.ask(http, "GET", url, params=params, headers=headers)


async def since(
    platform: Speaking, http: httpx.AsyncClient, login: Login, anchor: str | None, *, as_stranger: bool = False
) -> list[Status]:
    """Every own status newer than the anchor. Raises Retry when they are too many to read in one go.

    Walks down by max_id: Pixelfed's min_id gives the newest page only and would hide what lies between.
    """
    found: list[Status] = []
    before: str | None = None
    for _ in range(MOST_PAGES):
        statuses = platform.listed(await page(platform, http, login, before=before, as_stranger=as_stranger))
        newer = [one for one in statuses if anchor is None or order(one) > order({"id": anchor})]
        found += newer
        if not statuses or len(newer) < len(statuses):
            return found
        before = str(min(statuses, key=order)["id"])
    raise Retry("The account has too many new posts to look through.", code="too_many")


def order(status: Status) -> tuple[int, str]:
    """Ids grow: snowflakes and row numbers by length first, ULIDs are all of one length."""
    return len(str(status["id"])), str(status["id"])


def has_our_uploads(status: Status, staged: Staged) -> bool:
    theirs = {str(media.get("id")) for media in answers.objects(status.get("media_attachments"))}
    return bool(theirs & {upload.remote_id for upload in staged.uploads})


async def match(
    platform: Speaking, http: httpx.AsyncClient, outgoing: Outgoing, staged: Staged, attempt: Attempt, status: Status
) -> Match:
    if has_our_uploads(status, staged):
        return "ours"
    known = outgoing.server.capabilities
    if known.keeps_media_ids:
        if status.get("media_attachments") or (staged.uploads and known.media_guard):
            return "another"  # a server that knows no guard may have published our words without the pictures
        if staged.uploads and not outgoing.content.text.strip():
            return "another"
    if not _could_be(platform, outgoing, status):
        return "another"
    # Below the anchor nothing is listed. Without one a date has to do, and clocks may differ by more than we think.
    if staged.anchor is None and not _made_after(status, attempt.first_sent_at - FURTHEST_SKEW):
        return "another"
    matched = await _by_words(platform, http, outgoing, status)
    dated = staged.anchor is not None or _made_after(status, attempt.first_sent_at - SKEW)
    return "unclear" if matched == "ours" and not dated else matched


def _could_be(platform: Speaking, outgoing: Outgoing, status: Status) -> bool:
    app, name = status.get("application"), None
    if isinstance(app, Mapping) and outgoing.server.capabilities.names_app and outgoing.login.app:
        name = app.get("name")  # a token made by hand bears the name of its maker's choice
    if name is not None and name != platform.client_name:
        return False
    parent = status.get("in_reply_to_id")
    if (str(parent) if parent else None) != outgoing.reply_to_remote_id:
        return False
    return bool(status.get("poll")) == bool(outgoing.content.poll)


async def _by_words(platform: Speaking, http: httpx.AsyncClient, outgoing: Outgoing, status: Status) -> Match:
    content = outgoing.content
    asked = (normal(content.text), normal(content.spoiler_text))
    source = await _source(platform, http, outgoing, status)
    if source is None:
        shown = normal(_plain(str(status.get("content") or "")))
        return "ours" if asked[0] and shown == asked[0] else "unclear"
    said = (normal(str(source.get("text") or "")), normal(str(source.get("spoiler_text") or "")))
    blank_text = not asked[0] and said in ((asked[1], ""), asked)  # then the warning becomes the text
    if said == asked or blank_text:
        return "ours"
    return "unclear" if _MENTION.search(asked[0]) and _unaddressed(said) == _unaddressed(asked) else "another"


async def _source(
    platform: Speaking, http: httpx.AsyncClient, outgoing: Outgoing, status: Status
) -> Mapping[str, Any] | None:
    """The words as they were sent. None where the server has no such thing, or not for this token."""
    if not outgoing.server.capabilities.source:
        return None
    url = f"{outgoing.login.account.base_url}/api/v1/statuses/{status['id']}/source"
    answer = await answers.ask(http, "GET", url, headers=platform.bearer(outgoing.login.credentials))
    if answer.status_code in (403, 404, 405, 501):
        return None
    return platform.understood(answer, commit=False)


def _made_after(status: Status, since: datetime) -> bool:
    try:
        return datetime.fromisoformat(str(status.get("created_at"))) >= since
    except (ValueError, TypeError):
        return True  # unreadable: it must not count as proof of absence


def normal(text: str) -> str:
    """Servers strip the ends, fold line ends, and write mentions in their own way: shorter, in the account's capitals."""
    words = unicodedata.normalize("NFC", text).casefold().split()
    return " ".join(_MENTION.sub(r"@\1", word) for word in words)


def _unaddressed(said: tuple[str, ...]) -> list[str]:
    """Without whom it mentions: a server may know somebody under another name than the one typed."""
    return [" ".join(_MENTION.sub("@", text).split()) for text in said]


def _plain(rendered: str) -> str:
    spaced = re.sub(r"<(?:br|/p|/div|/li)[^>]*>", "\n", rendered, flags=re.IGNORECASE)
    return html.unescape(re.sub(r"<[^>]*>", "", spaced))
