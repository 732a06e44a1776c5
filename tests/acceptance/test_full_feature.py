"""Each network's fullest post, typed into the real pages, sent by a real worker, and compared with what the network got.

The web app answers on a real port, since Instagram fetches its pictures from there.
"""

import hashlib
import io
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from PIL import Image
from werkzeug.datastructures import MultiDict
from werkzeug.serving import make_server

from postflow import config, platforms, users
from postflow.platforms.instagram import Instagram
from sandbox import Sandbox
from tests.acceptance.test_workers import Start, start_worker, until
from tests.engine.conftest import settings
from tests.web.conftest import PASSWORD, Browser
from tests.web.test_accounts import connect
from web import app as web_app
from web.middleware import database

__all__ = ["settings", "start_worker"]

Fields = list[tuple[str, Any]]
NETWORKS = ("mastodon", "pixelfed", "instagram")


@pytest.fixture
def ada(
    settings: config.Settings, sandbox: Sandbox, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Browser]:
    """Signed in, with an account on each network connected through its consent page."""
    with make_server("127.0.0.1", 0, lambda environ, start: app(environ, start), threaded=True) as server:
        monkeypatch.setenv("POSTFLOW_INSTAGRAM_APP_ID", "990000000000001")
        monkeypatch.setenv("POSTFLOW_INSTAGRAM_APP_SECRET", "sandbox-instagram-secret")
        monkeypatch.setenv("POSTFLOW_PUBLIC_URL", f"http://127.0.0.1:{server.port}")
        chosen = config.load()
        monkeypatch.setitem(platforms.REGISTRY, "instagram", Instagram(chosen))
        app = web_app.create_app(chosen)
        app.test_client_class = Browser
        threading.Thread(target=server.serve_forever, daemon=True).start()
        users.create_owner(db, "ada@example.org", PASSWORD, display_name="Ada")
        browser: Any = app.test_client()
        browser.send("/sign-in", email="ada@example.org", password=PASSWORD)
        for network in NETWORKS:
            connect(browser, sandbox, network, "ada")
        yield browser
        server.shutdown()
        database.close(app)


def account(db: psycopg.Connection, network: str) -> int:
    row = db.execute("SELECT id FROM accounts WHERE platform = %s", [network]).fetchone()
    assert row, f"no account on {network}"
    return row[0]


def a_picture(colour: str, width: int = 900, height: int = 600) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(out, "JPEG")
    return out.getvalue()


def upload(browser: Browser, data: bytes, name: str = "picture.jpg") -> int:
    browser.get("/posts/new")
    answer = browser.post("/media", data={"file": (io.BytesIO(data), name)}, content_type="multipart/form-data")
    answer.request.input_stream.close()  # the test client keeps a large body in a file
    assert answer.status_code == 201, answer.text
    return answer.json["id"]


def publish(browser: Browser, fields: Fields) -> None:
    answer = sent(browser, fields, "now")
    assert answer.status_code == 302, answer.text


def checked(browser: Browser, fields: Fields) -> str:
    return sent(browser, [("date", "2030-05-06"), ("time", "09:30"), *fields], "check").text


def sent(browser: Browser, fields: Fields, action: str) -> Any:
    """The composer's form as a browser sends it: several fields may share a name."""
    browser.get("/posts/new")
    usual = {"visibility": "public", "zone": "Europe/Berlin", "action": action, "csrf_token": browser.csrf}
    given = {name for name, _ in fields}
    unsaid = [(name, value) for name, value in usual.items() if name not in given]
    return browser.post("/posts", data=MultiDict([*fields, *unsaid]), content_type="multipart/form-data")


def described(pictures: list[int], words: str) -> Fields:
    """Pictures in their order, each with a description of its own."""
    return [("media_id", one) for one in pictures] + [
        (f"alt.{one}", f"{words} {number}") for number, one in enumerate(pictures, 1)
    ]


def the_status(sandbox: Sandbox, instance: str, text: str) -> Any:
    """What went out with these words, which must be once."""
    [status] = sandbox.ledger.statuses(instance=instance, text=text, published=True)
    return status


# -- what was typed ------------------------------------------------------------------------------------------------


def a_full_toot(account_id: int, pictures: list[int]) -> Fields:
    first, second, *_ = pictures
    return [
        ("account", account_id), ("text", "Four views of the sea. #sea"), *described(pictures, "view"),
        (f"focus_left.{first}", "25"), (f"focus_top.{first}", "90"), (f"focus_left.{second}", "100"),
        ("spoiler_text", "water"), ("sensitive", "on"), ("visibility", "unlisted"), ("language", "de"),
    ]  # fmt: skip


def a_poll(account_id: int) -> Fields:
    return [
        ("account", account_id), ("text", "Which sea?"), ("poll_options", "North\r\nBaltic\r\n"),
        ("poll_expires", "21600"), ("poll_multiple", "on"), ("poll_hide_totals", "on"), ("visibility", "private"),
    ]  # fmt: skip


def a_thread(account_id: int, pictures: list[int]) -> Fields:
    one, two, three = pictures
    return [
        ("account", account_id), ("text", "A walk, part one."), ("media_id", one), (f"alt.{one}", "the gate"),
        ("part", "9"), ("text.9", "A walk, part two."), ("media_id.9", two), ("media_id.9", three),
        (f"alt.{two}", "the path"), (f"alt.{three}", "the wood"), (f"focus_top.{three}", "0"),
        ("part", "4"), ("text.4", "A walk, part three."), ("spoiler_text", "mud"), ("language", "en"),
    ]  # fmt: skip


def a_carousel(account_id: int, pictures: list[int]) -> Fields:
    return [
        ("account", account_id), ("text", "Three colours, one caption. #colours"), *described(pictures, "colour"),
        ("instagram.kind", "feed"), ("instagram.fit", "pad"), ("instagram.collaborators", "@robin\r\nwren"),
        ("instagram.location_id", "4711"), ("instagram.user_tags", "1 @robin 0.25 0.75\r\n3 @wren 0.5 0.1"),
    ]  # fmt: skip


# -- what arrived --------------------------------------------------------------------------------------------------


def test_everything_typed_into_the_pages_arrives_on_each_network(
    ada: Browser, db: psycopg.Connection, sandbox: Sandbox, start_worker: Start
) -> None:
    colours = ("navy", "teal", "orange", "purple")
    pictures = [upload(ada, a_picture(colour, 900, 500 + 50 * place)) for place, colour in enumerate(colours)]
    mastodon = account(db, "mastodon")
    publish(ada, a_full_toot(mastodon, pictures))
    publish(ada, a_poll(mastodon))
    publish(ada, a_thread(mastodon, pictures[:3]))
    album: Fields = [("text", "An album of four."), ("spoiler_text", "bright"), ("sensitive", "on")]
    publish(
        ada, [*album, *described(pictures, "leaf"), ("account", account(db, "pixelfed")), ("visibility", "unlisted")]
    )
    publish(ada, a_carousel(account(db, "instagram"), pictures[:3]))
    start_worker()
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 7)
    compare_toot(the_status(sandbox, "mastodon", "Four views of the sea."))
    compare_poll(the_status(sandbox, "mastodon", "Which sea?"))
    compare_thread([the_status(sandbox, "mastodon", f"A walk, part {part}.") for part in ("one", "two", "three")])
    compare_album(the_status(sandbox, "pixelfed", "An album of four."))
    compare_carousel(the_status(sandbox, "instagram", "Three colours"))
    assert db.execute("SELECT count(*) FROM deliveries WHERE notes <> '{}'").fetchone() == (0,)


def compare_toot(status: Any) -> None:
    assert (status.text, status.spoiler_text) == ("Four views of the sea. #sea", "water")
    assert (status.sensitive, status.visibility, status.language) == (True, "unlisted", "de")
    assert [media.alt_text for media in status.media] == ["view 1", "view 2", "view 3", "view 4"]
    assert [media.focus for media in status.media[:2]] == [(-0.5, -0.8), (1.0, 0.0)]
    assert [media.focus or (0.0, 0.0) for media in status.media[2:]] == [(0.0, 0.0), (0.0, 0.0)]
    assert [(media.width, media.height) for media in status.media] == [(900, 500), (900, 550), (900, 600), (900, 650)]


def compare_poll(status: Any) -> None:
    assert (status.text, status.visibility, status.media) == ("Which sea?", "private", [])
    assert status.poll["options"] == ["North", "Baltic"]
    assert (status.poll["expires_in"], status.poll["multiple"], status.poll["hide_totals"]) == (21600, True, True)


def compare_thread(parts: list[Any]) -> None:
    one, two, three = parts
    assert [part.in_reply_to_id for part in parts] == [None, one.id, two.id]
    assert [[media.alt_text for media in part.media] for part in parts] == [["the gate"], ["the path", "the wood"], []]
    assert two.media[1].focus == (0.0, 1.0)
    assert {(part.spoiler_text, part.language, part.visibility) for part in parts} == {("mud", "en", "public")}
    assert one.committed_ns < two.committed_ns < three.committed_ns


def compare_album(status: Any) -> None:
    assert (status.text, status.spoiler_text, status.sensitive) == ("An album of four.", "bright", True)
    assert status.visibility == "unlisted"
    assert [media.alt_text for media in status.media] == ["leaf 1", "leaf 2", "leaf 3", "leaf 4"]
    assert [media.height for media in status.media] == [500, 550, 600, 650]


def compare_carousel(status: Any) -> None:
    assert status.text == "Three colours, one caption. #colours"
    assert status.details["media_type"] == "CAROUSEL_ALBUM"
    assert [media.alt_text for media in status.media] == ["colour 1", "colour 2", "colour 3"]
    tags = [[(tag["username"], tag["x"], tag["y"]) for tag in media.user_tags] for media in status.media]
    assert tags == [[("robin", 0.25, 0.75)], [], [("wren", 0.5, 0.1)]]
    assert status.details["collaborators"] == ["robin", "wren"] and status.details["location_id"] == "4711"
    assert {media.mime for media in status.media} == {"image/jpeg"}
    assert {round(media.width / media.height, 2) for media in status.media} == {1.8}  # of the first: nothing is cut


# -- a photo as phones take it -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def phone_photo() -> bytes:
    """24 megapixels, stored lying on its side: its left third is red, which is on top when it is held upright."""
    image = Image.effect_noise((600, 400), 60).convert("RGB").resize((6000, 4000))
    image.paste("red", (0, 0, 2000, 4000))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Somephone"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0)})
    out = io.BytesIO()
    image.save(out, "JPEG", exif=exif, comment=b"at home", quality=90)
    return out.getvalue()


def a_moving_picture() -> bytes:
    out = io.BytesIO()
    frames = [Image.new("RGB", (80, 60), colour) for colour in ("navy", "teal")]
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    return out.getvalue()


def test_a_phone_s_photo_arrives_upright_within_limits_and_without_its_place_on_all_three(
    ada: Browser, db: psycopg.Connection, sandbox: Sandbox, start_worker: Start, phone_photo: bytes
) -> None:
    picture = upload(ada, phone_photo, "IMG_0001.JPG")
    chosen: Fields = [("account", account(db, network)) for network in NETWORKS]
    publish(ada, [*chosen, ("text", "from the phone"), ("media_id", picture), (f"alt.{picture}", "red above")])
    moving = a_moving_picture()
    gif: Fields = [("media_id", upload(ada, moving, "wave.gif")), ("text", "it waves")]
    publish(ada, [*gif, ("account", account(db, "mastodon"))])
    assert "is not taken there" in checked(ada, [*gif, ("account", account(db, "instagram"))])
    start_worker()
    until(db, "SELECT count(*) FROM deliveries WHERE status = 'published'", 4)
    [wave] = the_status(sandbox, "mastodon", "it waves").media
    assert wave.sha256 == hashlib.sha256(moving).hexdigest()  # passed on as it is, or it would stand still
    for network in NETWORKS:
        [media] = the_status(sandbox, network, "from the phone").media
        arrived = sandbox.ledger.picture(media.sha256)
        assert arrived, network
        limits = db.execute("SELECT limits FROM servers WHERE platform = %s", [network]).fetchone()
        assert limits and media.width * media.height <= limits[0]["max_image_pixels"], network
        assert media.size_bytes <= limits[0]["max_image_bytes"], network
        assert network != "instagram" or media.width <= 1440
        assert media.height > media.width and is_red_on_top(arrived), network
        assert not (media.has_exif or media.has_gps), network
        assert not any(trace in arrived for trace in (b"Exif", b"Somephone", b"at home")), network


def is_red_on_top(data: bytes) -> bool:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    top, bottom = (image.getpixel((image.width // 2, round(image.height * part))) for part in (0.05, 0.95))
    assert isinstance(top, tuple) and isinstance(bottom, tuple)
    return top[0] > 200 and max(top[1:]) < 60 and min(bottom[1:]) > 60
