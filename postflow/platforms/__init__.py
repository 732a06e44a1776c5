"""The registry: one line per network. `get` is the only way the rest of PostFlow reaches a platform."""

from postflow.errors import NotFound
from postflow.platforms.base import Platform
from postflow.platforms.instagram import Instagram
from postflow.platforms.mastodon import Mastodon
from postflow.platforms.pixelfed import Pixelfed

REGISTRY: dict[str, Platform] = {
    platform.name: platform
    for platform in (
        Mastodon(),
        Pixelfed(),
        Instagram(),
    )
}


def get(name: str) -> Platform:
    """Raises NotFound for a network that is not (or no longer) registered."""
    try:
        return REGISTRY[name]
    except KeyError:
        raise NotFound(f"PostFlow no longer speaks to “{name}”.") from None
