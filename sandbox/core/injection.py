"""Doing what a fault switch says to one request: late, cut short, refused, garbled or answered twice over."""

import email.utils
import json
from collections.abc import Awaitable, Callable

from sandbox.core import model, wire
from sandbox.core.call import Call
from sandbox.faults.switches import Fault

Handle = Callable[[], Awaitable[wire.Response]]

PROXY_PAGE = """<!DOCTYPE html>
<html><head><title>{status} {reason}</title></head>
<body><center><h1>{status} {reason}</h1></center><hr><center>nginx</center></body></html>
"""
_REASONS = {
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
}


async def perform(call: Call, handle: Handle) -> wire.Response:
    """Run the handler under the switches this request tripped; may raise wire.Dropped."""
    call.network.held.arrive_with(_like(call), call.faults)
    await call.linger("before")
    _touch_token(call)
    fault = call.fault("answer")
    response = await (_spoil(call, fault, handle) if fault else handle())
    await call.linger("after")
    return response


def _like(call: Call) -> tuple[str, str, model.Account | None]:
    return call.request.method, call.request.path, call.account


def _touch_token(call: Call) -> None:
    if call.token and call.fault("expire_token"):
        call.token.expires_at = call.now - 60
        call.network.store.keep(call.token)
    if call.token and call.fault("revoke_token"):
        call.token.revoked = True
        call.network.store.keep(call.token)


async def _spoil(call: Call, fault: Fault, handle: Handle) -> wire.Response:
    if fault.kind == "held":
        call.network.held.hold(_like(call), call.faults, handle, fault)
        raise wire.Dropped
    commits = fault.kind in ("drop_after_commit", "cut_body", "answer_without_id", "garbage", "short_list")
    response = await handle() if fault.option("commit", commits) else wire.Response()
    if fault.kind in ("drop_before", "drop_reused", "drop_after_commit"):
        raise wire.Dropped
    if fault.kind == "cut_body":
        response.cut = True
        return response
    if fault.kind == "answer_without_id":
        return _without_id(response, fault.option("field", "id"))
    if fault.kind == "short_list":
        return _shortened(call, response, int(fault.option("keep", 0)))
    answers = dict(_ANSWERS)
    for family in call.network.families.values():
        answers |= family.answers
    return answers[fault.kind](call, fault)


def _status(call: Call, fault: Fault) -> wire.Response:
    status, body = int(fault.option("status", 500)), fault.option("body", "html")
    headers = [(str(name), str(value)) for name, value in dict(fault.option("headers", {})).items()]
    text = fault.option("text")
    if body == "json":
        response = wire.as_json({"error": text or _REASONS.get(status, "Something went wrong")}, status)
    elif body == "text":
        response = wire.Response(status, (text or "upstream error").encode(), "text/plain; charset=utf-8")
    elif body == "empty":
        response = wire.Response(status, b"", "text/html; charset=UTF-8")
    else:
        response = _proxy_page(status, text)
    response.headers += headers
    return response


def _proxy_page(status: int, text: str | None = None) -> wire.Response:
    return wire.as_html(text or PROXY_PAGE.format(status=status, reason=_REASONS.get(status, "Error")), status)


def _redirect(call: Call, fault: Fault) -> wire.Response:
    return wire.redirect(fault.option("location", call.url("/login")), int(fault.option("status", 302)))


def _garbage(call: Call, fault: Fault) -> wire.Response:
    text = fault.option("text", '{"id":"117020574470656417","created_at":')
    return wire.Response(int(fault.option("status", 200)), text.encode())


def _rate_limit(call: Call, fault: Fault) -> wire.Response:
    style, seconds = fault.option("style"), float(fault.option("seconds", 60))
    family = call.network.families.get(style)
    if family and family.limited:
        return family.limited(call, fault, seconds)
    if style == "html":
        return _proxy_page(429)
    error, headers = {
        "overload": ("server capacity exceeded", [("Retry-After", f"{seconds:.0f}")]),
        "retry_after": ("Too many requests", [("Retry-After", f"{seconds:.0f}")]),
        "http_date": ("Too many requests", [("Retry-After", email.utils.formatdate(call.now + seconds, usegmt=True))]),
        "bare": ("Too many requests", []),
    }[style]
    return wire.as_json({"error": error}, int(fault.option("status", 429)), headers)


def _without_id(response: wire.Response, field: str) -> wire.Response:
    try:
        value = json.loads(response.body)
    except ValueError:
        return response
    if isinstance(value, dict):
        value.pop(field, None)
    return wire.as_json(value, response.status, response.headers)


def _shortened(call: Call, response: wire.Response, keep: int) -> wire.Response:
    """Of a list, also of one inside `data`, its newest entries on the first page; further pages are empty."""
    value = json.loads(response.body)
    entries = value["data"] if isinstance(value, dict) else value
    first = not (call.params.text("max_id") or call.params.text("after"))
    kept = entries[:keep] if first else []
    return wire.as_json({"data": kept} if isinstance(value, dict) else kept, response.status, response.headers)


_ANSWERS = {
    "status": _status,
    "rate_limit": _rate_limit,
    "redirect": _redirect,
    "garbage": _garbage,
}
