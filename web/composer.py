"""The composer's page: the form as typed, uploads that come with it, and what each network says before it is sent."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from flask import render_template, request, url_for
from flask_login import current_user
from psycopg import Connection
from werkzeug.datastructures import FileStorage

from postflow import db, platforms
from postflow.accounts import accounts, servers
from postflow.errors import Invalid, NotFound
from postflow.media import media, renditions, uploads
from postflow.models import Account, Content, Media, Problem, Server, Visibility
from postflow.posts import posts, preflight
from web import forms, languages, walltime
from web.middleware import database

Wrong = Mapping[str, Sequence[str]]


class Preview(NamedTuple):
    """A picture as one network gets it."""

    media: Media
    alt_text: str
    address: str  # of the rendition; "" when it is passed on as it is
    change: str  # in words


class PartVerdict(NamedTuple):
    length: int
    most: int | None
    previews: list[Preview]


class Verdict(NamedTuple):
    """What one network says about the post."""

    account: Account
    problems: list[tuple[int, Problem]]  # (part, problem): what is refused comes first
    parts: list[PartVerdict]

    @property
    def is_refused(self) -> bool:
        return any(problem.blocking for _, problem in self.problems)


class Checked(NamedTuple):
    own: list[Problem]  # whichever the account
    verdicts: list[Verdict]

    @property
    def is_refused(self) -> bool:
        return any(problem.blocking for problem in self.own) or any(one.is_refused for one in self.verdicts)


# -- the pages -------------------------------------------------------------------------------------------------


def page(
    shown: dict[str, Any], post_id: int | None = None, wrong: Wrong | None = None, *, again: int | None = None
) -> str:
    """A refused form shows beside each field what is wrong with it, and above all of them each network's verdict; `again` is
    the post that says the same already.
    """
    return _rendered("posts/compose.html", shown, post_id, wrong or {}, _check(shown) if wrong else None, again)


def checked(shown: dict[str, Any], post_id: int | None) -> str:
    """Nothing is stored. A script gets only the verdicts, or what is wrong with the form. Raises Invalid without one."""
    try:
        with database.connection() as conn:
            found = _verdicts(conn, shown)
    except Invalid as wrong:
        if "HX-Request" not in request.headers:
            raise
        said = [Problem(sentence=one) for sentences in wrong.fields.values() for one in sentences]
        return render_template("posts/_check.html", checked=Checked(said, []))
    if "HX-Request" in request.headers:
        return render_template("posts/_check.html", checked=found)
    return _rendered("posts/compose.html", shown, post_id, {}, found)


def line(stored: Media, part_key: str) -> str:
    """One upload's row, for the script that has just sent it."""
    part = forms.Part(part_key if part_key.isalnum() else "")
    return render_template(
        "posts/_piece.html", one=stored, piece=forms.Piece(stored.id), part=part, prefix="", place=0, errors={}
    )


def _rendered(
    template: str,
    shown: dict[str, Any],
    post_id: int | None,
    wrong: Wrong,
    found: Checked | None,
    again: int | None = None,
) -> str:
    with database.connection() as conn:
        waits = post_id is not None and not posts.get(conn, current_user.id, post_id).is_draft
        connected = accounts.of_user(conn, current_user.id)
        limits = {account.id: _limits(servers.get(conn, account.platform, account.base_url)) for account in connected}
        ids = [piece.media_id for part in shown["parts"] for piece in part.media]
        attached = {one.id: one for one in media.get_many(conn, current_user.id, ids)}
    extras = [
        (platform, fields)
        for name, platform in platforms.REGISTRY.items()
        if any(account.platform == name for account in connected) and (fields := platform.option_fields())
    ]
    settings = database.settings()
    return render_template(
        template, form=shown, post_id=post_id, errors=wrong, connected=connected, limits=limits, attached=attached,
        extras=extras, languages=languages.offered(shown["language"]),
        graces=_with(forms.graces(settings.grace_s), shown["grace"]),
        ends=_with(forms.ENDS, shown["poll_expires"]), checked=found,
        visibilities=[(one.value, one.words.capitalize()) for one in Visibility],
        most_mb=settings.max_upload_mb, blank_part=forms.Part("KEY"),
        zones=_zones(shown["zone"]), twice=walltime.twice(shown["date"], shown["time"], shown["zone"]),
        waits=waits, again=again or forms.an_id(shown["again"]),
    )  # fmt: skip


def _with(choices: Sequence[tuple[str, str]], chosen: str) -> list[tuple[str, str]]:
    """A stored value that is not among the choices stays choosable."""
    kept = [] if chosen in dict(choices) or not chosen.isdecimal() else [(chosen, f"{chosen} seconds")]
    return [*choices, *kept]


def _zones(chosen: str) -> list[tuple[str, str]]:
    zones = walltime.zones()
    return zones if chosen in dict(zones) else [(chosen, chosen), *zones]


def _limits(server: Server | None) -> dict[str, Any]:
    """What the counters in the browser need."""
    if server is None:
        return {}
    limits = server.limits
    return {
        "counting": limits.counting, "max_chars": limits.max_chars, "chars_per_url": limits.chars_per_url,
        "max_media": limits.max_media,
    }  # fmt: skip


# -- the form without a script -----------------------------------------------------------------------------------


def take_uploads(shown: dict[str, Any]) -> None:
    """Pictures that come with the form are kept even if the form is refused. Raises Invalid naming those that are not."""
    refused: dict[str, list[str]] = {}
    for number, part in enumerate(_parts_with_files(shown)):
        for file in request.files.getlist(part.named("files")):
            if not file.filename:
                continue
            try:
                with database.transaction() as conn:
                    stored = media.store(conn, current_user.id, file.filename, read(file))
            except Invalid as wrong:
                name = f"thread.{number - 1}.media" if number else "media"
                refused.setdefault(name, []).extend(sentence for said in wrong.fields.values() for sentence in said)
            else:
                part.media.append(forms.Piece(stored.id))
    if refused:
        raise Invalid(refused)


def read(file: FileStorage) -> uploads.Source:
    """A large upload waits in a file on disk, which is let go at once and stays mapped until it is stored."""
    with contextlib.closing(file):
        return uploads.held(file.stream)


def _parts_with_files(shown: dict[str, Any]) -> list[forms.Part]:
    """A part with nothing but a fresh upload was dropped as empty: it comes back."""
    there = {part.key: part for part in shown["parts"]}
    for key in dict.fromkeys(request.form.getlist("part")):
        given = any(file.filename for file in request.files.getlist(f"files.{key}"))
        if key.isalnum() and given and key not in there:
            there[key] = forms.Part(key)
    order = ["", *(key for key in dict.fromkeys(request.form.getlist("part")) if key in there)]
    shown["parts"] = [there[key] for key in order]
    return shown["parts"]


def only_rearranges() -> bool:
    """A button that changes the form and sends nothing; it comes without an action of its own."""
    return any(request.form.get(name) for name in ("remove", "earlier", "later", "drop"))


def rearranged(shown: dict[str, Any]) -> bool:
    """Was a button pressed that only changes the form?"""
    for change in ("remove", "earlier", "later"):
        if (given := request.form.get(change, "")).isdecimal():
            forms.rearranged(shown, change, int(given))
            return True
    if request.form.get("drop"):
        shown["parts"] = [part for part in shown["parts"] if not part.key or part.key != request.form["drop"]]
        return True
    if request.form.get("action") == "part":
        forms.with_part(shown)
        return True
    return False


# -- what each network says --------------------------------------------------------------------------------------


def _check(shown: Mapping[str, Any]) -> Checked | None:
    """None when the form cannot even be understood: then its fields say why."""
    try:
        with database.connection() as conn:
            return _verdicts(conn, shown)
    except Invalid:
        return None


def _verdicts(conn: Connection, shown: Mapping[str, Any]) -> Checked:
    now = db.now(conn)
    wanted = forms.new_post(shown, now=now, action="check")
    found = preflight.check(conn, current_user.id, wanted, now=now)
    verdicts = []
    for account in (accounts.get(conn, current_user.id, one) for one in wanted.account_ids):
        server = servers.get(conn, account.platform, account.base_url)
        said = [(one.part, one.problem) for one in found if one.account and one.account.id == account.id]
        parts = [_part(conn, content, account, server) for content in (wanted.content, *wanted.thread)]
        verdicts.append(Verdict(account, sorted(said, key=lambda one: not one[1].blocking), parts))
    return Checked([one.problem for one in found if one.account is None], verdicts)


def _part(conn: Connection, content: Content, account: Account, server: Server | None) -> PartVerdict:
    try:
        platform = platforms.get(account.platform)
    except NotFound:
        return PartVerdict(0, None, [])
    if server is None:
        return PartVerdict(0, None, [])
    attached = media.get_many(conn, current_user.id, [one.media_id for one in content.attachments])
    previews = []
    for one, attachment in zip(attached, content.attachments, strict=True):
        recipe = platform.recipe(content, one, server, attached[0])
        address = _address(content, one, account) if recipe else ""
        previews.append(Preview(one, attachment.alt_text, address, renditions.change(one, recipe)))
    return PartVerdict(platform.count(content, server.limits), server.limits.max_chars, previews)


def _address(content: Content, one: Media, account: Account) -> str:
    """All that decides the rendition, in the address: the page shows what was checked, not what is typed since."""
    asked = Content(
        attachments=tuple(each.model_copy(update={"alt_text": ""}) for each in content.attachments),
        options={name: own for name, own in content.options.items() if name == account.platform},
    )
    packed = asked.model_dump_json(exclude_defaults=True)
    return url_for("media.preview", media_id=one.id, account_id=account.id, content=packed)
