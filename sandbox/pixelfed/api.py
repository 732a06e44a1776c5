"""Pixelfed 0.12's API: what it shares with Mastodon and what it does its own way.

Errors that are no HTTP errors come as 500 (dead tokens too), the idempotency key is burned before the
work is done, pictures are mandatory, uploads live two hours, mixed albums never show in a listing, tokens
rotate.
"""

from collections.abc import Callable

from sandbox.core import media, model, pages, rate_limits, wire
from sandbox.core.call import Call
from sandbox.core.family import Family, Handler, Route
from sandbox.core.instance import Instance
from sandbox.core.software import IMAGES, Profile
from sandbox.faults.switches import Fault
from sandbox.fediverse import connections, entities, grants, instance_documents, oauth, timeline, uploads
from sandbox.pixelfed import posts

_CONSENT = """<label><input type="checkbox" name="never_logged_in" value="1">
has never opened the web page (publishing will do nothing)</label>"""


def gate(scope: str, throttle: tuple[str, int, int] | None = None) -> Callable[[Handler], Handler]:
    """JSON must be asked for, the token must live (else 500), the scope must fit (else an empty 403)."""

    def wrap(handler: Handler) -> Handler:
        async def checked(call: Call, *parts: str) -> wire.Response:
            if "json" not in call.request.headers.get("accept", ""):
                return wire.redirect(call.url("/login"))
            token = call.token
            dead = token is None or token.is_dead(call.now)
            if token is None or dead or call.account is None:
                return wire.as_json({"error": "Unauthenticated."}, 500)
            if call.fault("permission_missing") or not grants.allows(token.scopes, scope):
                return wire.as_json({"error": ""}, 403)
            if throttle:
                _throttle(call, *throttle)
            return await handler(call, *parts)

        return checked

    return wrap


@gate("read")
async def verify_credentials(call: Call) -> wire.Response:
    """GET /api/v1/accounts/verify_credentials"""
    return wire.as_json(entities.credentials(call, call.me))


@gate("write", ("media", 1250, 86400))
async def upload_v1(call: Call) -> wire.Response:
    """POST /api/v1/media: 200 with an address"""
    kept = _accept(call)
    return wire.as_json(posts.attachment(call, kept) if kept else [])


@gate("write", ("media", 1250, 86400))
async def upload_v2(call: Call) -> wire.Response:
    """POST /api/v2/media: always 202 without an address, also for pictures"""
    kept = _accept(call)
    if kept is None:
        return wire.as_json([])
    return wire.as_json({**posts.attachment(call, kept), "url": None}, 202)


@gate("read")
async def show_media(call: Call, key: str) -> wire.Response:
    """GET /api/v1/media/ID: only while unattached and younger than two hours"""
    return wire.as_json(posts.attachment(call, _upload(call, key)))


@gate("write", ("media-update", 10, 60))
async def change_media(call: Call, key: str) -> wire.Response:
    """PUT /api/v1/media/ID: the description"""
    found = _upload(call, key)
    uploads.change(call, found)
    return wire.as_json(posts.attachment(call, found))


@gate("write", ("statuses", 1000, 86400))
async def create_status(call: Call) -> wire.Response:
    """POST /api/v1/statuses"""
    return await posts.create(call, call.me)


@gate("read")
async def show_status(call: Call, key: str) -> wire.Response:
    """GET /api/v1/statuses/ID"""
    found = timeline.visible(call, key)
    if found is None:
        posts.no_model("Status", key)
    return wire.as_json(posts.status(call, found))


@gate("write")
async def delete_status(call: Call, key: str) -> wire.Response:
    """DELETE /api/v1/statuses/ID"""
    found = timeline.own(call, key)
    if found is None:
        posts.no_model("Status", key)
    body = {**posts.status(call, found), "text": found.text}
    timeline.delete(call, found, free_media=False)
    return wire.as_json(body)


@gate("read")
async def account_statuses(call: Call, account_id: str) -> wire.Response:
    """GET /api/v1/accounts/ID/statuses: min_id works like since_id, since_id is ignored, replies are left
    out
    """
    who, given = call.network.store.accounts.get(account_id), call.params
    if who is None or who.instance != call.instance.name:
        return wire.as_json({"error": "No query results for model [App\\Profile]."}, 404)
    mine = call.account is not None and call.account.id == who.id
    low, high = int(given.number("min_id", 0)), int(given.number("max_id", 0))
    found = [
        one
        for one in call.network.store.by_account.get(who.id, [])
        if one.deleted_at is None
        and one.hidden is None
        and not one.in_reply_to_id
        and (mine or one.visibility == "public")
        and (int(one.id) > low if low else not high or int(one.id) < high)
    ]
    limit = min(max(given.number("limit", 20), 1), 40)
    return wire.as_json([posts.status(call, one) for one in found[-limit:][::-1]])


async def login(call: Call) -> wire.Response:
    """GET /login: where a request without `Accept: application/json` ends up"""
    return wire.as_html("<!DOCTYPE html><html><title>Login - Pixelfed</title><form>Email, password</form></html>")


async def missing(call: Call) -> wire.Response:
    """Unknown paths: JSON when asked for, else a page."""
    if "json" in call.request.headers.get("accept", ""):
        return wire.as_json({"error": "Not Found"}, 404)
    return pages.not_found(call)


def _accept(call: Call) -> model.Upload | None:
    """None for a person who never opened the web app: 200 with `[]`, and nothing was kept."""
    if call.me.traits.get("never_logged_in"):
        return None
    file, profile = call.params.files.get("file"), call.profile
    if file is None:
        posts.unprocessable("file", "The file field is required.")
    if len(call.params.text("description")) > profile.description_limit:
        text = f"The description must not be greater than {profile.description_limit} characters."
        posts.unprocessable("description", text)
    if len(file.body) > profile.image_bytes:
        posts.unprocessable("file", f"The file must not be greater than {profile.image_bytes // 1024} kilobytes.")
    try:
        seen = media.look(file.body)
    except media.NotMedia:
        posts.abort(403, "Invalid or unsupported mime type.")
    if seen.mime not in profile.mime_types:
        posts.abort(403, "Invalid or unsupported mime type.")
    key = call.network.store.small_id()
    return uploads.keep(call, file.body, seen, call.params.text("description") or None, key)


def _upload(call: Call, key: str) -> model.Upload:
    found = uploads.find(call, key, max_age_s=posts.UPLOAD_S)
    if found is None:
        posts.no_model("Media", key)
    return found


def _throttle(call: Call, family: str, limit: int, period_s: int) -> None:
    if call.profile.rate_limits == "off":
        return
    window = call.network.limits.count(call.instance, family, call.me.id, limit, period_s)
    call.headers += [
        ("X-RateLimit-Limit", str(window.limit)),
        ("X-RateLimit-Remaining", str(window.remaining)),
    ]
    if window.over:
        wait = max(round(window.resets_at - call.now), 1)
        headers = [("Retry-After", str(wait)), ("X-RateLimit-Reset", f"{window.resets_at:.0f}")]
        raise wire.Answer(wire.as_json({"error": "Too Many Attempts."}, 429, headers))


def profile_url(instance: Instance, account: model.Account) -> str:
    """/wren"""
    return f"{instance.url}/{account.username}"


def status_url(instance: Instance, account: model.Account, status: model.Status) -> str:
    """/p/wren/117020574470656417"""
    return f"{instance.url}/p/{account.username}/{status.id}"


def usual_profile(software: str, version: str | None) -> Profile:
    """Pixelfed 0.12."""
    return Profile(
        family="pixelfed",
        software="pixelfed",
        version=version or "0.12.6",
        counting="codepoints",
        description_limit=1000,
        image_bytes=15_000 * 1024,
        video_bytes=15_000 * 1024,
        image_pixels=2_073_600,
        video_pixels=2_073_600,
        mime_types=(*IMAGES[:3], "image/heic", "image/webp", "image/avif", "video/mp4", "video/mov"),
        poll_options=0,
        poll_option_chars=0,
        idempotency="tripwire",
    )


def limited(call: Call, fault: Fault, seconds: float) -> wire.Response:
    """Its 429."""
    headers = [("Retry-After", f"{seconds:.0f}"), *rate_limits.headers(60, 0, f"{call.now + seconds:.0f}")]
    return wire.as_json({"error": "Too Many Attempts."}, int(fault.option("status", 429)), headers)


ROUTES: list[Route] = [
    *oauth.ROUTES,
    *instance_documents.ROUTES,
    ("GET", r"/login", login),
    ("GET", r"/api/v1/accounts/verify_credentials", verify_credentials),
    ("POST", r"/api/v1/media", upload_v1),
    ("POST", r"/api/v2/media", upload_v2),
    ("GET", r"/api/v1/media/(\w+)", show_media),
    ("PUT", r"/api/v1/media/(\w+)", change_media),
    ("POST", r"/api/v1/statuses", create_status),
    ("GET", r"/api/v1/statuses/(\w+)", show_status),
    ("DELETE", r"/api/v1/statuses/(\w+)", delete_status),
    ("GET", r"/api/v1/accounts/(\w+)/statuses", account_statuses),
    ("GET", r"/p/[\w.]+/(\d+)", pages.permalink),
]


FAMILY = Family(
    routes=ROUTES,
    missing=missing,
    software={"pixelfed": usual_profile},
    scopes=("read", "write"),
    connect=connections.connect,
    profile_url=profile_url,
    status_url=status_url,
    limited=limited,
    consent=_CONSENT,
)
