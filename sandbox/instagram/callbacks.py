"""What Meta posts to a deauthorise or data-deletion callback: POST /_sandbox/signed_request on the control port."""

import base64
import hashlib
import hmac
import json
from typing import Any

import httpx

from sandbox.core import wire
from sandbox.core.call import Call
from sandbox.core.family import Route


async def send(call: Call) -> wire.Response:
    """POST {"url", "instance"?, "account", "flavour"?}: the callback, really sent"""
    given, network = call.params, call.network
    instance = network.instances.get(given.text("instance", "instagram"))
    if instance is None or not given.text("url"):
        raise _refusal("url and a known instance are needed")
    who = next((one for one in network.store.accounts.values() if one.username == given.text("account")), None)
    secret = instance.profile.app_secret
    if given.text("flavour") == "facebook":
        secret = instance.profile.facebook_app_secret
    number = who.id if who else given.text("account", "0")
    payload = {
        "user_id": f"77{number}" if given.text("flavour") == "facebook" else number,
        "issued_at": int(network.clock.now()),
    }
    form = {"signed_request": signed_request(payload, given.text("secret", secret))}
    try:
        answer = await network.http.post(given.text("url"), data=form)
    except httpx.HTTPError as error:
        raise _refusal(f"the callback could not be delivered: {error}", 502) from error
    return wire.as_json({"status": answer.status_code, "body": answer.text[:5000]})


def signed_request(payload: dict[str, Any], secret: str) -> str:
    """`base64url(signature).base64url(payload)`, HMAC-SHA256 over the encoded payload."""
    body = _base64url(json.dumps({"algorithm": "HMAC-SHA256", **payload}).encode())
    return _base64url(hmac.digest(secret.encode(), body.encode(), hashlib.sha256)) + "." + body


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _refusal(text: str, status: int = 422) -> wire.Answer:
    return wire.Answer(wire.as_json({"error": text}, status))


ROUTES: list[Route] = [("POST", r"/_sandbox/signed_request", send)]
