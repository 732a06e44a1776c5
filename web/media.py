"""Pictures: thumbnails for their owner, uploads from the composer, signed links for networks that fetch."""

from flask import Blueprint, Response, jsonify, request, url_for
from flask_login import current_user, login_required
from pydantic import ValidationError

from postflow import errors, platforms
from postflow.accounts import accounts, servers
from postflow.media import media, signed_links
from postflow.models import Content
from web import composer
from web.middleware import database

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
            stored = media.store(conn, current_user.id, given.filename or "picture", composer.read(given))
    except errors.Invalid as wrong:
        return jsonify(error=str(wrong)), 422
    return jsonify(
        id=stored.id,
        filename=stored.filename,
        kind=stored.kind,
        thumbnail=url_for("media.thumbnail", media_id=stored.id),
        line=composer.line(stored, request.form.get("part", "")),
    ), 201


@bp.get("/media/<int:media_id>/thumbnail")
@login_required
def thumbnail(media_id: int) -> Response:
    with database.connection() as conn:
        file = media.thumbnail(conn, current_user.id, media_id)
    return Response(file.data, mimetype=file.mime, headers={"Cache-Control": "private, max-age=86400"})


@bp.get("/media/<int:media_id>/preview/<int:account_id>")
@login_required
def preview(media_id: int, account_id: int) -> Response:
    """The picture as that account's network will get it; `content` says beside what and with which options."""
    try:
        content = Content.model_validate_json(request.args.get("content", "{}"))
    except ValidationError:
        raise errors.NotFound("There is nothing at this address.") from None
    with database.connection() as conn:
        account = accounts.get(conn, current_user.id, account_id)
        server = servers.get(conn, account.platform, account.base_url)
        first = [one.media_id for one in content.attachments][:1]
        found = media.get_many(conn, current_user.id, [*first, media_id])
        if server is None or not found or found[-1].id != media_id:
            raise errors.NotFound("There is no such picture.")
        recipe = platforms.get(account.platform).recipe(content, found[-1], server, found[0])
        if recipe is None:
            raise errors.NotFound("This is passed on as it is.")
        file = media.rendition(conn, current_user.id, media_id, recipe)
    return Response(file.data, mimetype=file.mime, headers={"Cache-Control": "private, max-age=86400"})


@bp.get("/m/<token>")
def public(token: str) -> Response:
    """No sign-in: whoever holds the link may fetch this one file until it expires."""
    media_id, recipe = signed_links.verify(database.settings(), token)
    if media_id == signed_links.PROBE_ID:
        return Response(signed_links.PROBE, mimetype="image/jpeg")
    with database.connection() as conn:
        file = media.public_file(conn, media_id, recipe)
    return Response(file.data, mimetype=file.mime, headers={"X-Robots-Tag": "noindex"})
