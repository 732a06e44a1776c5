"""The control API on the index port: the same switches tests have in Python, over HTTP, all JSON.

GET/POST/DELETE /_sandbox/faults · GET/DELETE /_sandbox/ledger · GET/POST /_sandbox/clock ·
GET/POST/PUT /_sandbox/instances · POST /_sandbox/accounts · POST /_sandbox/tokens · and what a network adds (Family.control)
"""

import dataclasses
from typing import Any, NoReturn

from sandbox.core import accounts, pages, wire
from sandbox.core.call import Call
from sandbox.core.family import Route
from sandbox.core.instance import Instance
from sandbox.faults.switches import Fault


async def list_faults(call: Call) -> wire.Response:
    """GET: switches that are on"""
    return wire.as_json({"faults": [dataclasses.asdict(fault) for fault in call.network.faults.all()]})


async def add_fault(call: Call) -> wire.Response:
    """POST {"kind": …, "instance"?, "method"?, "path"?, "account"?, "times"?, "skip"?, "probability"?,
    …options}
    """
    values = dict(call.params.values)
    if "seed" in values:
        call.network.faults.seed(int(values.pop("seed")))
    if values.get("times") in ("", "forever"):
        values["times"] = None
    for name, kind in (
        ("times", int),
        ("skip", int),
        ("probability", float),
        ("seconds", float),
        ("status", int),
    ):
        if isinstance(values.get(name), str):
            values[name] = kind(values[name])
    try:
        fault: Fault = call.network.faults.add(**values)
    except (TypeError, ValueError) as error:
        _refuse(str(error))
    return wire.as_json(dataclasses.asdict(fault), 201)


async def clear_faults(call: Call) -> wire.Response:
    """DELETE (all) or DELETE ?id=N"""
    number = call.params.text("id")
    call.network.faults.clear(int(number) if number else None)
    return wire.as_json({})


async def show_ledger(call: Call) -> wire.Response:
    """GET ?show=counts|statuses|requests|repeated, filtered by instance, account, text, path, method"""
    given, ledger = call.params, call.network.ledger
    instance, account = given.text("instance") or None, given.text("account") or None
    show = given.text("show", "counts")
    if show == "statuses":
        found = ledger.statuses(instance=instance, account=account, text=given.text("text") or None)
        return wire.as_json({"statuses": [dataclasses.asdict(one) for one in found]})
    if show == "requests":
        path, method = given.text("path") or None, given.text("method") or None
        log = ledger.requests(instance=instance, account=account, path=path, method=method)
        return wire.as_json({"requests": [dataclasses.asdict(one) for one in log]})
    if show == "repeated":
        names = ("instance", "account", "text", "times")
        repeated = [dict(zip(names, (*key, times), strict=True)) for key, times in ledger.repeated().items()]
        return wire.as_json({"repeated": repeated})
    return wire.as_json(ledger.counts())


async def clear_ledger(call: Call) -> wire.Response:
    """DELETE: forget the requests, keep the statuses"""
    call.network.ledger.forget_requests()
    return wire.as_json({})


async def clock(call: Call) -> wire.Response:
    """GET, or POST {"advance": seconds} or {"age": whole seconds}"""
    try:
        if call.params.has("advance"):
            call.network.clock.advance(float(call.params.text("advance")))
        if call.params.has("age"):
            call.network.age(int(call.params.text("age")))
    except ValueError:
        _refuse("advance must be a number of seconds, and age a whole one")
    return wire.as_json({"now": call.network.clock.now(), "offset_s": call.network.clock.offset_s})


async def list_instances(call: Call) -> wire.Response:
    """GET: every instance with its address and profile"""
    return wire.as_json({"instances": [_described(one) for one in call.network.instances.values()]})


async def add_instance(call: Call) -> wire.Response:
    """POST {"software", "version"?, "name"?, …profile options}: a new server on a free port"""
    values = dict(call.params.values)
    try:
        added = await call.network.controls.open_instance(**values)
    except (TypeError, ValueError) as error:
        _refuse(str(error))
    return wire.as_json(_described(added), 201)


async def change_instance(call: Call) -> wire.Response:
    """PUT {"name", "listening"?, …profile options}: as configure, go_down and come_back do from Python"""
    values = dict(call.params.values)
    instance = call.network.instances.get(str(values.pop("name", "")))
    if instance is None:
        _refuse("the name of an instance is needed")
    listening = values.pop("listening", None)
    try:
        if values:
            call.network.controls.change(instance, **values)
    except (TypeError, ValueError) as error:
        _refuse(str(error))
    if listening is not None:
        await call.network.controls.listen(instance, bool(listening))
    return wire.as_json(_described(instance))


async def add_account(call: Call) -> wire.Response:
    """POST {"instance", "handle", "scopes"?, …traits}: a connected account without the consent page"""
    values = dict(call.params.values)
    instance = call.network.instances.get(str(values.pop("instance", "")))
    if instance is None or not values.get("handle"):
        _refuse("instance and handle are needed")
    made = accounts.connect(call.network, instance, str(values.pop("handle")), **values)
    return wire.as_json(dataclasses.asdict(made), 201)


async def change_tokens(call: Call) -> wire.Response:
    """POST {"account", "instance"?, "do": "expire"|"revoke"}: all tokens of a person"""
    given = call.params
    do = given.text("do", "expire")
    if do not in ("expire", "revoke"):
        _refuse("do must be expire or revoke")
    handle, instance = given.text("account"), given.text("instance") or None
    return wire.as_json({"tokens": accounts.end_tokens(call.network, handle, instance, do)})


def _described(instance: Instance) -> dict[str, Any]:
    profile = {n: v for n, v in dataclasses.asdict(instance.profile).items() if "secret" not in n}
    return {"name": instance.name, "title": instance.title, "url": instance.url, "profile": profile}


def _refuse(text: str, status: int = 422) -> NoReturn:
    raise wire.Answer(wire.as_json({"error": text}, status))


ROUTES: list[Route] = [
    ("GET", r"/", pages.index),
    ("GET", r"/_sandbox/faults", list_faults),
    ("POST", r"/_sandbox/faults", add_fault),
    ("DELETE", r"/_sandbox/faults", clear_faults),
    ("GET", r"/_sandbox/ledger", show_ledger),
    ("DELETE", r"/_sandbox/ledger", clear_ledger),
    ("GET", r"/_sandbox/clock", clock),
    ("POST", r"/_sandbox/clock", clock),
    ("GET", r"/_sandbox/instances", list_instances),
    ("POST", r"/_sandbox/instances", add_instance),
    ("PUT", r"/_sandbox/instances", change_instance),
    ("POST", r"/_sandbox/accounts", add_account),
    ("POST", r"/_sandbox/tokens", change_tokens),
]
