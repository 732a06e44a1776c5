"""Pictures: thumbnails for their owner, uploads from the composer, signed links for networks that fetch."""

from flask import Blueprint, Response, jsonify, request, url_for
from flask_login import current_user, login_required

from postflow import errors, links, media
from web import database

bp = Blueprint("media", __name__)


@bp.post("/media")
@login_required
def upload() -> tuple[Response, int]:
    """One file, dropped onto the composer."""
    given = request.files.get("file")
    if given is None:
        return jsonify(error="Choose a file."), 422
    try:
        with database.transaction() as conn:
            stored = media.store(conn, current_user.id, given.filename or "picture", given.read())
    except errors.Invalid as wrong:
        return jsonify(error=str(wrong)), 422
    return jsonify(
        id=stored.id,
        filename=stored.filename,
        kind=stored.kind,
        thumbnail=url_for("media.thumbnail", media_id=stored.id),
    ), 201


@bp.get("/media/<int:media_id>/thumbnail")
@login_required
def thumbnail(media_id: int) -> Response:
    with database.connection() as conn:
        file = media.thumbnail(conn, current_user.id, media_id)
    return Response(file.data, mimetype=file.mime, headers={"Cache-Control": "private, max-age=86400"})


@bp.get("/m/<token>")
def public(token: str) -> Response:
    """No sign-in: whoever holds the link may fetch this one file until it expires."""
    media_id, recipe = links.verify(database.settings(), token)
    with database.connection() as conn:
        file = media.public_file(conn, media_id, recipe)
    return Response(file.data, mimetype=file.mime, headers={"X-Robots-Tag": "noindex"})
