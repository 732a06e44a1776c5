"""What an answer (or its absence) means: the one place where httpx errors and HTTP statuses become ours.

`seen` tells how far a request may have got: before sending, nothing happened; afterwards, who knows.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl

import httpx

from postflow.errors import NotReady, OutcomeUnknown, PublishError, Refused, Retry, Throttled, Unauthorized
from postflow.http import deadline
from postflow.models import utc_now

#: httpx errors after which the request certainly did not reach the server.
NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)

#: Every other httpx error: the request may have been carried out.
MAYBE_SENT = (
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.ReadError,
    httpx.WriteError,
    httpx.CloseError,
    httpx.RemoteProtocolError,
    httpx.ProxyError,
    httpx.DecodingError,
    httpx.TooManyRedirects,
)
#: Said by a proxy or gateway that knows no such server right now, in HTML or in JSON. A server of the family says 404 to a
#: post only when what it answers to, or what it repeats, is gone: whoever gets one asks.
AT_THE_DOOR = (404, 405, 406, 410)
#: A proxy gave up waiting, or the same request is being carried out right now.
STILL_RUNNING = (408, 409, 425, 499)
LONGEST_WAIT_S = 6 * 3600.0
#: So many characters of a secret are not met by chance.
SECRET_ENOUGH = 24


async def ask(
    http: httpx.AsyncClient, method: str, url: str, *, commit: bool = False, **request: Any
) -> httpx.Response:
    """One request. Transport errors become Retry (nothing happened, or a read) or OutcomeUnknown (a commit)."""
    try:
        return await http.request(method, url, **request)
    except deadline.TooLate:
        raise never_left() from None
    except (*NOT_SENT, httpx.InvalidURL) as error:
        raise Retry("The server cannot be reached.", code="unreachable", detail=_name(error)) from None
    except httpx.HTTPError as error:
        if commit:
            raise lost(_name(error)) from None
        raise Retry("The server did not answer properly.", code="no_answer", detail=_name(error)) from None


def never_left() -> Retry:
    return Retry("The worker stood still before it could send anything.", retry_in_s=1, code="worker_stalled")


def lost(detail: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        "The server's answer got lost: the post may be out or not. PostFlow looks before it does anything.",
        code="answer_lost",
        detail=detail,
    )


def parsed(answer: httpx.Response) -> Any:
    """The JSON of an answer, or None where it is none."""
    try:
        return json.loads(answer.content)
    except (ValueError, RecursionError):
        return None


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a JSON list; whatever else a server put there is left out."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def says_missing(answer: httpx.Response) -> bool:
    """404 in a server's manner. A gateway that misses its server may say the same: no proof on its own."""
    return answer.status_code == 404 and bool(said(answer))


def server_time(answer: httpx.Response) -> datetime | None:
    """When it was asked, by the clock of whoever answered; rather too early than too late."""
    told = instant(answer.headers.get("date", ""))
    return told - answer.elapsed if told else None


def said(answer: httpx.Response) -> str:
    """The server's own words, short and without our secrets; in any language, so they serve people only."""
    body = parsed(answer)
    if not isinstance(body, Mapping):
        return ""
    for name in ("error_description", "message", "error"):
        value = body.get(name)
        words = value.get("message") if isinstance(value, Mapping) else value
        if isinstance(words, str) and words.strip():
            return scrubbed(answer, words)
    return ""


def scrubbed(answer: httpx.Response, words: object) -> str:
    """A server's words without what it echoes of our secrets, short enough for a sentence."""
    said = without(str(words), _sent(answer.request))
    return " ".join("".join(one if one.isprintable() else " " for one in said).split())[:300]


def without(said: str, secrets: Iterable[str]) -> str:
    """Also where the server cut a secret short: its beginning and all that hangs on it goes."""
    for secret in filter(None, secrets):
        said = re.sub(re.escape(secret[:SECRET_ENOUGH]) + r"\S*", "…", said)
    return said


def _sent(request: httpx.Request) -> set[str]:
    """The secrets in a request: its token, and what a form or a query calls one."""
    try:
        form = parse_qsl(request.content.decode("ascii", "replace"))
    except httpx.RequestNotRead:  # an upload
        form = []
    named = [*form, *request.url.params.multi_items()]
    found = {
        value for name, value in named if name == "code" or "token" in name or "secret" in name or "code_v" in name
    }
    return (found | {request.headers.get("Authorization", "").removeprefix("Bearer ")}) - {""}


def refusal(answer: httpx.Response, *, commit: bool) -> PublishError:
    """The error a status other than 2xx stands for, on the Mastodon family."""
    status, words = answer.status_code, said(answer)
    detail = f"HTTP {status} {words}".strip()
    if status == 401 or (status == 400 and not words and b"token" in answer.content[:500].lower()):
        return Unauthorized(
            "The account's access was withdrawn.",
            next_step="Connect the account again.",
            detail=detail,
            code="unauthorized",
        )
    if status == 429:
        return Throttled("The server asks to wait.", retry_in_s=wait_s(answer.headers), code="throttled", detail=detail)
    if status == 503 and "retry-after" in answer.headers and "capacity" in words.lower():
        return Throttled("The server is full.", retry_in_s=wait_s(answer.headers), code="throttled", detail=detail)
    if status < 400 or status >= 500 or status in STILL_RUNNING:
        if commit:
            return lost(detail)
        return Retry("The server has a fault.", code="server_fault", detail=detail)
    if status in AT_THE_DOOR or (status == 403 and not isinstance(parsed(answer), Mapping)):
        return Retry(
            "The server, or something in front of it, turned the request away.", code="turned_away", detail=detail
        )
    if status == 413:
        return Refused("The file is too large for this server.", code="too_large", detail=detail)
    sentence = f"The server refused it: {words.rstrip('.')}." if words else f"The server refused it (HTTP {status})."
    return Refused(sentence, code=f"http_{status}", next_step="Change the post and try again.", detail=detail)


def wait_s(headers: Mapping[str, str]) -> float | None:
    """Retry-After (seconds or a date), or X-RateLimit-Reset (ISO 8601 on Mastodon, an epoch on Pixelfed, or in ms).

    Instants are the server's, so they are held against its own clock where it tells (the Date header).
    """
    now = instant(headers.get("date", "")) or utc_now()
    for name in ("retry-after", "x-ratelimit-reset"):
        value = headers.get(name)
        if value and (seconds := _seconds(value, now)) is not None:
            return min(max(seconds, 1.0), LONGEST_WAIT_S)
    return None


def _seconds(value: str, now: datetime) -> float | None:
    try:
        number = float(value)
    except ValueError:
        pass
    else:
        if not math.isfinite(number):
            return None
        epoch_s = number / 1000 if 1e11 < number < 1e14 else number
        return epoch_s - now.timestamp() if 1e9 < epoch_s < 1e11 else number
    at = instant(value)
    return (at - now).total_seconds() if at else None


def instant(value: str) -> datetime | None:
    """ISO 8601, or as HTTP writes dates; None when it is neither."""
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            at = parse(value)
        except (ValueError, TypeError):
            continue
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    return None


def _name(error: Exception) -> str:
    return type(error).__name__


__all__ = [
    "MAYBE_SENT",
    "NOT_SENT",
    "NotReady",
    "ask",
    "instant",
    "lost",
    "never_left",
    "objects",
    "parsed",
    "refusal",
    "said",
    "says_missing",
    "scrubbed",
    "server_time",
    "wait_s",
    "without",
]
