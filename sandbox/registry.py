"""The networks there are: to add one, its folder, and its line here."""

from typing import Any

from sandbox.control import api as control
from sandbox.core import pages
from sandbox.core.family import Family
from sandbox.core.software import Profile, changed
from sandbox.gotosocial import api as gotosocial
from sandbox.instagram import api as instagram
from sandbox.mastodon import api as mastodon
from sandbox.mastodon.profiles import unknown
from sandbox.pixelfed import api as pixelfed

FAMILIES: dict[str, Family] = {
    "mastodon": mastodon.FAMILY,
    "pixelfed": pixelfed.FAMILY,
    "gotosocial": gotosocial.FAMILY,
    "instagram": instagram.FAMILY,
}
# name, title, software, version; on consecutive ports after the index, in this order
DEFAULTS: list[tuple[str, str, str, str | None]] = [
    ("mastodon", "birds.example", "mastodon", "4.7.4"),
    ("pixelfed", "lenses.example", "pixelfed", None),
    ("instagram", "Instagram (sandbox)", "instagram", None),
    ("gotosocial", "sloths.example", "gotosocial", None),
    ("mastodon-4.1", "oldbirds.example", "mastodon", "4.1.2"),
]
SOFTWARE = {name: usual for family in FAMILIES.values() for name, usual in family.software.items()}
_ADDED = [route for family in FAMILIES.values() for route in family.control]
CONTROL = Family(routes=[*control.ROUTES, *_ADDED], missing=pages.missing)


def profile(software: str, version: str | None = None, **options: Any) -> Profile:
    """The usual behaviour of a software's version, changed by options (fields of Profile)."""
    return changed(SOFTWARE.get(software, unknown)(software, version), options)
