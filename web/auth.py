"""Who is there: the first run, signing in and out.

The browser's cookie carries a session's token; the row behind it says whose it is and until when.
"""

import hmac
import secrets
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import urlsplit

import flask_login
import structlog
from flask import Blueprint, Flask, current_app, redirect, render_template, request, session, url_for
from flask_login import current_user, login_required
from werkzeug.wrappers import Response

from postflow import errors, users
from postflow.models import User
from web import walltime
from web.middleware import database, error_pages, host_names, rate_limits
from web.middleware.rate_limits import limiter

bp = Blueprint("auth", __name__)
log = structlog.stdlib.get_logger("web.auth")
Page = str | Response | tuple[str, int]

_TOKEN = "token"  # noqa: S105 the cookie's field


class Visitor(flask_login.UserMixin):
    """A signed-in person, for Flask-Login: the User's fields, found by the session's token."""

    def __init__(self, user: User, token: str) -> None:
        self.user = user
        self._token = token

    def get_id(self) -> str:
        return self._token

    @property
    def id(self) -> int:
        return self.user.id

    @property
    def email(self) -> str:
        return self.user.email

    @property
    def display_name(self) -> str:
        return self.user.display_name

    @property
    def time_zone(self) -> str:
        return self.user.time_zone

    @property
    def is_owner(self) -> bool:
        return self.user.is_owner


def register(app: Flask) -> None:
    manager = flask_login.LoginManager(app)
    # The session's row does that job; addresses and browsers change.
    manager.session_protection = None  # pyright: ignore[reportAttributeAccessIssue]
    manager.user_loader(_visitor)
    manager.unauthorized_handler(_to_sign_in)


def _visitor(token: str) -> Visitor | None:
    with database.connection() as conn:
        user = users.by_session(conn, token)
    return Visitor(user, token) if user else None


def _to_sign_in() -> Response | tuple[str, int]:
    if request.headers.get("HX-Request"):
        return error_pages.page(403, "You are signed out. Load the page again.")
    where = request.full_path.rstrip("?") if request.method == "GET" else "/"
    return redirect(url_for("auth.sign_in", next=where if where != "/" else None))


# -- first run -----------------------------------------------------------------------------------------------


@bp.get("/first-run")
def first_run() -> Page:
    if _people_exist():
        return redirect(url_for("auth.sign_in"))
    if not _is_on_this_machine():
        _announce_code()
    return _first_run_page({}, {})


@bp.post("/first-run")
@limiter.limit(lambda: current_app.extensions["sign_in_attempts"])
def create_owner() -> Page:
    """Not a second time, however many send it: the database allows one owner."""
    form = request.form
    try:
        _check_code(form.get("code", ""))
        walltime.check_zone(form.get("time_zone", ""))
        with database.transaction() as conn:
            if users.any_yet(conn):
                raise errors.Conflict("PostFlow has an owner already. Sign in instead.")
            user = users.create_owner(
                conn,
                form.get("email", ""),
                form.get("password", ""),
                display_name=form.get("display_name", ""),
                time_zone=form["time_zone"],
            )
    except errors.Invalid as wrong:
        if "code" not in wrong.fields:
            rate_limits.uncount()
        return _first_run_page(form, wrong.fields), 422
    rate_limits.uncount()
    _sign_in(user)
    return redirect("/")


def _first_run_page(form: Mapping[str, str], wrong: Mapping[str, list[str]]) -> str:
    return render_template(
        "auth/first_run.html",
        form=form,
        errors=wrong,
        zones=walltime.zones(),
        zone=form.get("time_zone") or database.settings().time_zone,
        asks_code=not _is_on_this_machine(),
    )


def _people_exist() -> bool:
    with database.connection() as conn:
        return users.any_yet(conn)


#: By these a proxy gives itself away: behind one on this machine everybody looks local.
_MARKS_OF_A_PROXY = (
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded", "X-Real-IP", "Via", "CF-Connecting-IP",
    "True-Client-IP", "X-Client-IP", "Fly-Client-IP",
)  # fmt: skip


def _is_on_this_machine() -> bool:
    """Our own address, the name asked for, the page that sends (browsers tell) and the peer: all of them loopback, and no
    proxy in between. One alone proves nothing, since a proxy has a local peer and anybody's name may lead here.
    """
    settings = database.settings()
    if settings.proxies or any(name in request.headers for name in _MARKS_OF_A_PROXY):
        return False
    named = [settings.public_url, f"//{request.host}", f"//{_bracketed(request.remote_addr or '')}"]
    if "Origin" in request.headers:
        named.append(request.headers["Origin"])
    return all(host_names.is_loopback(host_names.of(one)) for one in named)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _code() -> str:
    """The same in every process and after a restart: derived from the secret key, worth nothing once used."""
    key = database.settings().secret_key.get_secret_value().encode()
    return hmac.new(key, b"first run", "sha256").hexdigest()[:20]


def _announce_code() -> None:
    log.warning(f"Nobody has an account here yet. The code for the first-run page is: {_code()}")


def _check_code(typed: str) -> None:
    if not _is_on_this_machine() and not secrets.compare_digest(typed.strip().encode(), _code().encode()):
        raise errors.Invalid({"code": "This is not the code from PostFlow's log."})


# -- signing in and out ----------------------------------------------------------------------------------------


@bp.get("/sign-in")
def sign_in() -> Page:
    if current_user.is_authenticated:
        return redirect("/")
    if not _people_exist():
        return redirect(url_for("auth.first_run"))
    return _sign_in_page({}, {})


@bp.post("/sign-in")
@limiter.limit(lambda: current_app.extensions["sign_in_attempts"])
def enter() -> Page:
    form = request.form
    rate_limits.count_against(users.normal_email(form.get("email", "")))
    with database.connection() as conn:
        user = users.authenticate(conn, form.get("email", ""), form.get("password", ""))
    if user is None:
        log.warning("sign-in refused", address=request.remote_addr)
        return _sign_in_page(form, {"": ["The address or the password is wrong."]}), 422
    rate_limits.uncount()  # only guesses that were wrong are few
    _sign_in(user)
    return redirect(_inside(form.get("next", "")))


@bp.post("/sign-out")
@login_required
def sign_out() -> Page:
    with database.connection() as conn:
        users.close_session(conn, current_user.get_id())
    flask_login.logout_user()
    session.clear()
    return redirect(url_for("auth.sign_in"))


def _sign_in_page(form: Mapping[str, str], wrong: Mapping[str, list[str]]) -> str:
    where = form.get("next") or request.args.get("next", "")
    return render_template("auth/sign_in.html", form=form, errors=wrong, next=where)


def _sign_in(user: User) -> None:
    """A new session: nothing of the one before, so that nobody can have prepared it."""
    session.clear()
    life = timedelta(days=database.settings().session_days)
    with database.connection() as conn:
        token = users.open_session(conn, user.id, request.user_agent.string, life)
    session.permanent = True
    flask_login.login_user(Visitor(user, token))


def _inside(target: str) -> str:
    """Only a path of ours: a link to our sign-in page must not lead elsewhere afterwards."""
    try:
        parts = urlsplit(target)
    except ValueError:
        return "/"
    if parts.scheme or parts.netloc or not target.startswith("/") or target.startswith(("//", "/\\")):
        return "/"
    return target if target.isprintable() else "/"
