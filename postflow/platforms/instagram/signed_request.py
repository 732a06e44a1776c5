"""`signed_request`: how Meta proves that a callback is its own. base64url(signature).base64url(payload), HMAC-SHA256 over
the encoded payload with the app's secret. https://developers.facebook.com/docs/facebook-login/guides/advanced/manual-flow
"""

import base64
import hmac
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from postflow import config
from postflow.models import utc_now


class Signed(NamedTuple):
    """Whose callback it is: the id is valid inside the app that signed, so the login it belongs to goes with it."""

    flavour: Literal["instagram", "facebook"]
    user_id: str
    issued_at: datetime


def opened(settings: config.Settings, text: str) -> Signed | None:
    """None when neither of our apps signed it, or when it is not what it should be."""
    signature, dot, payload = text.partition(".")
    given, body = _bytes(signature), _bytes(payload)
    if not dot or not given or not body:
        return None
    apps: tuple[tuple[Literal["instagram", "facebook"], Any], ...] = (
        ("instagram", settings.instagram_app_secret),
        ("facebook", settings.facebook_app_secret),
    )
    for flavour, secret in apps:
        if secret and hmac.compare_digest(
            hmac.digest(secret.get_secret_value().encode(), payload.encode(), "sha256"), given
        ):
            return _signed(flavour, body)
    return None


def _signed(flavour: Literal["instagram", "facebook"], body: bytes) -> Signed | None:
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if (
        not isinstance(told, Mapping)
        or str(told.get("algorithm", "")).upper() != "HMAC-SHA256"
        or not told.get("user_id")
    ):
        return None
    issued = told.get("issued_at")
    at = datetime.fromtimestamp(issued, UTC) if isinstance(issued, int) and 0 < issued < 1e11 else utc_now()
    return Signed(flavour, str(told["user_id"]), at)


def _bytes(text: str) -> bytes | None:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
