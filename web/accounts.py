"""The accounts page: connect, look, disconnect."""

from collections.abc import Callable, Mapping

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask_login import current_user, login_required
from werkzeug.wrappers import Response

from postflow import db, errors
from postflow.accounts import accounts, servers
from postflow.connections import connecting, disconnecting
from postflow.http import clients
from postflow.models import Account
from postflow.notifications import posts_at_risk
from postflow.notifications.posts_at_risk import Risk
from web.middleware import database, security_headers

bp = Blueprint("accounts", __name__, url_prefix="/accounts")
Page = str | Response | tuple[str, int]


@bp.app_context_processor
def _posts_at_risk() -> dict[str, Callable[[], list[Risk]]]:
    """For `accounts/_at_risk.html`, wherever it is included; asked only there."""

    def asked() -> list[Risk]:
        with database.connection() as conn:
            return posts_at_risk.of_user(conn, current_user.id, db.now(conn))

    return {"posts_at_risk": asked}


@bp.get("")
@login_required
def index() -> Page:
    """`again`: the account that is to be connected once more by the form it came with."""
    again = request.args.get("again", type=int)
    if again is None:
        return _page()
    with database.connection() as conn:
        by_form = connecting.form_of(conn, current_user.id, again)
    if by_form is None:
        return _page()
    form = f"{by_form.way.platform.name}.{by_form.way.option.key}"
    return _page(form=form, filled=by_form.filled, again=by_form.account, typed=by_form.filled["instance"])


@bp.post("/connect")
@login_required
async def connect() -> Page:
    """To the consent page of the instance whose address was typed."""
    settings, typed = database.settings(), request.form.get("instance", "")
    try:
        async with clients.client(settings) as http:
            url = await connecting.begin_at(database.pool(), settings, http, current_user.id, typed)
    except errors.Invalid as wrong:
        return _page(wrong.fields, typed), 422
    except errors.ConnectError as wrong:
        return _page({"instance": [str(wrong)]}, typed), 422
    return redirect(url)


@bp.post("/connect/<platform>/<option>")
@login_required
async def connect_with(platform: str, option: str) -> Page:
    """To the consent page of a network that is one place."""
    settings = database.settings()
    try:
        async with clients.client(settings) as http:
            url = await connecting.begin_with(database.pool(), settings, http, current_user.id, platform, option)
    except errors.ConnectError as wrong:
        return _page({option: [str(wrong)]}), 422
    return redirect(url)


@bp.post("/<int:account_id>/reconnect")
@login_required
async def reconnect(account_id: int) -> Page:
    """To the consent page again, for an account that is here already."""
    settings = database.settings()
    try:
        async with clients.client(settings) as http:
            url = await connecting.begin_again(database.pool(), settings, http, current_user.id, account_id)
    except connecting.ByForm:
        return redirect(url_for("accounts.index", again=account_id, _anchor="by-form"))
    except errors.ConnectError as wrong:
        return _page({"": [str(wrong)]}), 422
    return redirect(url)


@bp.post("/sign-in/<platform>/<option>")
@login_required
async def sign_in(platform: str, option: str) -> Page:
    """With what was typed into the form of an option. Secrets never go back into the page."""
    settings, form = database.settings(), f"{platform}.{option}"
    meant = _meant()
    typed = {
        name.removeprefix(f"{form}."): value for name, value in request.form.items() if name.startswith(f"{form}.")
    }
    try:
        async with clients.client(settings) as http:
            done = await connecting.sign_in(
                database.pool(), settings, http, current_user.id, platform, option, typed,
                account_id=meant.id if meant else None,
            )  # fmt: skip
    except errors.Invalid as wrong:
        said = {f"{form}.{name}": sentences for name, sentences in wrong.fields.items()}
        return _page(said, form=form, filled=typed, again=meant), 422
    except errors.ConnectError as wrong:
        return _page({form: [str(wrong)]}, form=form, filled=typed, again=meant), 422
    return _connected(done)


def _meant() -> Account | None:
    """The account that a form was opened for with “Connect again”. Raises NotFound."""
    again = request.form.get("again", type=int)
    if again is None:
        return None
    with database.connection() as conn:
        return accounts.get(conn, current_user.id, again)


@bp.get("/callback")
@bp.get("/callback/<server>")
@login_required
async def callback(server: str = "") -> Page:
    """Back from the consent page of `server`, which is a `connecting.server_key`."""
    settings = database.settings()
    try:
        async with clients.client(settings) as http:
            done = await connecting.finish(database.pool(), settings, http, current_user.id, request.args, server)
    except errors.ConnectError as wrong:
        flash(str(wrong), "bad")
        return redirect(url_for("accounts.index"))
    if done.away:
        return redirect(done.away)
    return _connected(done)


def _connected(done: connecting.Finished) -> Response:
    flash(f"{_listed(done.accounts)} connected.", "good")
    for note in done.notes:
        flash(note, "warn")
    return redirect(url_for("accounts.index"))


@bp.get("/<int:account_id>/disconnect")
@login_required
def confirm_disconnect(account_id: int) -> Page:
    with database.connection() as conn:
        account = accounts.get(conn, current_user.id, account_id)
        waiting = accounts.waiting(conn, current_user.id, account_id)
    return render_template("accounts/disconnect.html", account=account, waiting=waiting)


@bp.post("/<int:account_id>/disconnect")
@login_required
async def disconnect(account_id: int) -> Page:
    settings = database.settings()
    async with clients.client(settings) as http:
        done = await disconnecting.disconnect(database.pool(), settings, http, current_user.id, account_id)
    said = f"{done.account.handle} is disconnected."
    if done.cancelled:
        said += f" Cancelled there: {done.cancelled} {'post' if done.cancelled == 1 else 'posts'}."
    if not done.revoked:
        said += " The network could not be told; remove PostFlow from the allowed apps in your settings there."
    flash(said, "good")
    return redirect(url_for("accounts.index"))


def _page(
    wrong: Mapping[str, list[str]] | None = None,
    typed: str = "",
    *,
    form: str = "",
    filled: Mapping[str, str] | None = None,
    again: Account | None = None,
) -> str:
    """`form`: the one that came back, with what was `filled` in, or that an account is connected `again` with."""
    security_headers.form_leaves()
    with database.connection() as conn:
        mine = accounts.of_user(conn, current_user.id)
    ways = connecting.ways()
    return render_template(
        "accounts/index.html",
        accounts=mine,
        typed=typed,
        errors=wrong or {},
        by_address=[way.platform.label for way in ways if way.option.asks_for == "instance"],
        by_fields=[way for way in ways if way.option.asks_for == "fields"],
        form=form,
        filled=filled or {},
        again=again,
        by_button=[way for way in ways if way.option.asks_for == "nothing"],
        warnings=_warnings(ways),
    )


def _warnings(ways: list[connecting.Way]) -> dict[str, str]:
    """What would keep a network that fetches from us from doing so: by the settings, or when that was last tried."""
    found = {way.option.key: way.option.warning for way in ways if way.option.warning}
    with database.connection() as conn:
        for way in (one for one in ways if one.platform.fetches_media):
            server = servers.get(conn, way.platform.name, "")
            if server is not None and server.capabilities.fetch_fault:
                found.setdefault(way.option.key, server.capabilities.fetch_fault)
    return found


def _listed(stored: list) -> str:
    handles = [account.handle for account in stored]
    if len(handles) == 1:
        return f"{handles[0]} is"
    return f"{', '.join(handles[:-1])} and {handles[-1]} are"
