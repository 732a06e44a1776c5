"""Writing and watching posts: the queue, the composer, a post's own page."""

import uuid
from typing import Any

from flask import Blueprint, flash, make_response, redirect, render_template, request, url_for
from flask_login import current_user, login_required
from psycopg import Connection
from werkzeug.wrappers import Response

from postflow import db
from postflow.accounts import accounts
from postflow.connections import limit_refresh
from postflow.errors import Conflict, Invalid, NotFound, SentBefore
from postflow.models import IN_FLIGHT, Delivery
from postflow.posts import deliveries, lists, posts, scheduling, twins
from web import composer, forms, next_steps, post_page, walltime
from web.middleware import database
from worker import tasks

bp = Blueprint("posts", __name__)
Page = str | Response | tuple[str, int]
VIEWS = (
    ("upcoming", "Upcoming"), ("published", "Published"), ("attention", "Needs attention"), ("drafts", "Drafts"),
    ("cancelled", "Cancelled"),
)  # fmt: skip
PAGE = 30
FARTHEST = 100_000  # posts to leaf past
_KEPT = {"draft": "It is a draft: nothing of it goes out until you schedule it.", "now": "On its way."}


# -- watching ------------------------------------------------------------------------------------------------


@bp.get("/")
@login_required
def queue() -> Page:
    view = request.args.get("view", "upcoming")
    start = request.args.get("from", 0, type=int)
    if view not in dict(VIEWS):
        raise NotFound("There is no such list.")
    with database.connection() as conn:
        found = lists.page(conn, current_user.id, view, before=min(max(0, start), FARTHEST), limit=PAGE + 1)
        counts = lists.counts(conn, current_user.id)
        mine = accounts.of_user(conn, current_user.id, with_disconnected=True)
        now = db.now(conn)
    again_s = next_steps.look_again_s([(one.post, row.delivery) for one in found for row in one.deliveries], now)
    again_s = again_s or (next_steps.NOW_AND_THEN_S if view == "upcoming" else None)
    seen = next_steps.seen(
        [row for one in found for row in one.deliveries], counts, again_s, [one.post.id for one in found]
    )
    return post_page.kept_up(
        "posts/_queue.html", "posts/queue.html", seen, view=view, views=VIEWS, found=found[:PAGE], counts=counts,
        again_s=again_s,
        connected=[one for one in mine if one.state != "disconnected"], mine={one.id: one for one in mine},
        more=start + PAGE if len(found) > PAGE else None,
    )  # fmt: skip


@bp.get("/posts/<int:post_id>")
@login_required
def show(post_id: int) -> Page:
    with database.connection() as conn:
        first = posts.first_of(conn, current_user.id, post_id)
    return post_page.page(post_id) if first == post_id else redirect(url_for("posts.show", post_id=first))


# -- writing -------------------------------------------------------------------------------------------------


@bp.get("/posts/new")
@login_required
def new() -> Page:
    """Empty; or filled with what a delivery said (`of`), for that account: a part that cannot follow on its own."""
    shown = forms.blank(current_user.time_zone, uuid.uuid4().hex, database.now())
    if (of := request.args.get("of", type=int)) is not None:
        with database.connection() as conn:
            said = deliveries.get(conn, current_user.id, of)
            if said is None:
                raise NotFound("There is no such delivery.")
            shown = forms.copied(shown, posts.get(conn, current_user.id, said.post_id), said)
    return composer.page(shown)


@bp.get("/posts")
@login_required
def index() -> Page:
    """The address a refused form leaves in the browser, opened anew."""
    return redirect(url_for("posts.queue"))


@bp.post("/posts")
@login_required
async def create() -> Page:
    """Schedule, publish now, or keep as a draft; a refused form comes back with all that was typed."""
    await _ask_limits_anew()
    return _submitted(None)


@bp.get("/posts/<int:post_id>/edit")
@login_required
def edit(post_id: int) -> Page:
    with database.connection() as conn:
        post, *parts = posts.thread(conn, current_user.id, post_id) or [None]
        if post is None:
            raise NotFound("There is no such post.")
        rows = deliveries.of_posts(conn, current_user.id, [post.id, *(part.id for part in parts if part)])
    if any(row.status not in post_page.EDITABLE for row in rows):
        flash("It is on its way or out already, so it cannot be changed any more.", "bad")
        return redirect(url_for("posts.show", post_id=post_id))
    chosen = list(
        post.draft_account_ids
        or [row.account_id for row in rows if row.post_id == post_id and row.status != "cancelled"]
    )
    key = uuid.uuid4().hex
    return composer.page(
        forms.of_post(post, [part for part in parts if part], chosen, key, current_user.time_zone), post_id
    )


@bp.post("/posts/<int:post_id>")
@login_required
async def update(post_id: int) -> Page:
    await _ask_limits_anew()
    return _submitted(post_id)


async def _ask_limits_anew() -> None:
    """What a server said a while ago may have changed: what it would refuse now is not accepted here, nor is refused what it
    takes. Not for a draft, or a press of a button that only rearranges the form.
    """
    if request.form.get("action", "schedule") not in ("schedule", "now", "check") or composer.only_rearranges():
        return
    chosen = [int(one) for one in request.form.getlist("account") if one.isdecimal() and len(one) < 19]
    await limit_refresh.before_accepting(database.pool(), database.settings(), current_user.id, chosen)


def _submitted(post_id: int | None) -> Page:
    shown, action = forms.typed(request.form), request.form.get("action", "schedule")
    try:
        composer.take_uploads(shown)
        if composer.rearranged(shown):
            return composer.page(shown, post_id)
        if action == "check":
            return composer.checked(shown, post_id)
        stored = _store(shown, post_id, action)
        flash(_KEPT.get(action, "Saved." if post_id else "Scheduled."), "good")
    except Invalid as wrong:
        return composer.page(shown, post_id, wrong.fields), 422
    except SentBefore as wrong:
        return composer.page(shown | {"again": ""}, post_id, {"": [str(wrong)]}, again=wrong.post_id), 409
    except Conflict as wrong:
        return composer.page(shown, post_id, {"": [str(wrong)]}), 409
    return redirect(url_for("posts.show", post_id=stored))


def _store(shown: dict[str, Any], post_id: int | None, action: str) -> int:
    """One transaction: the post, its deliveries and their jobs, or nothing."""
    now, user_id = database.now(), current_user.id
    wanted = forms.new_post(shown, now=now, action=action)
    with database.transaction() as conn:
        form_key, revision = shown["form_key"] or None, forms.an_id(shown["revision"])
        if action == "draft":
            draft = scheduling.save_draft(conn, user_id, wanted, form_key=form_key, draft_id=post_id, revision=revision)
            return draft.id
        twins.refuse(conn, user_id, wanted, form_key=form_key, but=post_id, knowingly=forms.an_id(shown["again"]))
        if post_id is None:
            made = scheduling.schedule(conn, user_id, wanted, now=now, form_key=form_key)
            if made.deliveries and (part := forms.an_id(shown["of"])):
                scheduling.set_aside(conn, user_id, part, wanted)
        else:
            made = scheduling.edit(conn, user_id, post_id, wanted, revision=revision or 0, now=now)
        tasks.publish_later(conn, made.deliveries)
        return made.posts[0].id


# -- changing what is scheduled --------------------------------------------------------------------------------


@bp.post("/posts/<int:post_id>/publish-now")
@login_required
def publish_now(post_id: int) -> Page:
    def asked(conn: Connection) -> list[Delivery]:
        return scheduling.publish_now(conn, current_user.id, post_id, now=db.now(conn))

    return post_page.done(post_id, asked, "On its way.")


@bp.post("/posts/<int:post_id>/move")
@login_required
def move(post_id: int) -> Page:
    typed = {name: request.form.get(name, "") for name in ("date", "time", "zone", "which")}

    def moved(conn: Connection) -> list[Delivery]:
        at = walltime.instant(**typed)
        return scheduling.move(conn, current_user.id, post_id, at, now=db.now(conn), time_zone=typed["zone"])

    try:
        return post_page.done(post_id, moved, "Moved.")
    except Invalid as wrong:
        return make_response(post_page.page(post_id, typed, wrong.fields), 422)


@bp.post("/posts/<int:post_id>/cancel")
@login_required
def cancel(post_id: int) -> Page:
    return post_page.done(
        post_id, lambda conn: scheduling.cancel(conn, current_user.id, post_id), "Cancelled. Nothing is lost."
    )


@bp.get("/posts/<int:post_id>/delete")
@login_required
def ask_delete(post_id: int) -> Page:
    """What would not be published, and what stays on the networks."""
    with database.connection() as conn:
        parts = posts.thread(conn, current_user.id, post_id)
        if not parts:
            raise NotFound("There is no such post.")
        by_post = posts.lines(conn, current_user.id, [part.id for part in parts])
    lines = [line for part in parts for line in by_post[part.id]]
    return render_template(
        "posts/delete.html", post=parts[0], parts_count=len(parts),
        stopped=[line for line in lines if line.delivery.status in next_steps.WAITING],
        stays=[line for line in lines if line.delivery.status in ("published", "attention")],
        in_flight=[line for line in lines if line.delivery.status in IN_FLIGHT],
    )  # fmt: skip


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
