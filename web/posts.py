"""Writing and watching posts: the queue, the composer, a post's own page."""

import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_login import current_user, login_required
from psycopg import Connection
from werkzeug.wrappers import Response

from postflow import accounts, deliveries, media, posts, scheduling
from postflow.errors import Conflict, Invalid, NotFound
from postflow.models import RESTING, Delivery
from web import composer, database, forms, walltime
from worker import tasks

bp = Blueprint("posts", __name__)
Page = str | Response | tuple[str, int]
VIEWS = (
    ("upcoming", "Upcoming"), ("published", "Published"), ("attention", "Needs attention"), ("drafts", "Drafts")
)  # fmt: skip
EDITABLE = frozenset({"scheduled", "preparing", "ready", "cancelled", "failed", "missed"})
PAGE = 30


# -- watching ------------------------------------------------------------------------------------------------


@bp.get("/")
@login_required
def queue() -> Page:
    view = request.args.get("view", "upcoming")
    start = request.args.get("from", 0, type=int)
    if view not in dict(VIEWS):
        raise NotFound("There is no such list.")
    with database.connection() as conn:
        found = posts.page(conn, current_user.id, view, before=max(0, start), limit=PAGE + 1)
        counts = posts.counts(conn, current_user.id)
        connected = accounts.of_user(conn, current_user.id)
    moving = any(line.delivery.status not in RESTING for post in found for line in post.deliveries)
    template = "posts/_queue.html" if "HX-Request" in request.headers else "posts/queue.html"
    return render_template(
        template, view=view, views=VIEWS, found=found[:PAGE], counts=counts, moving=moving, connected=connected,
        more=start + PAGE if len(found) > PAGE else None,
    )  # fmt: skip


@bp.get("/posts/<int:post_id>")
@login_required
def show(post_id: int) -> Page:
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
    rows = [line.delivery for lines in by_post.values() for line in lines]
    template = "posts/_post.html" if "HX-Request" in request.headers else "posts/show.html"
    return render_template(
        template, post=parts[0], thread_parts=parts, lines=by_post, events=events, pictures=pictures,
        moving=any(row.status not in RESTING for row in rows),
        editable=all(row.status in EDITABLE for row in rows),
        waiting=any(row.status in ("scheduled", "preparing", "ready") for row in rows),
    )  # fmt: skip


# -- writing -------------------------------------------------------------------------------------------------


@bp.get("/posts/new")
@login_required
def new() -> Page:
    return composer.page(forms.blank(current_user.time_zone, uuid.uuid4().hex, _now()))


@bp.post("/posts")
@login_required
def create() -> Page:
    """Schedule, publish now, or keep as a draft; a refused form comes back with all that was typed."""
    return _submitted(None)


@bp.get("/posts/<int:post_id>/edit")
@login_required
def edit(post_id: int) -> Page:
    with database.connection() as conn:
        post, *parts = posts.thread(conn, current_user.id, post_id) or [None]
        if post is None:
            raise NotFound("There is no such post.")
        rows = deliveries.of_posts(conn, current_user.id, [post.id])
    chosen = list(post.draft_account_ids or [row.account_id for row in rows if row.status != "cancelled"])
    key = uuid.uuid4().hex
    return composer.page(
        forms.of_post(post, [part for part in parts if part], chosen, key, current_user.time_zone), post_id
    )


@bp.post("/posts/<int:post_id>")
@login_required
def update(post_id: int) -> Page:
    return _submitted(post_id)


def _submitted(post_id: int | None) -> Page:
    shown, action = forms.typed(request.form), request.form.get("action", "schedule")
    try:
        composer.take_uploads(shown)
        if composer.rearranged(shown):
            return composer.page(shown, post_id)
        if action == "check":
            return composer.checked(shown, post_id)
        stored = _store(shown, post_id, action)
    except Invalid as wrong:
        return composer.page(shown, post_id, wrong.fields), 422
    except Conflict as wrong:
        return composer.page(shown, post_id, {"": [str(wrong)]}), 409
    return redirect(url_for("posts.show", post_id=stored))


def _store(shown: dict[str, Any], post_id: int | None, action: str) -> int:
    """One transaction: the post, its deliveries and their jobs, or nothing."""
    now, settings, user_id = _now(), database.settings(), current_user.id
    wanted = forms.new_post(shown, now=now, action=action)
    with database.transaction() as conn:
        if action == "draft":
            return scheduling.save_draft(conn, user_id, wanted, form_key=shown["form_key"] or None, draft_id=post_id).id
        if post_id is None:
            made = scheduling.schedule(
                conn, user_id, wanted, now=now, settings=settings, form_key=shown["form_key"] or None
            )
        else:
            revision = int(shown["revision"]) if shown["revision"].isdecimal() else 0
            made = scheduling.edit(conn, user_id, post_id, wanted, revision=revision, now=now, settings=settings)
        tasks.publish_later(conn, made.deliveries)
        return made.posts[0].id


# -- changing what is scheduled --------------------------------------------------------------------------------


@bp.post("/posts/<int:post_id>/publish-now")
@login_required
def publish_now(post_id: int) -> Page:
    return _done(
        post_id, lambda conn: scheduling.publish_now(conn, current_user.id, post_id, now=_now()), "On its way."
    )


@bp.post("/posts/<int:post_id>/move")
@login_required
def move(post_id: int) -> Page:
    def moved(conn: Connection) -> list[Delivery]:
        form = request.form
        at = walltime.instant(*(form.get(name, "") for name in ("date", "time", "zone", "which")))
        return scheduling.move(conn, current_user.id, post_id, at, now=_now(), settings=database.settings())

    return _done(post_id, moved, "Moved.")


@bp.post("/posts/<int:post_id>/cancel")
@login_required
def cancel(post_id: int) -> Page:
    return _done(post_id, lambda conn: scheduling.cancel(conn, current_user.id, post_id), "Cancelled.")


@bp.post("/posts/<int:post_id>/delete")
@login_required
def delete(post_id: int) -> Page:
    try:
        with database.transaction() as conn:
            scheduling.delete(conn, current_user.id, post_id)
    except Conflict as wrong:
        flash(str(wrong), "bad")
        return redirect(url_for("posts.show", post_id=post_id))
    flash("Deleted here. What was published stays on the networks.", "good")
    return redirect(url_for("posts.queue"))


@bp.post("/deliveries/<int:delivery_id>/retry")
@login_required
def retry(delivery_id: int) -> Page:
    return _done(
        _post_of(delivery_id),
        lambda conn: scheduling.retry(conn, current_user.id, delivery_id, now=_now()),
        "Trying again.",
    )


@bp.post("/deliveries/<int:delivery_id>/settle")
@login_required
def settle(delivery_id: int) -> Page:
    there = request.form.get("published") == "yes"
    return _done(
        _post_of(delivery_id),
        lambda conn: scheduling.settle(conn, current_user.id, delivery_id, published=there, now=_now()),
        "Noted as published." if there else "Sending it again.",
    )


def _done(post_id: int, change: Callable[[Connection], list[Delivery]], said: str) -> Page:
    """One change in one transaction with its jobs; what came too late says so."""
    try:
        with database.transaction() as conn:
            tasks.publish_later(conn, change(conn))
        flash(said, "good")
    except (Conflict, Invalid) as wrong:
        flash(str(wrong), "bad")
    return redirect(url_for("posts.show", post_id=post_id))


def _post_of(delivery_id: int) -> int:
    with database.connection() as conn:
        found = deliveries.get(conn, current_user.id, delivery_id)
    if found is None:
        raise NotFound("There is no such delivery.")
    return found.post_id


def _now() -> datetime:
    return database.now()
