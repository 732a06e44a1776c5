"""The profile: a person's name, time zone, password, and where else they are signed in."""

from collections.abc import Mapping

from flask import Blueprint, current_app, flash, redirect, render_template, request, url_for
from flask_login import current_user, login_required
from werkzeug.wrappers import Response

from postflow import errors, users
from web import walltime
from web.middleware import database, rate_limits
from web.middleware.rate_limits import limiter

bp = Blueprint("profile", __name__, url_prefix="/profile")
Page = str | Response | tuple[str, int]


@bp.get("")
@login_required
def show() -> Page:
    return _page({})


@bp.post("")
@login_required
def update() -> Page:
    form = request.form
    try:
        walltime.check_zone(form.get("time_zone", ""))
    except errors.Invalid as wrong:
        return _page(wrong.fields), 422
    with database.connection() as conn:
        users.update_profile(
            conn, current_user.id, display_name=form.get("display_name", ""), time_zone=form["time_zone"]
        )
    flash("Your profile is saved.", "good")
    return redirect(url_for("profile.show"))


@bp.post("/password")
@login_required
@limiter.limit(lambda: current_app.extensions["sign_in_attempts"])
def change_password() -> Page:
    form = request.form
    rate_limits.count_against(users.normal_email(current_user.email))
    try:
        with database.transaction() as conn:
            users.change_password(conn, current_user.id, form.get("old_password", ""), form.get("new_password", ""))
            users.close_other_sessions(conn, current_user.id, current_user.get_id())
    except errors.Invalid as wrong:
        if "old_password" not in wrong.fields:
            rate_limits.uncount()
        return _page(wrong.fields), 422
    rate_limits.uncount()
    flash("Your password is changed, and you are signed out everywhere else.", "good")
    return redirect(url_for("profile.show"))


@bp.post("/sign-out-elsewhere")
@login_required
def sign_out_elsewhere() -> Page:
    with database.connection() as conn:
        users.close_other_sessions(conn, current_user.id, current_user.get_id())
    flash("You are signed out everywhere else.", "good")
    return redirect(url_for("profile.show"))


def _page(wrong: Mapping[str, list[str]]) -> str:
    with database.connection() as conn:
        elsewhere = users.other_sessions(conn, current_user.id, current_user.get_id())
    return render_template(
        "profile/show.html", form=request.form, errors=wrong, zones=walltime.zones(), elsewhere=elsewhere
    )
