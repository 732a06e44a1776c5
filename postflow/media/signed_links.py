"""Public links to uploads, for networks that fetch pictures instead of being sent them: signed, unguessable, expiring."""

import base64
import time
from urllib.parse import urljoin

from itsdangerous import BadSignature, URLSafeSerializer

from postflow.config import Settings
from postflow.errors import NotFound

_SALT = "postflow.links"
#: No upload: a grey square that shows whether somebody outside gets an answer through `public_url`.
PROBE_ID = 0
PROBE = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////"
    "////////wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AP//Z"
)


def sign(settings: Settings, media_id: int, recipe: str, *, life_s: float) -> str:
    """An absolute address under `public_url`."""
    token = _serializer(settings).dumps([media_id, recipe, int(time.time() + life_s)])
    return urljoin(settings.public_url + "/", f"m/{token if isinstance(token, str) else token.decode()}")


def verify(settings: Settings, token: str) -> tuple[int, str]:
    """(media id, recipe). Raises NotFound for a forged or expired link."""
    try:
        media_id, recipe, expires = _serializer(settings).loads(token)
    except (BadSignature, ValueError, TypeError):
        raise NotFound("There is nothing at this address.") from None
    if expires < time.time():
        raise NotFound("There is nothing at this address any more.")
    return media_id, recipe


def _serializer(settings: Settings) -> URLSafeSerializer:
    return URLSafeSerializer(settings.secret_key.get_secret_value(), salt=_SALT)
