"""What a person does with one delivery of a post: try again, note as seen, say whether it is on the network."""

from flask import Blueprint, flash, make_response, redirect, request, url_for
from flask_login import current_user, login_required
from psycopg import Connection
from werkzeug.wrappers import Response

from postflow import db
from postflow.errors import Conflict, Invalid, NotFound
from postflow.http import clients
from postflow.models import Delivery, Receipt
from postflow.posts import deliveries, posts, scheduling
from postflow.publishing import verify_link
from web import post_page
from web.middleware import database, template_filters

bp = Blueprint("deliveries", __name__, url_prefix="/deliveries")
Page = str | Response | tuple[str, int]


@bp.post("/<int:delivery_id>/retry")
@login_required
def retry(delivery_id: int) -> Page:
    post_id = _post_of(delivery_id)
    with database.connection() as conn:
        post, now = posts.get(conn, current_user.id, post_id), db.now(conn)

    def again(conn: Connection) -> list[Delivery]:
        return scheduling.retry(conn, current_user.id, delivery_id, now=db.now(conn))

    if post.post_date is None or post.post_date <= now:
        return post_page.done(post_id, again, "On its way again.")
    at = template_filters.in_zone(post.post_date, post.time_zone)
    return post_page.done(post_id, again, f"Scheduled again: it goes out {at} ({post.time_zone}).")


@bp.post("/<int:delivery_id>/seen")
@login_required
def acknowledge(delivery_id: int) -> Page:
    """What went out incomplete, or twice, and has been looked at."""
    return post_page.done(
        _post_of(delivery_id), lambda conn: scheduling.acknowledge(conn, current_user.id, delivery_id), "Noted as seen."
    )


@bp.post("/<int:delivery_id>/settle")
@login_required
async def settle(delivery_id: int) -> Page:
    """The network is asked about the address first, before any transaction."""
    there, link = request.form.get("published") == "yes", request.form.get("link", "").strip()
    post_id = _post_of(delivery_id)
    try:
        seen = await _seen_at(delivery_id, link) if there and link else None
    except Invalid as wrong:
        return make_response(post_page.page(post_id, settling={delivery_id: link}, wrong=wrong.fields), 422)
    except Conflict as wrong:
        flash(str(wrong), "bad")
        return redirect(url_for("posts.show", post_id=post_id))

    def settled(conn: Connection) -> list[Delivery]:
        return scheduling.settle(conn, current_user.id, delivery_id, published=there, now=db.now(conn), seen=seen)

    return post_page.done(post_id, settled, "Noted as published." if there else "Sending it again.")


async def _seen_at(delivery_id: int, link: str) -> Receipt:
    settings = database.settings()
    async with clients.client(settings) as http:
        return await verify_link.seen_at(database.pool(), settings, http, current_user.id, delivery_id, link)


def _post_of(delivery_id: int) -> int:
    with database.connection() as conn:
        found = deliveries.get(conn, current_user.id, delivery_id)
    if found is None:
        raise NotFound("There is no such delivery.")
    return found.post_id
