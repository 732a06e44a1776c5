"""A post's own page: its parts, what became of each delivery, what happens next, and what may be done."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from flask import flash, redirect, render_template, request, url_for
from flask_login import current_user
from psycopg import Connection
from werkzeug.wrappers import Response

from postflow import db, platforms
from postflow.accounts import accounts
from postflow.errors import Conflict, NotFound
from postflow.media import media
from postflow.models import IN_FLIGHT, Delivery, DeliveryStatus, Post
from postflow.posts import deliveries, posts
from web import forms, next_steps, walltime
from web.middleware import database
from worker import tasks

EDITABLE = next_steps.WAITING | {DeliveryStatus.cancelled, DeliveryStatus.failed, DeliveryStatus.missed}


def page(
    post_id: int,
    moving: dict[str, str] | None = None,
    wrong: Mapping[str, list[str]] | None = None,
    settling: Mapping[int, str] | None = None,
) -> str | tuple[str, int]:
    """`moving` is the form for another time as typed, `settling` the address typed for a delivery, when refused. Raises
    NotFound.
    """
    with database.connection() as conn:
        parts = posts.thread(conn, current_user.id, post_id)
        if not parts:
            raise NotFound("There is no such post.")
        by_post = posts.lines(conn, current_user.id, [part.id for part in parts])
        events = {part.id: deliveries.events(conn, current_user.id, part.id) for part in parts}
        pictures = {
            part.id: media.get_many(conn, current_user.id, [one.media_id for one in part.content.attachments])
            for part in parts
        }
        mine = {one.id: one for one in accounts.of_user(conn, current_user.id, with_disconnected=True)}
        now = db.now(conn)
    lines = [line for rows in by_post.values() for line in rows]
    again_s = next_steps.look_again_s([(parts[0], line.delivery) for line in lines], now)
    return kept_up(
        "posts/_post.html", "posts/show.html", next_steps.seen(lines, parts[0].revision, parts[0].post_date, again_s),
        post=parts[0], thread_parts=parts, lines=by_post, events=events, pictures=pictures, mine=mine, again_s=again_s,
        following=_following(parts, by_post, now),
        extras=_extras(parts[0], {line.account.platform for line in lines}),
        zones=walltime.zones(), errors=wrong or {}, settling=settling or {},
        moving=moving or walltime.typed(parts[0].post_date, parts[0].time_zone),
        twice=walltime.twice(**{name: moving[name] for name in ("date", "time", "zone")}) if moving else [],
        **_possible([one.delivery for one in lines]),
    )  # fmt: skip


def kept_up(fragment: str, whole: str, seen: str, **shown: Any) -> str | tuple[str, int]:
    """An open page looks again by itself; what it has seen already is not sent twice, and nothing on it jumps."""
    if "HX-Request" not in request.headers:
        return render_template(whole, seen=seen, **shown)
    if request.args.get("seen") == seen:
        return "", 204
    return render_template(fragment, seen=seen, renewed=True, **shown)


def done(post_id: int, change: Callable[[Connection], list[Delivery]], said: str) -> Response:
    """One change in one transaction with its jobs; what came too late says so. Raises Invalid."""
    try:
        with database.transaction() as conn:
            tasks.publish_later(conn, change(conn))
        flash(said, "good")
    except Conflict as wrong:
        flash(str(wrong), "bad")
    return redirect(url_for("posts.show", post_id=post_id))


def _following(parts: list[Post], by_post: dict[int, list[posts.Line]], now: datetime) -> dict[int, next_steps.Next]:
    """What happens next, by delivery."""
    said, before = {}, dict[int, Delivery]()
    grace_s = parts[0].grace_s if parts[0].grace_s is not None else database.settings().grace_s
    for part in parts:
        for row, account in by_post[part.id]:
            said[row.id] = next_steps.following(row, part, account, before.get(account.id), now=now, grace_s=grace_s)
        before = {account.id: next_steps.holder(row, before.get(account.id)) for row, account in by_post[part.id]}
    return {row: following for row, following in said.items() if following}


def _possible(rows: list[Delivery]) -> dict[str, bool]:
    """What may be done with the post as a whole."""
    states = {row.status for row in rows}
    whole = bool(rows) and states <= EDITABLE
    return {
        "editable": states <= EDITABLE,
        "movable": whole and bool(states & (next_steps.WAITING | {"missed"})),
        "cancellable": bool(states & next_steps.WAITING),
        "deletable": not states & IN_FLIGHT,
    }


def _extras(post: Post, there: set[str]) -> list[tuple[str, str, str]]:
    """Options of the networks it goes to, where they are not the usual ones: (network, field, value)."""
    shown = forms.shown_options(post.content.options)
    found = []
    for name, platform in platforms.REGISTRY.items():
        for field in platform.option_fields() if name in there else ():
            value = shown.get(f"{name}.{field.name}")
            if value and (not field.choices or value != field.choices[0][0]):
                found.append((platform.label, field.label, dict(field.choices).get(value, value)))
    return found
