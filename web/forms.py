"""The composer's form -> NewPost, and back.

The first part of a thread has the plain names `text`, `media_id`, `files`; each further one has a `part` with its key,
and `text.<key>`, `media_id.<key>`, `files.<key>`. What belongs to a picture is named by its id: `alt.<id>`, and
`focus_left.<id>`, `focus_top.<id>` in percent. A network's own extras are `<network>.<field>`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from werkzeug.datastructures import ImmutableMultiDict

from postflow import config, platforms
from postflow.errors import Invalid
from postflow.models import Attachment, Content, Delivery, Focus, NewPost, Poll, Post, Visibility
from web import walltime

Form = ImmutableMultiDict[str, str]
#: Longer than anything is kept waiting: such a post goes out however late it is.
ALWAYS_S = 10 * 366 * 86_400
ENDS = (("3600", "1 hour"), ("21600", "6 hours"), ("86400", "1 day"), ("259200", "3 days"), ("604800", "7 days"))
_PLAIN = (
    "spoiler_text", "visibility", "language", "date", "time", "zone", "which", "form_key", "revision", "poll_options",
    "poll_expires", "grace", "of", "again", "proposed",
)  # fmt: skip


@dataclass(frozen=True)
class Piece:
    """A picture or video in the form, with what was typed about it."""

    media_id: int
    alt: str = ""
    left: str = ""  # percent, as typed
    top: str = ""


@dataclass
class Part:
    """One post of a thread as typed; the first has no key."""

    key: str = ""
    text: str = ""
    media: list[Piece] = field(default_factory=list)

    def is_blank(self) -> bool:
        return not (self.text.strip() or self.media)

    def named(self, name: str) -> str:
        return f"{name}.{self.key}" if self.key else name


# -- what the composer shows -----------------------------------------------------------------------------------


def blank(time_zone: str, form_key: str, now: datetime) -> dict[str, Any]:
    """What an empty composer shows: in an hour, on the next full five minutes; `proposed`, until somebody chooses a time."""
    later = (now + timedelta(hours=1)).astimezone(ZoneInfo(time_zone))
    later += timedelta(minutes=-later.minute % 5)
    at = {"date": f"{later:%Y-%m-%d}", "time": f"{later:%H:%M}", "zone": time_zone, "which": ""}
    return at | {
        "parts": [Part()], "spoiler_text": "", "sensitive": False, "visibility": "public", "language": "",
        "accounts": [], "proposed": _at(at), "poll_options": "", "poll_expires": "86400", "poll_multiple": False,
        "poll_hide_totals": False, "grace": "",
        "options": {}, "form_key": form_key, "revision": "", "of": "", "again": "",
    }  # fmt: skip


def _at(shown: Mapping[str, Any]) -> str:
    return " ".join(shown[name] for name in ("date", "time", "zone"))


def typed(form: Form) -> dict[str, Any]:
    """What a refused composer shows again: all that was typed. Parts left empty are dropped, the first one never."""
    further = [Part(key) for key in dict.fromkeys(form.getlist("part")) if key.isalnum()]
    parts = [Part(), *further]
    for part in parts:
        part.text = _said(form, part.named("text"))
        part.media = [_piece(form, one) for one in dict.fromkeys(_numbers(form, part.named("media_id")))]
    own = tuple(f"{name}." for name in platforms.REGISTRY)
    return {
        **{name: _said(form, name) for name in _PLAIN},
        "parts": [parts[0], *(part for part in further if not part.is_blank())],
        "sensitive": "sensitive" in form,
        "poll_multiple": "poll_multiple" in form,
        "poll_hide_totals": "poll_hide_totals" in form,
        "accounts": _numbers(form, "account"),
        "options": {name: _said(form, name) for name in form if name.startswith(own)},
    }


def _said(form: Form, name: str) -> str:
    """Postgres keeps every character but this one."""
    return form.get(name, "").replace("\0", "")


def _numbers(form: Form, name: str) -> list[int]:
    """Ids as Postgres has them; anything else was not made by our form."""
    return [found for one in form.getlist(name) if (found := an_id(one)) is not None]


def an_id(said: str) -> int | None:
    return int(said) if said.isdecimal() and len(said) < 19 else None


def _piece(form: Form, media_id: int) -> Piece:
    said = (_said(form, f"{name}.{media_id}") for name in ("alt", "focus_left", "focus_top"))
    return Piece(media_id, *said)


def of_post(post: Post, parts: list[Post], account_ids: list[int], form_key: str, time_zone: str) -> dict[str, Any]:
    """The composer filled with a stored post."""
    content = post.content
    shown = blank(post.time_zone or time_zone, form_key, datetime.now(UTC))
    if post.post_date:
        shown |= walltime.typed(post.post_date, post.time_zone) | {"proposed": ""}
    poll = content.poll
    return shown | {
        "parts": [_part("", content), *(_part(str(place), one.content) for place, one in enumerate(parts, 1))],
        "spoiler_text": content.spoiler_text,
        "sensitive": content.sensitive,
        "visibility": content.visibility.value,
        "language": content.language or "",
        "accounts": account_ids,
        "poll_options": "\n".join(poll.options) if poll else "",
        "poll_expires": str(poll.expires_in_s) if poll else "86400",
        "poll_multiple": bool(poll and poll.multiple),
        "poll_hide_totals": bool(poll and poll.hide_totals),
        "grace": "" if post.grace_s is None else str(post.grace_s),
        "options": shown_options(content.options),
        "revision": str(post.revision),
    }


def copied(shown: dict[str, Any], post: Post, said: Delivery) -> dict[str, Any]:
    """What `post` says on the account of `said`, as a post of its own at the time that `shown` has."""
    anew = {name: shown[name] for name in ("date", "time", "zone", "which", "proposed", "form_key", "revision")}
    return of_post(post, [], [said.account_id], shown["form_key"], shown["zone"]) | anew | {"of": str(said.id)}


def _part(key: str, content: Content) -> Part:
    return Part(key, content.text, [_shown_piece(one) for one in content.attachments])


def _shown_piece(attachment: Attachment) -> Piece:
    focus = attachment.focus
    if focus is None:
        return Piece(attachment.media_id, attachment.alt_text)
    return Piece(attachment.media_id, attachment.alt_text, f"{round(50 + 50 * focus.x)}", f"{round(50 - 50 * focus.y)}")


def shown_options(options: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """As each network gives them back to its own fields."""
    return {
        f"{name}.{field_name}": "\n".join(map(_line, value)) if isinstance(value, list | tuple) else str(value)
        for name, own in options.items()
        for field_name, value in own.items()
    }


def _line(value: Any) -> str:
    return " ".join(map(str, value.values())) if isinstance(value, Mapping) else str(value)


# -- changing the form without sending it ------------------------------------------------------------------------


def graces(setting_s: int) -> list[tuple[str, str]]:
    """What a person may say of lateness; "" is the operator's setting."""
    hours, minutes = divmod(setting_s // 60, 60)
    usual = " ".join([f"{hours} h"] * (hours > 0) + [f"{minutes} min"] * (minutes > 0 or not hours))
    own = {"900": "15 minutes", "3600": "1 hour", "21600": "6 hours", "86400": "a day"}
    return [("", f"the usual ({usual})"), *own.items(), (str(ALWAYS_S), "never: publish it however late")]


def with_part(shown: dict[str, Any]) -> None:
    taken = {part.key for part in shown["parts"]}
    shown["parts"].append(Part(next(str(key) for key in range(1, len(taken) + 1) if str(key) not in taken)))


def rearranged(shown: dict[str, Any], change: str, media_id: int) -> None:
    """`change`: remove, earlier, later. Marks that name pictures by their place follow along."""
    for part in shown["parts"]:
        before = [piece.media_id for piece in part.media]
        if media_id not in before:
            continue
        place = before.index(media_id)
        piece = part.media.pop(place)
        if change != "remove":
            part.media.insert(max(0, place - 1) if change == "earlier" else place + 1, piece)
        if not part.key:
            after = [piece.media_id for piece in part.media]
            moved = {old: after.index(one) + 1 if one in after else None for old, one in enumerate(before, 1)}
            shown["options"] = {
                name: renumbered(value, moved) if name.endswith(".user_tags") else value
                for name, value in shown["options"].items()
            }


def renumbered(lines: str, moved: Mapping[int, int | None]) -> str:
    """ "1 @ada 0.50 0.30" a line: the number follows its picture, a line of a removed picture goes with it."""
    kept = []
    for line in lines.splitlines():
        number, _, rest = line.strip().partition(" ")
        place = moved.get(int(number), int(number)) if number.isdecimal() else number
        if place is not None:
            kept.append(f"{place} {rest}".strip())
    return "\n".join(kept)


# -- what was meant ----------------------------------------------------------------------------------------------


def new_post(shown: Mapping[str, Any], *, now: datetime, action: str) -> NewPost:
    """From what `typed` read. Raises Invalid with a sentence for each field that cannot be understood."""
    fields = dict[str, str]()
    post_date = None
    if action == "now":
        post_date = now
    elif action == "draft" and shown["proposed"] == _at(shown):
        pass  # nobody has chosen it
    elif shown["date"] and shown["time"]:
        try:
            post_date = walltime.instant(shown["date"], shown["time"], shown["zone"], shown["which"])
        except Invalid as wrong:
            fields |= {name: said[0] for name, said in wrong.fields.items()}
    elif action != "draft":
        fields["post_date"] = "Choose a date and a time."
    if shown["visibility"] not in set(Visibility):
        fields["visibility"] = "Choose who may see it."
    if shown["zone"] and shown["zone"] not in config.time_zones():
        fields["post_date"] = "Choose a time zone from the list, such as Europe/Berlin."
    options, refused = _options(shown["options"])
    fields |= refused | _unreadable_focus(shown["parts"])
    if fields:
        raise Invalid(fields)
    first, *rest = shown["parts"]
    return NewPost(
        content=_first(shown, first, options),
        thread=tuple(_content(shown, part) for part in rest if not part.is_blank()),
        account_ids=tuple(dict.fromkeys(shown["accounts"])),
        post_date=post_date,
        time_zone=shown["zone"] or "UTC",
        grace_s=_whole(shown["grace"]),
    )


def _first(shown: Mapping[str, Any], part: Part, options: dict[str, dict[str, Any]]) -> Content:
    answers = tuple(line.strip() for line in shown["poll_options"].splitlines() if line.strip())
    poll = Poll(
        options=answers,
        expires_in_s=_whole(shown["poll_expires"]) or 86_400,
        multiple=shown["poll_multiple"],
        hide_totals=shown["poll_hide_totals"],
    )
    return _content(shown, part).model_copy(update={"poll": poll if answers else None, "options": options})


def _whole(said: str) -> int | None:
    """Seconds; None for what our selects do not send."""
    return min(int(said), ALWAYS_S) if said.isdecimal() and len(said) < 10 else None


def _content(shown: Mapping[str, Any], part: Part) -> Content:
    """Warning, visibility, language and hiding hold for every part of a thread; text and pictures are its own."""
    return Content(
        text=part.text.replace("\r\n", "\n"),
        spoiler_text=shown["spoiler_text"].strip(),
        sensitive=shown["sensitive"],
        visibility=Visibility(shown["visibility"]),
        language=shown["language"] or None,
        attachments=tuple(
            Attachment(media_id=one.media_id, alt_text=one.alt.strip().replace("\r\n", "\n"), focus=focus(one))
            for one in part.media
        ),
    )


def focus(piece: Piece) -> Focus | None:
    """Percent from the left and the top -> Mastodon's -1..1, right and up. Raises ValueError."""
    if not (piece.left.strip() or piece.top.strip()):
        return None
    left, top = (float(said.strip().replace(",", ".") or 50) for said in (piece.left, piece.top))
    return Focus(x=round(left / 50 - 1, 2), y=round(1 - top / 50, 2))  # pydantic's refusal is a ValueError


def _unreadable_focus(parts: Iterable[Part]) -> dict[str, str]:
    wrong = {}
    for number, part in enumerate(parts):
        for place, piece in enumerate(part.media):
            try:
                focus(piece)
            except ValueError:
                name = f"media.{place}" if number == 0 else f"thread.{number - 1}.media.{place}"
                wrong[name] = "The focal point is given in percent: 0 to 100 from the left and from the top."
    return wrong


def _options(raw: Mapping[str, str]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """ "instagram.kind" and its like, parsed by the network they belong to."""
    stored, refused = dict[str, dict[str, Any]](), dict[str, str]()
    for name, platform in platforms.REGISTRY.items():
        own = {key.removeprefix(f"{name}."): value for key, value in raw.items() if key.startswith(f"{name}.")}
        if not own:
            continue
        try:
            stored[name] = platform.parse_options(own)
        except Invalid as wrong:
            refused |= {f"{name}.{field_name}": said[0] for field_name, said in wrong.fields.items()}
    return stored, refused
