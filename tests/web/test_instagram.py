"""Connecting Instagram through both logins, what Meta's callbacks do, and whether Meta could fetch from here."""

import io
import json
import re
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

import httpx
import psycopg
import pytest
from flask import Flask
from PIL import Image
from werkzeug.test import TestResponse

from postflow.media import signed_links
from postflow.models import Server, utc_now
from postflow.platforms.instagram import composing
from sandbox import Credentials, Sandbox
from tests.web.conftest import Browser, an_account
from tests.web.test_compose import uploaded, written

SignedIn = Callable[[Flask, str], Browser]
SETTINGS = {
    "allowed_private": "127.0.0.1",
    "instagram_app_id": "990000000000001",
    "instagram_app_secret": "sandbox-instagram-secret",
    "facebook_app_id": "880000000000001",
    "facebook_app_secret": "sandbox-facebook-secret",
}
LOGINS = ("instagram-login", "facebook-login")
REFUSED = (
    ("user_tags", "1 @ada 7 7", "Distances go from 0 to 1"),
    ("user_tags", "2 @ada 0.5 0.5", "which is not there"),
    ("collaborators", "a\nb\nc\nd", "Three collaborators at most"),
    ("location_id", "Berlin", "given by its number"),
    ("kind", "reel", "A reel is one video"),
)


@pytest.fixture
def app(start, sandbox: Sandbox) -> Flask:
    return start(instagram_url=sandbox.url("instagram"), **SETTINGS)


def consent(away: TestResponse, handle: str = "wren", **fields: str) -> str:
    """Says yes on the network's page; returns our callback's path and query. `scope` unticks permissions."""
    assert away.status_code == 302, away.text
    parts = urlsplit(away.headers["Location"])
    asked = dict(httpx.QueryParams(parts.query)) | {name: fields.pop(name) for name in ("scope",) if name in fields}
    url = f"{parts.scheme}://{parts.netloc}{parts.path}?{urlencode(asked)}"
    with httpx.Client(trust_env=False) as network:
        back = network.post(url, data={"new_account": handle, "decision": "allow", **fields})
    there = urlsplit(back.headers["Location"])
    return f"{there.path}?{there.query}"


def connect(browser: Browser, login: str, handle: str = "wren", **fields: str) -> str:
    away = browser.send(f"/accounts/connect/instagram/{login}")
    return browser.get(consent(away, handle, **fields), follow_redirects=True).text


def rows(db: psycopg.Connection) -> list[tuple[str, str, str]]:
    return db.execute("SELECT handle, state, option FROM accounts ORDER BY handle").fetchall()


# -- connecting ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", LOGINS)
def test_an_account_is_connected_by_its_professional_id(
    ada: Browser, db: psycopg.Connection, sandbox: Sandbox, login: str
) -> None:
    assert "@wren is connected." in connect(ada, login)
    assert rows(db) == [("@wren", "active", login)]
    stored = db.execute("SELECT remote_id FROM accounts").fetchone()
    assert stored == (sandbox.add_account("instagram", "wren").account_id,)


def test_several_pages_open_several_accounts(ada: Browser, db: psycopg.Connection, sandbox: Sandbox) -> None:
    other = sandbox.add_account("instagram", "robin")
    page = connect(ada, "facebook-login", more=other.account_id)
    assert "@wren and @robin are connected." in page
    assert [row[0] for row in rows(db)] == ["@robin", "@wren"]


def test_the_other_login_takes_the_account_over_in_place(ada: Browser, db: psycopg.Connection) -> None:
    connect(ada, "instagram-login")
    connect(ada, "facebook-login")
    assert rows(db) == [("@wren", "active", "facebook-login")]


@pytest.mark.parametrize("login", LOGINS)
def test_a_personal_account_is_told_what_to_do(ada: Browser, db: psycopg.Connection, login: str) -> None:
    page = connect(ada, login, account_type="PERSONAL")
    assert re.search("Switch it in the Instagram app|Link the account to a Page", page)
    assert rows(db) == []


@pytest.mark.parametrize(
    ("login", "granted"),
    [
        ("instagram-login", "instagram_business_basic"),
        ("facebook-login", "instagram_basic,pages_show_list,pages_read_engagement"),
    ],
)
def test_a_permission_switched_off_is_noticed_at_once(
    ada: Browser, db: psycopg.Connection, login: str, granted: str
) -> None:
    page = connect(ada, login, scope=granted)
    assert re.search("You did not allow PostFlow to publish posts|missing: instagram_content_publish", page)
    assert "permissions switched on" in page
    assert rows(db) == []


@pytest.mark.parametrize("login", LOGINS)
def test_a_wrong_app_secret_is_the_operators_and_mended_by_the_setting_alone(
    start: Callable[..., Flask], signed_in: SignedIn, sandbox: Sandbox, db: psycopg.Connection, login: str
) -> None:
    wrong = {name: "guessed" if name.endswith("secret") else value for name, value in SETTINGS.items()}
    ada = signed_in(start(instagram_url=sandbox.url("instagram"), **wrong), "ada")
    page = connect(ada, login)
    name = "POSTFLOW_INSTAGRAM_APP_SECRET" if login == "instagram-login" else "POSTFLOW_FACEBOOK_APP_SECRET"
    assert "the operator checks" in page
    assert name in page
    assert "guessed" not in page
    mended = signed_in(start(instagram_url=sandbox.url("instagram"), **SETTINGS), "bob")
    assert "@wren is connected." in connect(mended, login)


def test_what_is_not_set_up_says_which_settings_are_missing(start: Callable[..., Flask], signed_in: SignedIn) -> None:
    page = signed_in(start(), "ada").get("/accounts").text
    assert "POSTFLOW_INSTAGRAM_APP_ID and POSTFLOW_INSTAGRAM_APP_SECRET" in page
    assert "POSTFLOW_FACEBOOK_APP_ID and POSTFLOW_FACEBOOK_APP_SECRET" in page


# -- Meta's callbacks -------------------------------------------------------------------------------------------


def tell(app: Flask, path: str, signed: str) -> TestResponse:
    return app.test_client().post(path, data={"signed_request": signed})


@pytest.mark.parametrize(("login", "flavour"), [("instagram-login", "instagram"), ("facebook-login", "facebook")])
def test_a_person_who_removes_postflow_has_to_connect_again(
    app: Flask, ada: Browser, db: psycopg.Connection, sandbox: Sandbox, login: str, flavour: str
) -> None:
    connect(ada, login)
    connect(ada, "instagram-login", "robin")
    wren = sandbox.add_account("instagram", "wren", flavour=flavour)
    assert tell(app, "/meta/deauthorize", sandbox.signed_request(wren)).status_code == 200
    assert rows(db) == [("@robin", "active", "instagram-login"), ("@wren", "needs_reconnect", login)]
    assert "removed from the apps" in ada.get("/accounts").text
    assert db.execute("SELECT count(*) FROM notices WHERE kind = 'access-ended'").fetchone() == (1,)
    connect(ada, login)
    assert rows(db)[1] == ("@wren", "active", login)


def test_the_id_that_is_valid_inside_the_app_only_is_known_too(
    app: Flask, ada: Browser, db: psycopg.Connection, sandbox: Sandbox
) -> None:
    connect(ada, "instagram-login")
    wren = sandbox.add_account("instagram", "wren")
    tell(app, "/meta/deauthorize", sandbox.signed_request(wren, user_id=f"26{wren.account_id}"))
    assert rows(db) == [("@wren", "needs_reconnect", "instagram-login")]


def test_a_callback_older_than_the_connection_does_nothing(
    app: Flask, ada: Browser, db: psycopg.Connection, sandbox: Sandbox
) -> None:
    """Meta repeats what it is not sure of; by then the person may have connected again."""
    wren = sandbox.add_account("instagram", "wren")
    sandbox.advance(-600)
    old = sandbox.signed_request(wren)
    sandbox.advance(600)
    connect(ada, "instagram-login")
    tell(app, "/meta/deauthorize", old)
    assert rows(db) == [("@wren", "active", "instagram-login")]


def forged(sandbox: Sandbox, wren: Credentials) -> list[str]:
    signature, _, payload = sandbox.signed_request(wren).partition(".")
    return [
        sandbox.signed_request(wren, secret="somebody else's"),
        f"{'A' * len(signature)}.{payload}",
        f"{signature}.{payload}x",
        f".{payload}",
        payload,
        "é.è",
        "",
    ]


def test_a_forged_callback_does_nothing(app: Flask, ada: Browser, db: psycopg.Connection, sandbox: Sandbox) -> None:
    connect(ada, "instagram-login")
    for path in ("/meta/deauthorize", "/meta/data-deletion"):
        for signed in forged(sandbox, sandbox.add_account("instagram", "wren")):
            answer = tell(app, path, signed)
            assert (answer.status_code, answer.is_json) == (400, True)
        assert app.test_client().post(path).status_code == 400
    assert rows(db) == [("@wren", "active", "instagram-login")]


def test_one_apps_signature_does_not_speak_for_the_other(
    app: Flask, ada: Browser, db: psycopg.Connection, sandbox: Sandbox
) -> None:
    connect(ada, "instagram-login")
    wren = sandbox.add_account("instagram", "wren")
    assert tell(app, "/meta/deauthorize", sandbox.signed_request(wren, "sandbox-facebook-secret")).status_code == 200
    assert rows(db) == [("@wren", "active", "instagram-login")]


def test_deleting_forgets_the_person_and_shows_it(
    app: Flask, ada: Browser, bob: Browser, db: psycopg.Connection, sandbox: Sandbox
) -> None:
    connect(ada, "instagram-login")
    connect(bob, "instagram-login")
    db.execute(
        "WITH made AS (INSERT INTO posts (user_id, content, post_date, time_zone)"
        " SELECT user_id, '{}', now(), 'UTC' FROM accounts ORDER BY id LIMIT 1 RETURNING id, user_id)"
        " INSERT INTO deliveries (post_id, account_id, status, revision, wake_at, published_at, remote_id, permalink)"
        " SELECT made.id, accounts.id, s.status, 1, s.wake_at, s.published_at, s.remote_id, s.remote_id"
        " FROM made JOIN accounts USING (user_id), (VALUES ('published', NULL::timestamptz, now(), '18077007700770077')) s"
        " (status, wake_at, published_at, remote_id)"
    )
    wren = sandbox.add_account("instagram", "wren")
    answer = tell(app, "/meta/data-deletion", sandbox.signed_request(wren))
    told = answer.get_json()
    assert set(told) == {"url", "confirmation_code"}
    assert told["confirmation_code"].isalnum()
    page = app.test_client().get(urlsplit(told["url"]).path)
    assert page.status_code == 200
    assert "its access to 2 Instagram accounts" in page.text
    assert rows(db) == [("(deleted)", "disconnected", "instagram-login")] * 2
    left = json.dumps(db.execute("SELECT row_to_json(accounts) FROM accounts").fetchall(), default=str)
    left += json.dumps(db.execute("SELECT row_to_json(deliveries) FROM deliveries").fetchall(), default=str)
    assert not re.search(f"wren|{wren.account_id}|Wren|18077007700770077", left)


def test_deleting_cancels_what_waits(app: Flask, ada: Browser, db: psycopg.Connection, sandbox: Sandbox) -> None:
    connect(ada, "instagram-login")
    db.execute(
        "WITH made AS (INSERT INTO posts (user_id, content, post_date, time_zone)"
        " SELECT user_id, '{}', now() + interval '1 day', 'UTC' FROM accounts RETURNING id, user_id)"
        " INSERT INTO deliveries (post_id, account_id, revision, wake_at)"
        " SELECT made.id, accounts.id, 1, now() + interval '1 day' FROM made JOIN accounts USING (user_id)"
    )
    tell(app, "/meta/data-deletion", sandbox.signed_request(sandbox.add_account("instagram", "wren")))
    assert db.execute("SELECT status FROM deliveries").fetchall() == [("cancelled",)]


def test_deleting_twice_and_deleting_nobody_are_answered(app: Flask, ada: Browser, sandbox: Sandbox) -> None:
    connect(ada, "instagram-login")
    wren = sandbox.add_account("instagram", "wren")
    for sentence in ("its access to 1 Instagram account,", "held no data"):
        told = tell(app, "/meta/data-deletion", sandbox.signed_request(wren)).get_json()
        assert sentence in app.test_client().get(urlsplit(told["url"]).path).text


def test_an_invented_confirmation_code_is_not_confirmed(app: Flask) -> None:
    for code in ("a", "a" * 34, "%00", "é", "1" * 500):
        assert app.test_client().get(f"/meta/data-deletion/{code}").status_code == 404


# -- can Meta fetch from here ------------------------------------------------------------------------------------


def test_the_probe_is_served_and_is_what_we_look_for(app: Flask) -> None:
    url = signed_links.sign(app.extensions["settings"], signed_links.PROBE_ID, "", life_s=60)
    answer = app.test_client().get(urlsplit(url).path)
    assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/jpeg", signed_links.PROBE)


def test_an_address_meta_cannot_reach_is_said_where_one_connects(
    start: Callable[..., Flask], signed_in: SignedIn
) -> None:
    page = signed_in(start(public_url="http://localhost", **SETTINGS), "ada").get("/accounts").text
    assert "http://localhost is not https" in page


def test_what_the_last_probe_found_is_said_where_one_connects(
    start: Callable[..., Flask], signed_in: SignedIn, db: psycopg.Connection
) -> None:
    from postflow.accounts import servers
    from postflow.models import Capabilities

    ada = signed_in(start(public_url="https://postflow.example", proxies=1, **SETTINGS), "ada")
    server = Server(
        platform="instagram",
        base_url="",
        software="instagram",
        version="v25.0",
        limits=composing.LIMITS,
        capabilities=Capabilities(fetch_fault="When PostFlow tried that itself, it answered with HTTP 502."),
        fetched_at=utc_now(),
    )
    servers.save(db, server)
    ada.environ_base["wsgi.url_scheme"] = "https"
    assert "it answered with HTTP 502" in ada.get("/accounts").text


def test_no_token_is_on_a_page_or_in_a_log(
    ada: Browser, db: psycopg.Connection, sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capfd
) -> None:
    for login in LOGINS:
        page = connect(ada, login) + ada.get("/accounts").text
        written = page + caplog.text + "".join(capfd.readouterr())
        for token in sandbox.network.store.tokens.values():
            assert token.id not in written
    stored = db.execute("SELECT row_to_json(accounts)::text FROM accounts").fetchone()
    assert stored
    assert "EAA" not in stored[0]


# -- the composer --------------------------------------------------------------------------------------------------


def test_a_carousel_is_previewed_in_the_shape_of_its_first_picture(ada: Browser, db: psycopg.Connection) -> None:
    account = an_account(db, "ada@example.org", "instagram", composing.LIMITS)
    first, second = uploaded(ada, width=400, height=300), uploaded(ada, width=400, height=1200)
    pictures = [("media_id", first), ("media_id", second), ("account", account), ("action", "check")]
    page = written(ada, [("text", "two"), *pictures]).text
    addresses = [found.replace("&amp;", "&") for found in re.findall(r'src="(/media/\d+/preview/[^"]+)"', page)]
    sizes = [Image.open(io.BytesIO(ada.get(address).data)).size for address in addresses]
    assert sizes[0] == (400, 300)
    assert abs(sizes[1][0] / sizes[1][1] - 4 / 3) < 0.01


def test_what_instagram_would_refuse_is_said_in_the_composer_and_what_was_typed_is_kept(
    ada: Browser, db: psycopg.Connection
) -> None:
    account, picture = an_account(db, "ada@example.org", "instagram", composing.LIMITS), uploaded(ada)
    for field, typed, words in REFUSED:
        fields = [("text", "x"), ("media_id", picture), ("account", account), (f"instagram.{field}", typed)]
        answer = written(ada, fields)
        assert answer.status_code == 422
        assert words in answer.text
        assert typed.splitlines()[0] in answer.text
