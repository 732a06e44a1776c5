"""What a lost request left on the account: the account's own statuses since the anchor, and whether the list is whole.

A list proves that something is absent only when it is seen to go on to what was there before: a replica that is behind, a
cache or an index being rebuilt answer 200 with too little. matching.py tells which of the statuses is the one we sent.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import httpx
from pydantic import BaseModel, ConfigDict

from postflow.errors import Retry
from postflow.models import Login
from postflow.platforms import answers
from postflow.platforms.mastodon.api import Speaking
from postflow.platforms.mastodon.queries import Asking

Status = Mapping[str, Any]

PAGE = 40
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


class Seen(NamedTuple):
    """Own statuses newer than the anchor."""

    statuses: list[Status]
    complete: bool
    server_time: datetime | None  # by the server's own clock, where it tells


async def page(
    platform: Speaking,
    http: httpx.AsyncClient,
    login: Login,
    *,
    limit: int = PAGE,
    before: str | None = None,
    as_stranger: bool = False,
) -> httpx.Response:
    """The newest own statuses, or those older than `before`; without a token only what everybody sees. Boosts are among
    them: they, too, are something that must be there.
    """
    params: dict[str, Any] = {"limit": limit, **({"max_id": before} if before else {})}
    url = f"{login.account.base_url}/api/v1/accounts/{login.account.remote_id}/statuses"
    headers = {} if as_stranger else platform.bearer(login.credentials)
    return await answers.ask(http, "GET", url, params=params, headers=headers)


async def since(
    platform: Asking,
    http: httpx.AsyncClient,
    login: Login,
    anchor: str | None,
    *,
    long_before: datetime | None = None,
    as_stranger: bool = False,
) -> Seen:
    """Every own status newer than the anchor; where none is known, than `long_before`. Raises Retry when they are too many
    to read in one go.

    Walks down by max_id: Pixelfed's min_id gives the newest page only and would hide what lies between. A server that
    ignores it (snac) gives the same page again: then nobody knows what lies behind.
    """
    found: dict[str, Status] = {}
    server_time: datetime | None = None
    before: str | None = None
    for _ in range(MOST_PAGES):
        answer = await page(platform, http, login, before=before, as_stranger=as_stranger)
        statuses = platform.listed(answer)
        server_time = server_time or answers.server_time(answer)
        newer = [one for one in statuses if not _was_there(one, anchor, long_before)]
        known = len(found)
        found |= {str(one["id"]): one for one in newer}
        if len(newer) < len(statuses):
            return Seen([*found.values()], True, server_time)
        if len(found) == known:
            whole = not statuses and not as_stranger and await _ends_there(platform, http, login, anchor, known)
            return Seen([*found.values()], whole, server_time)
        before = str(min(statuses, key=order)["id"])
    raise Retry("The account has too many new posts to look through.", code="too_many")


def _was_there(status: Status, anchor: str | None, long_before: datetime | None) -> bool:
    if anchor is not None:
        return order(status) <= order({"id": anchor})
    made = answers.instant(str(status.get("created_at")))
    return made is not None and long_before is not None and made < long_before


async def _ends_there(platform: Asking, http: httpx.AsyncClient, login: Login, anchor: str | None, listed: int) -> bool:
    """The list ended and nothing older came: right where the anchor was the first status and is deleted by now, or where
    there never was one.
    """
    if anchor is not None:
        return await platform.is_gone(http, login, anchor)
    return await platform.shows_all(http, login, listed)


def order(status: Status) -> tuple[int, str]:
    """Ids grow: snowflakes and row numbers by length first, ULIDs are all of one length."""
    return len(str(status["id"])), str(status["id"])


def has_our_uploads(status: Status, staged: Staged) -> bool:
    theirs = {str(media.get("id")) for media in answers.objects(status.get("media_attachments"))}
    return bool(theirs & {upload.remote_id for upload in staged.uploads})
