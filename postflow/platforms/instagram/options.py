"""What the composer offers for Instagram beyond text and pictures, and how it is stored in `Content.options`.

kind           feed | reel | story
fit            crop | pad: pictures too tall or too wide
collaborators  ["ada", …]
location_id    "4711": the id of a Page that has a location
user_tags      ["1 @ada 0.50 0.30", …]: picture, who, how far from the left and from the top
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from postflow.errors import Invalid
from postflow.models import Content
from postflow.platforms.base import OptionField

MOST_COLLABORATORS = 3
MOST_TAGS = 20
_NAME = re.compile(r"[A-Za-z0-9._]{1,30}")
_TAG = re.compile(r"([1-9]|10) @?([A-Za-z0-9._]{1,30}) ([0-9]*\.?[0-9]{1,6}) ([0-9]*\.?[0-9]{1,6})")
_KINDS = (("feed", "Post (a single video becomes a reel)"), ("reel", "Reel"), ("story", "Story"))
_FITS = (("crop", "Crop them"), ("pad", "Add white borders"))
_TAG_FORM = "Write a tag like “1 @ada 0.5 0.3”: the picture's number, who, how far from the left and from the top."


class Tag(NamedTuple):
    place: int  # of the picture, from 1
    username: str
    x: float
    y: float

    def __str__(self) -> str:
        return f"{self.place} @{self.username} {self.x:.2f} {self.y:.2f}"


def fields() -> Sequence[OptionField]:
    return [
        OptionField(name="kind", label="Publish as", kind="choice", choices=_KINDS),
        OptionField(name="fit", label="Pictures too tall or too wide", kind="choice", choices=_FITS),
        OptionField(
            name="user_tags",
            label="People in the pictures",
            kind="lines",
            hint="one a line: “1 @ada 0.5 0.3” is ada in the first picture, half way across, a third of the way down",
        ),
        OptionField(name="collaborators", label="Collaborators", kind="lines", hint="one @name a line, three at most"),
        OptionField(name="location_id", label="Location", kind="text", hint="the number of a Page with a location"),
    ]


def parse(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Raises Invalid({field: sentence}) with a sentence for each field that cannot be read."""
    wrong: dict[str, str] = {}
    kind = {"": "feed", "post": "feed"}.get(_text(raw, "kind"), _text(raw, "kind"))
    fit = _text(raw, "fit") or "crop"
    location_id = _text(raw, "location_id")
    if kind not in dict(_KINDS):
        wrong["kind"] = "Choose post, reel or story."
    if fit not in dict(_FITS):
        wrong["fit"] = "Choose whether pictures are cropped or get borders."
    if location_id and not re.fullmatch(r"[0-9]{1,20}", location_id):
        wrong["location_id"] = "A location is given by its number."
    names = _collaborators(raw, wrong)
    tags = _tags(raw, wrong)
    if wrong:
        raise Invalid(wrong)
    stored: dict[str, Any] = {"kind": kind, "fit": fit}
    stored |= {"collaborators": names} if names else {}
    stored |= {"location_id": location_id} if location_id else {}
    return stored | ({"user_tags": [str(tag) for tag in tags]} if tags else {})


def _collaborators(raw: Mapping[str, Any], wrong: dict[str, str]) -> list[str]:
    names = list(dict.fromkeys(line.lstrip("@").lower() for line in _lines(raw, "collaborators")))
    if len(names) > MOST_COLLABORATORS:
        wrong["collaborators"] = "Three collaborators at most."
    for name in names:
        if not _NAME.fullmatch(name):
            wrong["collaborators"] = f"“{name[:40]}” is not a name on Instagram."
    return names


def _tags(raw: Mapping[str, Any], wrong: dict[str, str]) -> list[Tag]:
    tags = []
    for line in _lines(raw, "user_tags"):
        try:
            tags.append(_tag(line))
        except ValueError as said:
            wrong["user_tags"] = f"“{line[:60]}”: {said}"
    if len({(tag.place, tag.username) for tag in tags}) < len(tags):
        wrong["user_tags"] = "Somebody is tagged twice in one picture."
    if any(sum(other.place == tag.place for other in tags) > MOST_TAGS for tag in tags):
        wrong["user_tags"] = f"{MOST_TAGS} people fit in a picture."
    return tags


def _tag(line: str) -> Tag:
    """ "1 @ada 0.5 0.3"; without the two distances it is the middle. Raises ValueError(sentence)."""
    words = line.split()
    if len(words) == 2:
        words += ["0.5", "0.5"]
    found = _TAG.fullmatch(" ".join(words))
    if found is None:
        raise ValueError(_TAG_FORM)
    place, username, x, y = found.groups()
    if float(x) > 1 or float(y) > 1:
        raise ValueError("Distances go from 0 to 1.")
    return Tag(int(place), username.lower(), float(x), float(y))


# -- reading what is stored ------------------------------------------------------------------------------------


def of(content: Content) -> Mapping[str, Any]:
    return content.options.get("instagram") or {}


def kind(content: Content) -> str:
    """feed, reel or story; "post" is how feed was stored before."""
    stored = str(of(content).get("kind") or "feed")
    return "feed" if stored == "post" else stored


def tags(content: Content, place: int | None = None) -> list[Tag]:
    """All tags, or those of one picture (from 1)."""
    found = [_tag(str(line)) for line in of(content).get("user_tags") or ()]
    return [tag for tag in found if place in (None, tag.place)]


def _text(raw: Mapping[str, Any], name: str) -> str:
    return str(raw.get(name) or "").strip()


def _lines(raw: Mapping[str, Any], name: str) -> list[str]:
    given = raw.get(name) or ""
    lines = given if isinstance(given, list | tuple) else str(given).splitlines()
    return [line.strip() for line in map(str, lines) if line.strip()]
