"""The composer's form -> NewPost, and back. Local wall time and zone become UTC here and nowhere else."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from werkzeug.datastructures import ImmutableMultiDict

from postflow import platforms
from postflow.errors import Invalid
from postflow.models import Attachment, Content, NewPost, Poll, Post, Visibility

LANGUAGES = (
    ("", "not said"), ("ar", "العربية"), ("ca", "català"), ("cs", "čeština"), ("da", "dansk"), ("de", "Deutsch"),
    ("el", "Ελληνικά"), ("en", "English"), ("es", "español"), ("fi", "suomi"), ("fr", "français"), ("he", "עברית"),
    ("hu", "magyar"), ("it", "italiano"), ("ja", "日本語"), ("ko", "한국어"), ("nl", "Nederlands"), ("no", "norsk"),
    ("pl", "polski"), ("pt", "português"), ("ro", "română"), ("ru", "русский"), ("sv", "svenska"), ("tr", "Türkçe"),
    ("uk", "українська"), ("zh", "中文"),
)  # fmt: skip
Form = ImmutableMultiDict[str, str]


def blank(time_zone: str, form_key: str, now: datetime) -> dict[str, Any]:
    """What an empty composer shows: in an hour, on the next full five minutes."""
    later = (now + timedelta(hours=1)).astimezone(ZoneInfo(time_zone))
    later += timedelta(minutes=-later.minute % 5)
    return {
        "text": "", "spoiler_text": "", "sensitive": False, "visibility": "public", "language": "",
        "accounts": [], "media": [], "thread": [], "date": f"{later:%Y-%m-%d}", "time": f"{later:%H:%M}",
        "zone": time_zone, "poll_options": "", "poll_expires": "86400", "poll_multiple": False, "options": {},
        "form_key": form_key, "revision": "",
    }  # fmt: skip


def typed(form: Form) -> dict[str, Any]:
    """What a refused composer shows again: all that was typed."""
    ids = [int(one) for one in form.getlist("media_id") if one.isdigit()]
    return {
        **{name: form.get(name, "") for name in
           ("text", "spoiler_text", "visibility", "language", "date", "time", "zone", "form_key", "revision",
            "poll_options", "poll_expires")},
        "sensitive": "sensitive" in form,
        "poll_multiple": "poll_multiple" in form,
        "accounts": [int(one) for one in form.getlist("account") if one.isdigit()],
        "media": [(one, form.get(f"alt.{one}", "")) for one in ids],
        "thread": [part for part in form.getlist("thread") if part.strip()],
        "options": {name: value for name, value in form.items() if "." in name and not name.startswith("alt.")},
    }  # fmt: skip


def of_post(post: Post, parts: list[Post], account_ids: list[int], form_key: str, time_zone: str) -> dict[str, Any]:
    """The composer filled with a stored post."""
    content = post.content
    shown = blank(post.time_zone or time_zone, form_key, datetime.now(UTC))
    if post.post_date:
        local = post.post_date.astimezone(ZoneInfo(post.time_zone))
        shown |= {"date": f"{local:%Y-%m-%d}", "time": f"{local:%H:%M}"}
    poll = content.poll
    return shown | {
        "text": content.text,
        "spoiler_text": content.spoiler_text,
        "sensitive": content.sensitive,
        "visibility": content.visibility.value,
        "language": content.language or "",
        "accounts": account_ids,
        "media": [(one.media_id, one.alt_text) for one in content.attachments],
        "thread": [part.content.text for part in parts],
        "poll_options": "\n".join(poll.options) if poll else "",
        "poll_expires": str(poll.expires_in_s) if poll else "86400",
        "poll_multiple": bool(poll and poll.multiple),
        "options": _shown_options(content.options),
        "revision": str(post.revision),
    }


def new_post(form: Form, *, now: datetime, action: str) -> NewPost:
    """Raises Invalid with a sentence for each field that cannot be read."""
    shown, fields = typed(form), dict[str, str]()
    post_date = None
    if action == "now":
        post_date = now
    elif shown["date"] and shown["time"]:
        try:
            post_date = instant(shown["date"], shown["time"], shown["zone"])
        except Invalid as wrong:
            fields |= {name: said[0] for name, said in wrong.fields.items()}
    elif action == "schedule":
        fields["post_date"] = "Choose a date and a time."
    if shown["visibility"] not in set(Visibility):
        fields["visibility"] = "Choose who may see it."
    options, refused = _options(shown["options"])
    if fields | refused:
        raise Invalid(fields | refused)
    return NewPost(
        content=_content(shown, options),
        thread=tuple(
            Content(text=part, visibility=Visibility(shown["visibility"]), language=shown["language"] or None)
            for part in shown["thread"]
        ),
        account_ids=tuple(dict.fromkeys(shown["accounts"])),
        post_date=post_date,
        time_zone=shown["zone"] or "UTC",
    )


def instant(date: str, time: str, zone: str) -> datetime:
    """Wall time and IANA zone -> UTC. Raises Invalid for nonsense and for an hour that does not exist that day."""
    try:
        wall = datetime.strptime(f"{date} {time[:5]}", "%Y-%m-%d %H:%M").replace(tzinfo=ZoneInfo(zone))
    except (ValueError, ZoneInfoNotFoundError, OverflowError):
        raise Invalid({"post_date": "This is not a date and time that can be read."}) from None
    there_and_back = wall.astimezone(UTC).astimezone(wall.tzinfo)
    if there_and_back.replace(tzinfo=None) != wall.replace(tzinfo=None):
        raise Invalid({"post_date": f"{time} does not exist on that day in {zone}: the clocks go forward."})
    return wall.astimezone(UTC)


def _content(shown: Mapping[str, Any], options: dict[str, dict[str, Any]]) -> Content:
    answers = tuple(line.strip() for line in shown["poll_options"].splitlines() if line.strip())
    expires = shown["poll_expires"]
    poll = Poll(options=answers, expires_in_s=int(expires) if expires.isdigit() else 86400,
                multiple=shown["poll_multiple"]) if answers else None  # fmt: skip
    return Content(
        text=shown["text"].replace("\r\n", "\n"),
        spoiler_text=shown["spoiler_text"].strip(),
        sensitive=shown["sensitive"],
        visibility=Visibility(shown["visibility"]),
        language=shown["language"] or None,
        poll=poll,
        attachments=tuple(Attachment(media_id=one, alt_text=alt.strip()) for one, alt in shown["media"]),
        options=options,
    )


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
            refused |= {f"{name}.{field}": said[0] for field, said in wrong.fields.items()}
    return stored, refused


def _shown_options(options: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {
        f"{name}.{field}": "\n".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        for name, own in options.items()
        for field, value in own.items()
    }
