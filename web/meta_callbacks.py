"""What Meta calls: somebody removed PostFlow from their apps, or asks for their data to be deleted.

No sign-in and no CSRF token: the signature over the request is the proof. docs/instagram.md has the addresses.
"""

from flask import Blueprint, Response, jsonify, render_template, request, url_for

from postflow import errors
from postflow.connections import meta_callbacks
from postflow.platforms.instagram import signed_request
from web.middleware import database

bp = Blueprint("meta", __name__, url_prefix="/meta")


@bp.post("/deauthorize")
async def deauthorize() -> tuple[Response, int]:
    if (signed := _signed()) is None:
        return _not_meta()
    await meta_callbacks.deauthorise(database.pool(), database.settings(), signed)
    return jsonify(success=True), 200


@bp.post("/data-deletion")
def delete() -> tuple[Response, int]:
    """Done when it answers; `url` shows what became of it."""
    if (signed := _signed()) is None:
        return _not_meta()
    settings = database.settings()
    with database.transaction() as conn:
        code = meta_callbacks.delete(conn, settings, signed)
    url = settings.public_url + url_for("meta.deleted", code=code)
    return jsonify(url=url, confirmation_code=code), 200


@bp.get("/data-deletion/<code>")
def deleted(code: str) -> str:
    found = meta_callbacks.confirmed(database.settings(), code)
    if found is None:
        raise errors.NotFound("There is no such code.")
    return render_template("meta/deleted.html", code=code, found=found)


def _signed() -> signed_request.Signed | None:
    return signed_request.opened(database.settings(), request.form.get("signed_request", ""))


def _not_meta() -> tuple[Response, int]:
    return jsonify(error="The signature is not Meta's for one of this PostFlow's apps."), 400
