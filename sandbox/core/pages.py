"""What people see: the consent page, timelines, one status, and the index of all instances."""

import functools
import re
import urllib.parse
from typing import Any

import jinja2

from sandbox.core import accounts, links, model, wire
from sandbox.core.call import Call
from sandbox.core.clock import iso_ms
from sandbox.core.family import Route

_SHOWN = 60
_HANDLE = re.compile(r"[a-z0-9_.]{1,30}")


async def timeline(call: Call) -> wire.Response:
    """GET /: what was published here, newest first; ?all=1 shows deleted, dropped and stuck ones too"""
    everything = call.params.flag("all")
    posts = [one for one in _newest(call) if everything or _public(one)][:_SHOWN]
    return _page(call, "timeline.html", posts=[_post(call, one) for one in posts], everything=everything)


async def profile(call: Call, handle: str) -> wire.Response:
    """GET /@handle: one person's posts"""
    who = accounts.find(call, handle)
    if who is None:
        return not_found(call)
    posts = [one for one in _newest(call) if one.account_id == who.id and _public(one)][:_SHOWN]
    return _page(call, "timeline.html", posts=[_post(call, one) for one in posts], who=who, everything=False)


async def permalink(call: Call, key: str) -> wire.Response:
    """GET of a permalink: one status, with its replies"""
    found = call.network.store.statuses.get(key)
    if found is None or found.instance != call.instance.name or not _public(found):
        return not_found(call)
    thread = [one for one in _newest(call) if one.in_reply_to_id == key and _public(one)][::-1]
    return _page(call, "status.html", posts=[_post(call, one) for one in (found, *thread)])


async def index(call: Call) -> wire.Response:
    """GET / of the control port: all instances, and the switches that are on"""
    network = call.network
    published = network.ledger.counts()["by_instance"]
    rows = [(one, published.get(one.name, 0)) for one in network.instances.values()]
    faults = [(fault, "for ever" if fault.times is None else f"{fault.times} more") for fault in network.faults.all()]
    return _page(call, "index.html", rows=rows, faults=faults, now=iso_ms(network.clock.now()))


def consent(call: Call, app: str, website: str | None, scopes: list[str]) -> wire.Response:
    """Who are you, and may this application do that? The form posts to the same address."""
    people = [one for one in call.network.store.accounts.values() if one.instance == call.instance.name]
    fields = [(name, value) for name, value in call.params.values.items() if isinstance(value, str)]
    return _page(
        call,
        "consent.html",
        app=app,
        website=website,
        scopes=scopes,
        people=[(one, links.avatar_url(call.instance, one)) for one in people[-12:]],
        fields=[(name, value) for name, value in fields if name not in ("decision", "account", "new_account")],
        action=call.request.path,
        back_to=urllib.parse.urlsplit(call.params.text("redirect_uri")).netloc,
    )


def chosen_account(call: Call) -> model.Account:
    """The person chosen on the consent page, made on the spot when a new name was typed."""
    handle = call.params.text("new_account").strip().lstrip("@").lower() or call.params.text("account").lower()
    if not _HANDLE.fullmatch(handle):
        text = "Choose an account, or type a name of letters, digits, dots and underscores."
        raise wire.Answer(refusal(call, text, 422))
    traits: dict[str, Any] = {}
    if call.params.text("account_type"):
        traits["account_type"] = call.params.text("account_type")
    if call.params.flag("never_logged_in"):
        traits["never_logged_in"] = True
    return accounts.find(call, handle) or accounts.add(call, handle, traits)


def show_code(call: Call, code: str) -> wire.Response:
    """Out of band: the code to copy by hand."""
    return _page(call, "message.html", title="Your authorisation code", text="Copy this code:", code=code)


def refusal(call: Call, text: str, status: int) -> wire.Response:
    """An error page of the authorisation endpoint."""
    return _page(call, "message.html", status, title="That did not work", text=text, code="")


def not_found(call: Call) -> wire.Response:
    """The HTML page unknown paths get."""
    text = "The page you are looking for isn't here."
    return _page(call, "message.html", 404, title="404", text=text, code="")


async def missing(call: Call) -> wire.Response:
    """Unknown path."""
    return not_found(call)


def _newest(call: Call) -> list[model.Status]:
    found = [one for one in call.network.store.statuses.values() if one.instance == call.instance.name]
    return found[::-1]


def _public(one: model.Status) -> bool:
    return one.deleted_at is None and one.hidden in (None, "mixed") and one.visibility != "direct"


def _post(call: Call, record: model.Status) -> dict[str, Any]:
    store = call.network.store
    author = store.accounts[record.account_id]
    uploads = [store.uploads[key] for key in record.media_ids]
    return {
        "record": record,
        "author": author,
        "avatar": links.avatar_url(call.instance, author),
        "url": call.network.url_of(record),
        "at": iso_ms(record.created_at),
        "media": [(one, links.media_url(call.instance, one)) for one in uploads],
        "state": "deleted" if record.deleted_at else record.hidden or "",
    }


def _page(call: Call, template: str, status: int = 200, **values: Any) -> wire.Response:
    text = _templates().get_template(template).render(call=call, instance=call.instance, **values)
    return wire.as_html(text, status)


@functools.cache
def _templates() -> jinja2.Environment:
    loader = jinja2.PackageLoader("sandbox.core", "templates")
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


ROUTES: list[Route] = [
    ("GET", r"/", timeline),
    ("GET", r"/@([\w.]+)", profile),
    ("GET", r"/@[\w.]+/(?:statuses/)?([\w-]+)", permalink),
    ("GET", r"/(?!me$|v\d|oauth|api|login|access|refresh|debug)([a-z_][\w.]*)", profile),
]
