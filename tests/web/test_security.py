"""Every route, walked: by a second person, by nobody, without a form's token; and what every answer must carry.

A new route is walked without being named here. One that takes a new kind of id, or that is meant for everybody, has to be.
"""

import json
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import time_machine
from flask import Flask
from werkzeug.routing import Rule

from postflow import errors
from postflow.media import signed_links
from postflow.models import Limits
from tests.web.conftest import PASSWORD, Browser, an_account
from tests.web.test_compose import uploaded, written
from web.middleware import database

#: Reached without a session, each for a reason.
FOR_EVERYBODY = {
    "auth.first_run", "auth.create_owner",  # nobody exists yet; closed afterwards
    "auth.sign_in", "auth.enter",
    "health.healthz", "health.readyz", "health.metrics",  # metrics: by its own token
    "media.public",  # by the signature in the link
    "meta.deauthorize", "meta.delete", "meta.deleted",  # by Meta's signature
}  # fmt: skip
#: Nothing of one person's is named by these.
NO_ONES = {"token": "forged", "code": "forged", "platform": "mastodon", "option": "oauth", "server": "forged"}
IDS = {"post_id", "delivery_id", "media_id", "account_id"}
TABLES = ("users", "accounts", "posts", "post_media", "deliveries", "delivery_events", "media", "procrastinate_jobs")


@pytest.fixture
def hers(ada: Browser, db: psycopg.Connection) -> dict[str, int]:
    """One of everything, Ada's."""
    account_id = an_account(db, "ada@example.org", "mastodon", Limits(max_image_pixels=10_000))
    media_id = uploaded(ada)
    sent = written(ada, [("text", "Ada's own words"), ("account", str(account_id)), ("media_id", str(media_id))])
    assert sent.status_code == 302
    row = db.execute("SELECT id, post_id FROM deliveries").fetchone()
    assert row
    return {"account_id": account_id, "media_id": media_id, "delivery_id": row[0], "post_id": row[1]}


def rules(app: Flask) -> Iterator[tuple[Rule, str]]:
    """Each rule with each of its methods."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) & {"GET", "POST"}):
            if rule.endpoint != "static":
                yield rule, method


def address(app: Flask, rule: Rule, values: dict[str, Any]) -> str:
    with app.test_request_context():
        return app.url_for(rule.endpoint, **{name: values[name] for name in rule.arguments})


def everything(db: psycopg.Connection) -> dict[str, list[Any]]:
    """All rows, to see whether anything has changed."""
    return {table: db.execute(f"SELECT to_jsonb(t) FROM {table} t ORDER BY 1".encode()).fetchall() for table in TABLES}


# -- whose is it -------------------------------------------------------------------------------------------


def test_every_route_that_names_something_of_adas_is_not_there_for_bob(
    app: Flask, ada: Browser, bob: Browser, hers: dict[str, int], db: psycopg.Connection
):
    before, walked = everything(db), []
    valid = [("text", "Bob's words"), ("account", str(hers["account_id"])), ("published", "yes")]
    for rule, method in rules(app):
        assert set(rule.arguments) <= IDS | set(NO_ONES) | {"filename"}, f"{rule}: name its id in this test"
        if not set(rule.arguments) & IDS:
            continue
        url = address(app, rule, {**NO_ONES, **hers})
        answer = bob.get(url) if method == "GET" else written(bob, valid, url)
        assert answer.status_code in ({404} if rule.endpoint != "posts.update" else {404, 422}), f"{method} {rule}"
        assert "Ada's own words" not in answer.text
        if method == "GET":
            assert ada.get(url).status_code == 200, f"{rule} is there for Ada"
        walked.append(rule.endpoint)
    assert len(walked) >= 12
    after = everything(db)
    assert after == {**before, "media": after["media"]}
    assert len(after["media"]) == len(before["media"])


@pytest.mark.parametrize("action", ["schedule", "draft", "now", "check"])
def test_a_form_of_bobs_cannot_use_adas_account_or_picture(
    ada: Browser, bob: Browser, hers: dict[str, int], action: str, db: psycopg.Connection
):
    own = an_account(db, "bob@example.org", "mastodon", Limits())
    db.execute("UPDATE accounts SET handle = '@hidden@mastodon.example' WHERE id = %s", [hers["account_id"]])
    for account, media in ((hers["account_id"], None), (own, hers["media_id"])):
        fields = [("text", "borrowed"), ("account", str(account)), ("action", action)]
        answer = written(bob, [*fields, ("media_id", str(media))] if media else fields)
        assert "Ada's own words" not in answer.text
        assert f"/media/{hers['media_id']}/" not in answer.text
        assert "@hidden@mastodon.example" not in answer.text
    used = db.execute(
        "SELECT count(*) FROM posts JOIN users ON users.id = posts.user_id LEFT JOIN post_media m ON m.post_id = posts.id"
        " WHERE users.email = 'bob@example.org' AND (m.media_id IS NOT NULL OR draft_account_ids @> ARRAY[%s::bigint])",
        [hers["account_id"]],
    ).fetchone()
    assert used == (0,)
    strangers = db.execute(
        "SELECT count(*) FROM deliveries d JOIN posts p ON p.id = d.post_id JOIN accounts a ON a.id = d.account_id"
        " WHERE a.user_id <> p.user_id"
    ).fetchone()
    assert strangers == (0,)


def test_a_preview_of_bobs_does_not_look_at_adas_picture(
    ada: Browser, bob: Browser, hers: dict[str, int], db: psycopg.Connection
):
    account, own = an_account(db, "bob@example.org", "mastodon", Limits(max_image_pixels=10_000)), uploaded(bob)
    content = json.dumps({"attachments": [{"media_id": hers["media_id"]}, {"media_id": own}]})
    assert bob.get(f"/media/{own}/preview/{account}", query_string={"content": content}).status_code == 200
    assert bob.get(f"/media/{hers['media_id']}/preview/{account}").status_code == 404


def test_an_id_larger_than_any_is_not_there(ada: Browser, app: Flask):
    for rule, method in rules(app):
        if method == "GET" and set(rule.arguments) & IDS:
            url = address(app, rule, dict.fromkeys(IDS, 10**30))
            assert ada.get(url).status_code == 404, rule


# -- who is it ---------------------------------------------------------------------------------------------


def test_whoever_is_not_signed_in_is_sent_to_do_so_wherever_they_go(
    app: Flask, ada: Browser, hers: dict[str, int], db: psycopg.Connection
):
    stranger: Any = app.test_client()
    stranger.get("/sign-in")
    before = everything(db)
    for rule, method in rules(app):
        if rule.endpoint in FOR_EVERYBODY:
            continue
        url = address(app, rule, {**NO_ONES, **hers})
        answer = stranger.get(url) if method == "GET" else written(stranger, [("text", "a stranger's")], url)
        assert answer.status_code == 302, f"{method} {rule}"
        assert answer.headers["Location"].startswith("/sign-in"), f"{method} {rule}"
    assert everything(db) == before


def test_no_form_is_taken_without_its_token(app: Flask, ada: Browser, hers: dict[str, int], db: psycopg.Connection):
    before, walked = everything(db), 0
    for rule, method in rules(app):
        if method == "POST" and not rule.endpoint.startswith("meta."):
            url = address(app, rule, {**NO_ONES, **hers})
            answer = ada.post(url, data=b"text=forged", content_type="application/x-www-form-urlencoded")
            assert answer.status_code == 400, f"{rule}"
            walked += 1
    assert walked >= 15
    assert everything(db) == before


def test_signing_in_begins_a_new_session_and_the_one_before_is_worth_nothing(app: Flask, ada: Browser):
    fixed: Any = app.test_client()
    fixed.get("/sign-in")
    prepared = fixed.get_cookie("postflow").value
    fixed.send("/sign-in", email="ada@example.org", password=PASSWORD)
    assert fixed.get_cookie("postflow").value != prepared
    attacker: Any = app.test_client()
    attacker.set_cookie("postflow", prepared)
    assert attacker.get("/profile").status_code == 302


def test_a_cookie_signed_by_somebody_else_signs_nobody_in(app: Flask, ada: Browser):
    value = ada.get_cookie("postflow").value  # type: ignore[union-attr]
    forger: Any = app.test_client()
    forger.set_cookie("postflow", value[:-4] + ("AAAA" if value[-4:] != "AAAA" else "BBBB"))
    assert forger.get("/profile").status_code == 302


# -- what every answer carries -----------------------------------------------------------------------------


def test_every_answer_forbids_inline_scripts_framing_and_guessing_types(
    app: Flask, ada: Browser, hers: dict[str, int], db: psycopg.Connection
):
    urls = [address(app, rule, {**NO_ONES, **hers}) for rule, method in rules(app) if method == "GET"]
    for url in [*urls, "/nowhere", "/static/app.css", "/static/icon.svg", "/static/nowhere.css"]:
        with ada.get(url) as answer:
            policy = answer.headers.get("Content-Security-Policy", "")
            assert "default-src 'none'" in policy and "unsafe" not in policy, url
            assert "frame-ancestors 'none'" in policy, url
            assert answer.headers["X-Content-Type-Options"] == "nosniff", url
            assert answer.headers["Referrer-Policy"] == "same-origin", url
            assert answer.headers["X-Frame-Options"].upper() == "DENY", url


def test_the_session_s_cookie_is_for_this_site_only_and_not_for_scripts(app: Flask, ada: Browser):
    answer = app.test_client().get("/sign-in")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Domain" not in cookie


# -- too much, too late, too odd ---------------------------------------------------------------------------


def test_an_upload_over_the_limit_is_refused_with_a_sentence(start, signed_in):
    small = start(max_upload_mb=1)
    browser = signed_in(small, "cecil")
    browser.get("/posts/new")
    answer = browser.post(
        "/media", data=b"x" * (3 * 1024 * 1024), headers={"X-CSRFToken": browser.csrf},
        content_type="multipart/form-data; boundary=x",
    )  # fmt: skip
    assert answer.status_code == 413
    assert "larger than PostFlow takes" in answer.text


def test_a_signed_link_ends_and_cannot_be_stretched(app: Flask, ada: Browser, hers: dict[str, int]):
    stranger = app.test_client()
    with app.app_context():
        link = signed_links.sign(database.settings(), hers["media_id"], "", life_s=60).removeprefix("http://localhost")
    assert stranger.get(link).status_code == 200
    assert stranger.get(link[:-2] + "xx").status_code == 404
    with time_machine.travel(time.time() + 120, tick=True):
        assert stranger.get(link).status_code == 404


def test_a_link_of_another_installation_opens_nothing(app: Flask, start, ada: Browser, hers: dict[str, int]):
    with app.app_context():
        settings = database.settings().model_copy(update={"secret_key": "z" * 40})
    foreign = start(secret_key="z" * 40).extensions["settings"]
    link = signed_links.sign(foreign, hers["media_id"], "", life_s=60).removeprefix("http://localhost")
    assert settings.secret_key != foreign.secret_key
    with app.app_context(), pytest.raises(errors.NotFound):
        signed_links.verify(database.settings(), link.removeprefix("/m/"))


FIELDS = """
    email password old_password new_password display_name time_zone text spoiler_text language visibility zone date time
    which form_key revision poll_options grace account media_id instance next code published action
"""
ODD = ["a\0b", "x" * 5000, "\ud800", "\u202e\u0007", "'; DROP TABLE users; --", "<script>alert(1)</script>"]


@pytest.mark.parametrize("odd", ODD, ids=ascii)
def test_odd_text_in_any_field_breaks_no_page(app: Flask, ada: Browser, hers: dict[str, int], odd: str):
    """Whatever the answer is, it is one in plain words."""
    names = FIELDS.split()
    for rule, method in rules(app):
        if method != "POST" or rule.endpoint in ("accounts.connect", "accounts.connect_with"):
            continue
        if rule.endpoint.startswith(("meta.", "auth.sign_out")) or rule.endpoint == "accounts.disconnect":
            continue
        url = address(app, rule, {**NO_ONES, **hers})
        data = {"csrf_token": ada.csrf, **{name: odd.encode("utf-8", "surrogatepass") for name in names}}
        answer = ada.post(url, data=data)
        assert answer.status_code < 500, rule
        assert "<script>alert(1)" not in answer.text
