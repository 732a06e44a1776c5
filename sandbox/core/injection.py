"""Doing what a fault switch says to one request: late, cut short, refused, garbled or answered twice over."""

import email.utils
import json
from collections.abc import Awaitable, Callable

from sandbox.core import wire
from sandbox.core.clock import iso_ms, iso_us
from sandbox.core.instance import Call
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
    call.network.held.arrive_with(call)
    await call.linger("before")
    _touch_token(call)
    fault = call.fault("answer")
    response = await (_spoil(call, fault, handle) if fault else handle())
    await call.linger("after")
    return response


def _touch_token(call: Call) -> None:
    if call.token and call.fault("expire_token"):
        call.token.expires_at = call.now - 60
        call.network.store.keep(call.token)
    if call.token and call.fault("revoke_token"):
        call.token.revoked = True
        call.network.store.keep(call.token)


async def _spoil(call: Call, fault: Fault, handle: Handle) -> wire.Response:
    if fault.kind == "held":
        call.network.held.hold(call, handle, fault)
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
    return _ANSWERS[fault.kind](call, fault)


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


def _graph_error(call: Call, fault: Fault) -> wire.Response:
    body = graph_error_body(
        int(fault.option("code", 1)),
        fault.option("subcode"),
        fault.option("text", "An unknown error has occurred."),
        bool(fault.option("transient", False)),
    )
    return wire.as_json(body, int(fault.option("status", 400)))


def graph_error_body(code: int, subcode: int | None, text: str, transient: bool = False) -> dict[str, object]:
    """`{"error": {...}}` as the Graph API shapes it."""
    error: dict[str, object] = {"message": text, "type": "OAuthException", "code": code}
    if subcode is not None:
        error["error_subcode"] = subcode
    error |= {"is_transient": transient, "error_user_title": "Sandbox", "error_user_msg": text}
    return {"error": {**error, "fbtrace_id": "AsandboxTrace00000000000"}}


def _rate_limit(call: Call, fault: Fault) -> wire.Response:
    style, seconds = fault.option("style"), float(fault.option("seconds", 60))
    if style == "instagram":
        return _graph_limit(call, fault, seconds)
    if style == "html":
        return _proxy_page(429)
    until = call.now + seconds
    error, headers = {
        "mastodon": ("Too many requests", _window(300, iso_us(until))),
        "pixelfed": (
            "Too Many Attempts.",
            [("Retry-After", f"{seconds:.0f}"), *_window(60, f"{until:.0f}")],
        ),
        "gotosocial": ("rate limit reached", _window(300, iso_ms(until))),
        "overload": ("server capacity exceeded", [("Retry-After", f"{seconds:.0f}")]),
        "retry_after": ("Too many requests", [("Retry-After", f"{seconds:.0f}")]),
        "http_date": ("Too many requests", [("Retry-After", email.utils.formatdate(until, usegmt=True))]),
        "bare": ("Too many requests", []),
    }[style]
    return wire.as_json({"error": error}, int(fault.option("status", 429)), headers)


def _window(limit: int, reset: str) -> list[tuple[str, str]]:
    return [
        ("X-RateLimit-Limit", str(limit)),
        ("X-RateLimit-Remaining", "0"),
        ("X-RateLimit-Reset", reset),
    ]


def _graph_limit(call: Call, fault: Fault, seconds: float) -> wire.Response:
    """Meta's limits come as 400 or 403 with a code; a usage header says when calls work again."""
    code = int(fault.option("code", 80002))
    body = graph_error_body(code, fault.option("subcode"), f"(#{code}) Application request limit reached")
    account = call.account.id if call.account else "0"
    usage = {"type": "instagram", "call_count": 100, "total_cputime": 25, "total_time": 25}
    usage["estimated_time_to_regain_access"] = max(round(seconds / 60), 1)
    headers = [("X-Business-Use-Case-Usage", json.dumps({account: [usage]}))]
    headers.append(("X-App-Usage", json.dumps({"call_count": 100, "total_cputime": 25, "total_time": 25})))
    return wire.as_json(body, int(fault.option("status", 400)), headers)


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
    "graph_error": _graph_error,
}
