"""Mastodon's API, versions 4.1 to 4.7 (and, by Profile, glitch-soc, Hometown, Akkoma, Pleroma, Takahe,
unknown servers).

Reads top-down: who may, then accounts, media, statuses. Making a status is in fediverse/statuses.py.
"""

from collections.abc import Callable

from sandbox.core import model, pages, rate_limits, wire
from sandbox.core.call import Call
from sandbox.core.clock import iso_us
from sandbox.core.family import Family, Handler, Route
from sandbox.faults.switches import Fault
from sandbox.fediverse import connections, entities, grants, instance_documents, oauth, statuses, timeline, uploads
from sandbox.mastodon import permalinks, profiles, translations


def gate(scope: str, family: str = "calls", member: bool = True) -> Callable[[Handler], Handler]:
    """Check token, scope and rate limit before a handler runs; put the limit's headers on the answer."""

    def wrap(handler: Handler) -> Handler:
        async def checked(call: Call, *parts: str) -> wire.Response:
            check_token(call, scope, member)
            undo = _count(call, family)
            response = await _run(handler, call, parts)
            if undo and response.status >= 400:
                undo()
            return response

        return checked

    return wrap


def check_token(call: Call, scope: str, member: bool = True) -> None:
    """401 without a living token, 403 outside its scopes, 422 for an app-only token, 403 for a disabled
    person.
    """
    token = call.token
    if token is None or token.is_dead(call.now):
        if call.profile.dead_token != "doorkeeper":
            raise wire.Answer(_DEAD[call.profile.dead_token](call.request.path))
        text = "The access token is invalid"
        if token is not None:
            text = "The access token was revoked" if token.revoked else "The access token expired"
        text = translations.say(call, text)
        header = f'Bearer realm="Doorkeeper", error="invalid_token", error_description="{text}"'
        raise wire.Answer(wire.as_json({"error": text}, 401, [("WWW-Authenticate", header)]))
    wanted = scope.split("|")
    if call.fault("permission_missing") or not any(grants.allows(token.scopes, one) for one in wanted):
        raise error(call, 403, "This action is outside the authorized scopes")
    if member and call.account is None:
        raise error(call, 422, "This method requires an authenticated user")
    for trait, text in _SHUT_OUT.items():
        if call.account and call.account.traits.get(trait):
            raise wire.Answer(wire.as_json({"error": text}, 403))


def _silent(path: str) -> wire.Response:
    return wire.Response(422 if path.endswith("/verify_credentials") else 401, b"", "text/html; charset=utf-8")


#: In English for everybody.
_SHUT_OUT = {
    "disabled": "Your login is currently disabled",
    "pending": "Your login is currently pending approval",
    "unconfirmed": "Your login is missing a confirmed e-mail address",
}
_DEAD: dict[str, Callable[[str], wire.Response]] = {
    "credentials": lambda _: wire.as_json({"error": "Invalid credentials."}, 403),
    "silent": _silent,
    "plain": lambda _: wire.Response(400, b"Invalid Bearer token", "text/plain; charset=utf-8"),
}


def error(call: Call, status: int, text: str) -> wire.Answer:
    """Mastodon's error body in the language asked for."""
    return wire.Answer(wire.as_json({"error": translations.say(call, text)}, status))


async def _run(handler: Handler, call: Call, parts: tuple[str, ...]) -> wire.Response:
    try:
        response = await handler(call, *parts)
    except wire.Answer as refusal:
        response = refusal.response
    return translations.translated(call, response) if response.status >= 400 else response


_FAMILIES = {"statuses": (300, 3 * 3600), "media": (30, 1800), "deletes": (30, 1800), "calls": (300, 300)}


def _count(call: Call, family: str) -> Callable[[], None] | None:
    """Count against the limit; returns how to undo it for families that only count successes."""
    if call.profile.rate_limits == "off":
        return None
    limit, period_s = _FAMILIES[family]
    who = call.account.id if call.account else call.request.peer
    window = call.network.limits.count(call.instance, family, who, limit, period_s)
    shown = rate_limits.headers(window.limit, window.remaining, iso_us(window.resets_at + call.now % 1))
    call.headers += shown
    if window.over:
        raise error(call, 429, "Too many requests")
    return (lambda: call.network.limits.undo(call.instance, family, who)) if family == "statuses" else None


async def verify_credentials(call: Call) -> wire.Response:
    """GET /api/v1/accounts/verify_credentials"""
    return await gate(call.profile.who_scope)(_verify_credentials)(call)


async def _verify_credentials(call: Call) -> wire.Response:
    return wire.as_json(entities.credentials(call, call.me))


async def verify_app(call: Call) -> wire.Response:
    """GET /api/v1/apps/verify_credentials"""
    token = call.token
    app = call.network.store.apps.get(token.client_id) if token and not token.revoked else None
    if app is None:
        check_token(call, "read", member=False)
        raise error(call, 401, "The access token is invalid")
    return wire.as_json({"name": app.name, "website": app.website, "vapid_key": oauth.VAPID})


@gate("write:media", "media")
async def upload(call: Call) -> wire.Response:
    """POST /api/v2/media: 200 when ready, 202 while it is processed (v1 waits, so it always says 200)"""
    kept = uploads.accept(call)
    waiting = kept.ready_at > call.now or kept.polls_left > 0
    if call.request.path.startswith("/api/v1/"):
        kept.ready_at = call.now
        waiting = False
    return uploads.answer(call, kept, 202 if waiting else 200)


@gate("write:media")
async def show_media(call: Call, key: str) -> wire.Response:
    """GET /api/v1/media/ID: only while unattached"""
    found = _upload(call, key)
    return uploads.answer(call, found, uploads.state(found, call.now))


@gate("write:media")
async def change_media(call: Call, key: str) -> wire.Response:
    """PUT /api/v1/media/ID: only while unattached"""
    found = _upload(call, key)
    limit = call.profile.description_limit
    if len(call.params.text("description")) > limit:
        raise error(call, 422, f"Validation failed: Description is too long (maximum is {limit} characters)")
    uploads.change(call, found)
    return uploads.answer(call, found, 206 if found.ready_at > call.now else 200)


@gate("write:media")
async def delete_media(call: Call, key: str) -> wire.Response:
    """DELETE /api/v1/media/ID (4.4 and newer)"""
    found = call.network.store.uploads.get(key)
    if not call.profile.at_least("4.4"):
        return await missing(call)
    if found is not None and found.status_id:
        raise error(call, 422, "Media is currently used by a post")
    _upload(call, key).deleted = True
    return wire.as_json({})


@gate("write:statuses", "statuses")
async def create_status(call: Call) -> wire.Response:
    """POST /api/v1/statuses"""
    return await statuses.create(call)


async def show_status(call: Call, key: str) -> wire.Response:
    """GET /api/v1/statuses/ID: public ones for everybody, the rest for their author"""
    found = timeline.visible(call, key)
    if found is None:
        raise error(call, 404, "Record not found")
    return wire.as_json(entities.status(call, found))


@gate("read:statuses")
async def show_source(call: Call, key: str) -> wire.Response:
    """GET /api/v1/statuses/ID/source"""
    found = timeline.own(call, key)
    if found is None:
        raise error(call, 404, "Record not found")
    return wire.as_json({"id": found.id, "text": found.text, "spoiler_text": found.spoiler_text})


@gate("write:statuses", "statuses")
async def edit_status(call: Call, key: str) -> wire.Response:
    """PUT /api/v1/statuses/ID: text, warning, sensitivity"""
    found = timeline.own(call, key)
    if found is None:
        raise error(call, 404, "Record not found")
    found.text = call.params.text("status", found.text).strip()
    found.spoiler_text = call.params.text("spoiler_text", found.spoiler_text)
    found.edited_at = call.now
    call.network.store.keep(found)
    return wire.as_json(entities.status(call, found))


@gate("write:statuses", "deletes")
async def delete_status(call: Call, key: str) -> wire.Response:
    """DELETE /api/v1/statuses/ID: gives the source back and sets its media free again"""
    found = timeline.own(call, key)
    if found is None:
        raise error(call, 404, "Record not found")
    body = entities.status(call, found, source=True)
    timeline.delete(call, found, free_media=not call.params.flag("delete_media"))
    return wire.as_json(body)


async def account_statuses(call: Call, account_id: str) -> wire.Response:
    """GET /api/v1/accounts/ID/statuses: needs read:statuses when a token is sent; without one only public
    posts
    """
    if call.request.headers.get("authorization"):
        check_token(call, "read:statuses")
    elif call.profile.closed:
        raise error(call, 401, "This method requires an authenticated user")
    _count(call, "calls")
    who = call.network.store.accounts.get(account_id)
    if who is None or who.instance != call.instance.name:
        raise error(call, 404, "Record not found")
    return timeline.listing(call, who, default=20, most=40)


async def show_account(call: Call, account_id: str) -> wire.Response:
    """GET /api/v1/accounts/ID"""
    who = call.network.store.accounts.get(account_id)
    if who is None or who.instance != call.instance.name:
        raise error(call, 404, "Record not found")
    return wire.as_json(entities.account(call, who))


@gate("read:statuses")
async def scheduled_statuses(call: Call) -> wire.Response:
    """GET /api/v1/scheduled_statuses"""
    queued = [one for one in call.network.store.by_account.get(call.me.id, []) if one.hidden == "scheduled"]
    return wire.as_json([statuses.scheduled(call, one) for one in queued])


async def missing(call: Call) -> wire.Response:
    """Unknown paths get an HTML page, below /api too."""
    return pages.not_found(call)


def _upload(call: Call, key: str) -> model.Upload:
    found = uploads.find(call, key, attached_too=not call.profile.media_tells)
    if found is None:
        raise error(call, 404, "Record not found")
    return found


async def snac_permalink(call: Call, stamp: str) -> wire.Response:
    """GET /carol/p/1795815314.999906"""
    found = next((one for one in call.network.store.statuses.values() if one.details.get("stamp") == stamp), None)
    return await pages.permalink(call, found.id) if found else pages.not_found(call)


def limited(call: Call, fault: Fault, seconds: float) -> wire.Response:
    """Its 429."""
    headers = rate_limits.headers(300, 0, iso_us(call.now + seconds))
    return wire.as_json({"error": "Too many requests"}, int(fault.option("status", 429)), headers)


ROUTES: list[Route] = [
    *oauth.ROUTES,
    ("POST", r"/oauth/revoke", oauth.revoke),
    ("GET", r"/\.well-known/oauth-authorization-server", oauth.metadata),
    *instance_documents.ROUTES,
    ("GET", r"/api/v1/accounts/verify_credentials", verify_credentials),
    ("GET", r"/api/v1/apps/verify_credentials", verify_app),
    ("POST", r"/api/v[12]/media", upload),
    ("GET", r"/api/v1/media/(\w+)", show_media),
    ("PUT", r"/api/v1/media/(\w+)", change_media),
    ("DELETE", r"/api/v1/media/(\w+)", delete_media),
    ("POST", r"/api/v1/statuses", create_status),
    ("GET", r"/api/v1/statuses/([\w-]+)", show_status),
    ("PUT", r"/api/v1/statuses/([\w-]+)", edit_status),
    ("DELETE", r"/api/v1/statuses/([\w-]+)", delete_status),
    ("GET", r"/api/v1/statuses/([\w-]+)/source", show_source),
    ("GET", r"/api/v1/accounts/(\w+)/statuses", account_statuses),
    ("GET", r"/api/v1/accounts/(\w+)", show_account),
    ("GET", r"/api/v1/scheduled_statuses", scheduled_statuses),
    ("GET", r"/[\w.]+/p/(\d+\.\d+)", snac_permalink),
]


FAMILY = Family(
    routes=ROUTES,
    missing=missing,
    software=profiles.SOFTWARE,
    scopes=("profile", "read:accounts", "read:statuses", "write:media", "write:statuses"),
    connect=connections.connect,
    profile_url=permalinks.profile_url,
    status_url=permalinks.status_url,
    limited=limited,
)
