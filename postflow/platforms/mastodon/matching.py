"""Is this status the one we sent? "ours", "another", or "unclear": then it is neither adopted nor held to be absent.

A status with our uploads is ours. Without uploads, or where statuses do not keep the uploads' ids, each of its features has
its say, its date and who sees it always among them: a person may have posted the same words by hand. Rendered content alone
never proves that it is not ours.
"""

import html
import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import httpx

from postflow.models import Attempt, Outgoing
from postflow.platforms import answers
from postflow.platforms.mastodon.api import Speaking
from postflow.platforms.mastodon.own_statuses import Seen, Staged, Status, has_our_uploads
from postflow.platforms.mastodon.receipts import same_language

Match = Literal["ours", "another", "unclear"]

#: A status may look so much older than the request that made it: where the server tells its time, and where it does not.
SKEW, UNTOLD_SKEW = timedelta(seconds=10), timedelta(minutes=2)
#: And no clock that tells nothing is further off than this.
FURTHEST_SKEW = timedelta(hours=1)
_MENTION = re.compile(r"(?<![\w/])@([\w.-]*\w)(?:@[\w.-]+\w)?")


async def match(
    platform: Speaking,
    http: httpx.AsyncClient,
    outgoing: Outgoing,
    staged: Staged,
    attempt: Attempt,
    seen: Seen,
    status: Status,
) -> Match:
    if has_our_uploads(status, staged):
        return "ours"
    at_sight = judged(
        _built(platform, outgoing, staged, status),
        _dated(status, staged, attempt, seen.server_time),
        _meant_for(status, outgoing),
        "unclear" if attempt.rivalled else "ours",
    )
    if at_sight == "another":
        return "another"
    return judged(at_sight, await _by_words(platform, http, outgoing, status))


def judged(*sayings: Match) -> Match:
    """One "another" rules a status out; one "unclear" leaves it open."""
    if "another" in sayings:
        return "another"
    return "unclear" if "unclear" in sayings else "ours"


# -- at sight ----------------------------------------------------------------------------------------------------


def _built(platform: Speaking, outgoing: Outgoing, staged: Staged, status: Status) -> Match:
    """What no server changes: pictures, the app, what it answers to, a poll."""
    known, name = outgoing.server.capabilities, None
    if status.get("reblog"):
        return "another"
    if known.keeps_media_ids:
        if status.get("media_attachments") or (staged.uploads and known.media_guard):
            return "another"  # a server that knows no guard may have published our words without the pictures
        if staged.uploads and not outgoing.content.text.strip():
            return "another"
    app = status.get("application")
    if isinstance(app, Mapping) and known.names_app and outgoing.login.app:
        name = app.get("name")  # a token made by hand bears the name of its maker's choice
    if name is not None and name != platform.client_name:
        return "another"
    parent = status.get("in_reply_to_id")
    if (str(parent) if parent else None) != outgoing.reply_to_remote_id:
        return "another"
    return "ours" if bool(status.get("poll")) == bool(outgoing.content.poll) else "another"


def _dated(status: Status, staged: Staged, attempt: Attempt, server_time: datetime | None) -> Match:
    """Not before our first request. What is newer than the anchor and dated earlier bears the date of a wrong clock, or
    was made by hand in between.
    """
    ahead = server_time - attempt.now if server_time else timedelta()
    first = attempt.first_sent_at + ahead
    made = answers.instant(str(status.get("created_at")))
    if made is None:
        return "unclear"
    if made >= first - (SKEW if server_time else UNTOLD_SKEW):
        return "ours"
    return "unclear" if staged.anchor or made >= first - FURTHEST_SKEW else "another"


def _meant_for(status: Status, outgoing: Outgoing) -> Match:
    """Who sees it, and in which language. A server may narrow the one (the posts of a limited account become unlisted) and
    guess the other: neither says that it is another one.
    """
    content, language = outgoing.content, status.get("language")
    if status.get("visibility") != content.visibility.value:
        return "unclear"
    told = language and content.language and outgoing.server.limits.language and outgoing.server.capabilities.lists_all
    return "unclear" if told and not same_language(language, content.language or "") else "ours"


# -- by its words ------------------------------------------------------------------------------------------------


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
