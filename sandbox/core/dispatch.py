"""The way of every request from the wire to the ledger and back."""

import functools
import logging
import re
import time
from typing import Any

from sandbox.core import files, injection, pages, params, wire
from sandbox.core.call import Call
from sandbox.core.family import Family, Handler
from sandbox.core.instance import Instance
from sandbox.core.ledger import RequestEntry
from sandbox.core.network import Network

logger = logging.getLogger("sandbox")
_SECRETS = {"access_token", "client_secret", "refresh_token", "code", "input_token", "fb_exchange_token"}


async def answer(network: Network, instance: Instance, request: wire.Request) -> wire.Response:
    """Answer one request; raises wire.Dropped when the connection is to be reset."""
    call = _call(network, instance, request)
    if instance is network.control:
        return await _handle(call)
    names = (call.account.username, call.account.id) if call.account else ()
    call.faults = network.faults.pick(instance.name, request.method, request.path, names, request.reused)
    entry = _note(call)
    status = 0
    network.under_way += 1
    try:
        response = await injection.perform(call, lambda: _handle(call))
        response.headers += call.headers
        status = response.status
        return response
    finally:
        network.under_way -= 1
        network.store.flush()
        entry.faults, entry.fault_options = list(call.effects), call.effects
        network.ledger.close(entry, status, time.time_ns() if status else 0)


def _call(network: Network, instance: Instance, request: wire.Request) -> Call:
    try:
        read, malformed = params.read(request), False
    except params.Malformed:
        read, malformed = params.Params({}, {}), True
    call = Call(network, instance, request, read, malformed=malformed)
    token = network.store.tokens.get(_presented_token(call))
    if token and token.instance == instance.name:
        call.token = token
        call.account = network.store.accounts.get(token.account_id or "")
    return call


def _note(call: Call) -> RequestEntry:
    request = call.request
    entry = RequestEntry(
        number=0,
        instance=call.instance.name,
        method=request.method,
        path=request.path,
        params=_plain(call.params.values),
        account=call.account.username if call.account else None,
        idempotency_key=request.headers.get("idempotency-key"),
        received_ns=request.received_ns,
    )
    call.network.ledger.open(entry)
    return entry


async def _handle(call: Call) -> wire.Response:
    method = "GET" if call.request.method == "HEAD" else call.request.method
    path = call.request.path
    try:
        for wanted, pattern, handler in _compiled(call.family):
            if wanted == method and (match := pattern.fullmatch(path)):
                return await handler(call, *match.groups())
        return await call.family.missing(call)
    except wire.Answer as refusal:
        return refusal.response
    except Exception:
        logger.exception("a bug in the sandbox: %s %s", method, path)
        return wire.as_json({"error": "a bug in the sandbox, see its log"}, 500)


@functools.cache
def _compiled(family: Family) -> list[tuple[str, re.Pattern[str], Handler]]:
    routes = [*family.routes, *pages.ROUTES, *files.ROUTES]
    return [(method, re.compile(pattern), handler) for method, pattern, handler in routes]


def _presented_token(call: Call) -> str:
    scheme, _, token = call.request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else call.params.text("access_token")


def _plain(value: Any) -> Any:
    """Parameters as the ledger keeps them: long texts cut, secrets left out."""
    if isinstance(value, str):
        return value if len(value) <= 2000 else value[:2000] + "…"
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: "(secret)" if key in _SECRETS else _plain(item) for key, item in value.items()}
    return value
