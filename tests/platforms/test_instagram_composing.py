"""What is said before scheduling on Instagram: options as typed, what they become, pictures made to fit, the address."""

import io
from typing import Any

import httpx
import pytest
from PIL import Image
from pydantic import SecretStr

from postflow.errors import Invalid
from postflow.media import renditions, signed_links
from postflow.models import Attachment, Content, Focus, Media, MediaKind, Problem, utc_now
from postflow.platforms.instagram import Instagram, composing, reachable
from tests.platforms.conftest import settings

INSTAGRAM = Instagram(settings(public_url="https://postflow.example"))


# -- options --------------------------------------------------------------------------------------------------------


def test_what_is_typed_becomes_canonical() -> None:
    typed = {
        "kind": "post",
        "fit": "",
        "collaborators": " @Ada \n\nbob.b\n@ada",
        "location_id": " 4711 ",
        "user_tags": "1 @ada .5 0.333\n2 Bob\n 10  @c_d.e 1 0 ",
    }
    assert INSTAGRAM.parse_options(typed) == {
        "kind": "feed",
        "fit": "crop",
        "collaborators": ["ada", "bob.b"],
        "location_id": "4711",
        "user_tags": ["1 @ada 0.50 0.33", "2 @bob 0.50 0.50", "10 @c_d.e 1.00 0.00"],
    }


def test_what_is_stored_parses_to_itself() -> None:
    stored = INSTAGRAM.parse_options(
        {"user_tags": "3 @ada 0.1 0.9", "collaborators": "bob", "kind": "reel", "fit": "pad"}
    )
    assert INSTAGRAM.parse_options(stored) == stored


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        ("kind", "poem"),
        ("fit", "stretch"),
        ("collaborators", "a\nb\nc\nd"),
        ("collaborators", "no spaces allowed"),
        ("collaborators", "häns"),
        ("collaborators", "x" * 31),
        ("location_id", "Berlin"),
        ("location_id", "٣"),
        ("location_id", "1" * 21),
        ("user_tags", "@ada 0.5 0.5"),
        ("user_tags", "0 @ada 0.5 0.5"),
        ("user_tags", "11 @ada 0.5 0.5"),
        ("user_tags", "1 @ada 0.5"),
        ("user_tags", "1 @ada 1.01 0.5"),
        ("user_tags", "1 @ada -0.1 0.5"),
        ("user_tags", "1 @ada nan inf"),
        ("user_tags", "1 @ada 0,5 0,5"),
        ("user_tags", "1 @a'b 0.5 0.5"),
        ("user_tags", "1 @ada 0.5 0.5\n1 @Ada 0.1 0.1"),
        ("user_tags", "\n".join(f"1 @a{number}" for number in range(21))),
    ],
)
def test_what_instagram_would_not_take_is_said_at_its_field(field: str, typed: str) -> None:
    with pytest.raises(Invalid) as caught:
        INSTAGRAM.parse_options({field: typed})
    assert list(caught.value.fields) == [field]


def test_each_field_that_is_wrong_says_so() -> None:
    with pytest.raises(Invalid) as caught:
        INSTAGRAM.parse_options({"kind": "x", "location_id": "x", "user_tags": "x", "collaborators": "?"})
    assert set(caught.value.fields) == {"kind", "location_id", "user_tags", "collaborators"}


def test_every_field_that_is_offered_is_understood() -> None:
    offered = {one.name for one in INSTAGRAM.option_fields()}
    assert offered == {"kind", "fit", "user_tags", "collaborators", "location_id"}


# -- problems -------------------------------------------------------------------------------------------------------


def medium(number: int = 1, kind: MediaKind = MediaKind.image, **facts: Any) -> Media:
    usual = {"width": 1200, "height": 900, "size_bytes": 1000, "mime": "image/jpeg" if kind == "image" else "video/mp4"}
    return Media.model_validate(
        {"id": number, "user_id": 1, "filename": f"{number}.jpg", "kind": kind, "sha256": "x", "created_at": utc_now()}
        | usual
        | facts
    )


async def said(
    text: str,
    *media: Media,
    at: Instagram = INSTAGRAM,
    is_reply: bool = False,
    alt_text: str | None = None,
    **chosen: Any,
) -> list[Problem]:
    """`alt_text` None: a description wherever Instagram keeps one."""
    content = Content(
        text=text,
        attachments=tuple(Attachment(media_id=one.id, alt_text=_alt(one, alt_text, chosen)) for one in media),
        options={"instagram": at.parse_options(chosen)},
    )
    async with httpx.AsyncClient(transport=httpx.MockTransport(probe)) as http:
        server = await at.server(http, "")
    return list(at.check(content, media, server, None, is_reply=is_reply))  # type: ignore[arg-type]  asks no account


def photo(size: tuple[int, int]) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (90, 120, 200)).save(out, "JPEG")
    return out.getvalue()


def probe(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=signed_links.PROBE)


def _alt(one: Media, given: str | None, chosen: dict[str, Any]) -> str:
    kept = one.kind is not MediaKind.video and chosen.get("kind") != "story"
    return ("a view" if kept else "") if given is None else given


async def blocking(text: str, *media: Media, **chosen: Any) -> list[str]:
    return [one.sentence for one in await said(text, *media, **chosen) if one.blocking]


async def test_a_post_with_all_of_it_is_taken() -> None:
    media = [medium(number) for number in range(1, 11)]
    tags = "\n".join(f"{number} @ada" for number in range(1, 11))
    text = "x" * 1900 + " #a" * 30 + " @b" * 20
    assert await said(text, *media, user_tags=tags, collaborators="a\nb\nc", location_id="1") == []


VIDEO = MediaKind.video


@pytest.mark.parametrize(
    ("words", "text", "media", "chosen"),
    [
        ("needs a picture", "hello", [], {}),
        ("1 character too long", "x" * 2201, [medium()], {}),
        ("30 hashtags at most", "#a " * 31, [medium()], {}),
        ("20 mentions at most", "@a " * 21, [medium()], {}),
        ("10 pictures fit at most", "", [medium(number) for number in range(1, 12)], {}),
        ("A reel is one video", "", [medium()], {"kind": "reel"}),
        ("A reel is one video", "", [medium(1, VIDEO), medium(2, VIDEO)], {"kind": "reel"}),
        ("shows one picture", "", [medium(1), medium(2)], {"kind": "story"}),
        ("must last 3 to 900 seconds", "", [medium(1, VIDEO, duration_s=2.0)], {}),
        ("must last 3 to 900 seconds", "", [medium(1, VIDEO, duration_s=901.0)], {"kind": "reel"}),
        ("must last 3 to 60 seconds", "", [medium(1, VIDEO, duration_s=61.0)], {"kind": "story"}),
        ("300 MB fit", "", [medium(1, VIDEO, size_bytes=300_000_001)], {}),
        ("100 MB fit", "", [medium(1, VIDEO, size_bytes=100_000_001)], {"kind": "story"}),
        ("is not taken there", "", [medium(1, MediaKind.gif, mime="image/gif")], {}),
        ("is not taken there", "", [medium(1, VIDEO, mime="video/webm")], {}),
        ("@ada is tagged in picture 2", "", [medium()], {"user_tags": "2 @ada"}),
        ("only pictures can carry tags", "", [medium(1), medium(2, VIDEO)], {"user_tags": "2 @ada"}),
    ],
)
async def test_what_would_be_refused_stops_the_post(
    words: str, text: str, media: list[Media], chosen: dict[str, Any]
) -> None:
    sentences = await blocking(text, *media, **chosen)
    assert len(sentences) == 1
    assert words in sentences[0]


@pytest.mark.parametrize(
    ("text", "media", "chosen"),
    [
        ("", [medium()], {"kind": "story", "user_tags": "1 @ada"}),
        ("", [medium(1, VIDEO, duration_s=60.0, size_bytes=100_000_000)], {"kind": "story"}),
        ("", [medium(1, VIDEO, duration_s=900.0)], {"kind": "reel", "user_tags": "1 @ada"}),
        ("", [medium(1, VIDEO)], {}),
        ("", [medium(1), medium(2, VIDEO)], {"user_tags": "1 @ada"}),
    ],
)
async def test_what_would_be_taken_is_not_stopped(text: str, media: list[Media], chosen: dict[str, Any]) -> None:
    assert await said(text, *media, **chosen) == []


async def test_what_a_story_leaves_out_is_said_and_does_not_stop_it() -> None:
    found = await said("x" * 3000, medium(), kind="story", collaborators="ada", location_id="1")
    assert len(found) == 3
    assert not any(one.blocking for one in found)


@pytest.mark.parametrize(
    ("media", "kind"), [(medium(1, VIDEO), "feed"), (medium(1, VIDEO), "story"), (medium(), "story")]
)
async def test_a_description_that_is_not_kept_is_said_and_none_is_asked_for(media: Media, kind: str) -> None:
    (problem,) = await said("", media, alt_text="a view", kind=kind)
    assert "keeps no description" in problem.sentence
    assert not problem.blocking
    assert await said("", media, alt_text="", kind=kind) == []


async def test_a_missing_description_of_a_picture_is_asked_for() -> None:
    (problem,) = await said("", medium(), alt_text="  ")
    assert "no description yet" in problem.sentence
    assert not problem.blocking


async def test_a_thread_is_not_offered() -> None:
    found = await said("part two", medium(), is_reply=True)
    assert [one.sentence for one in found if one.blocking] == ["Instagram has no threads. Take this account off."]


# -- pictures -------------------------------------------------------------------------------------------------------


async def recipe(*media: Media, of: int = 0, focus: Focus | None = None, **chosen: Any) -> renditions.Recipe:
    content = Content(
        attachments=tuple(Attachment(media_id=one.id, focus=focus) for one in media),
        options={"instagram": INSTAGRAM.parse_options(chosen)},
    )
    async with httpx.AsyncClient(transport=httpx.MockTransport(probe)) as http:
        server = await INSTAGRAM.server(http, "")
    made = INSTAGRAM.recipe(content, media[of], server, media[0])
    assert made
    return made


@pytest.mark.parametrize("fit", ["crop", "pad"])
@pytest.mark.parametrize("first", [(1200, 900), (900, 1200), (700, 1200), (3000, 1000), (1000, 1000), (1441, 757)])
async def test_a_carousel_takes_the_shape_of_its_first_picture(first: tuple[int, int], fit: str) -> None:
    media = [
        medium(1, width=first[0], height=first[1]),
        medium(2, width=1600, height=900),
        medium(3, width=500, height=800),
    ]
    ratios = []
    for place, one in enumerate(media):
        made = renditions.render(photo((one.width, one.height)), await recipe(*media, of=place, fit=fit))
        assert made.mime == "image/jpeg"
        assert made.width <= 1440
        ratios.append(made.width / made.height)
    assert all(composing.NARROWEST <= ratio <= composing.WIDEST for ratio in ratios)
    assert max(ratios) - min(ratios) < 0.01


async def test_a_carousel_that_begins_with_a_video_of_unknown_size_is_square() -> None:
    made = await recipe(medium(1, VIDEO, width=0, height=0), medium(2), of=1)
    assert (made.min_ratio, made.max_ratio) == (0.996, 1.004)


async def test_a_single_picture_keeps_its_shape_where_it_fits() -> None:
    made = await recipe(medium())
    assert (made.min_ratio, made.max_ratio) == (0.8, 1.91)


async def test_a_story_stands_upright_with_borders() -> None:
    made = await recipe(medium(), kind="story", fit="crop")
    assert (made.min_ratio, made.max_ratio, made.fit) == (9 / 16, 9 / 16, "pad")


async def test_cropping_keeps_the_focal_point() -> None:
    focus = Focus(x=0.5, y=-0.5)
    assert (await recipe(medium(), focus=focus)).focus == focus
    assert (await recipe(medium(), focus=focus, fit="pad")).focus is None


def test_a_video_goes_as_it_is() -> None:
    assert INSTAGRAM.recipe(Content(), medium(1, VIDEO), None) is None  # type: ignore[arg-type]  asks no server


# -- the public address ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://postflow.example",
        "http://localhost:8000",
        "https://localhost",
        "https://127.0.0.1",
        "https://2130706433",
        "https://0x7f.1",
        "https://192.168.0.10:8443",
        "https://10.0.0.1",
        "https://169.254.169.254",
        "https://[::1]",
        "https://[fd00::1]",
        "https://[::ffff:10.0.0.1]",
        "https://postflow",
        "https://postflow.local",
        "https://postflow.lan.",
        "https://nas.home.arpa",
        "https://pöst.example",
        "https://two words.example",
    ],
)
async def test_an_address_meta_can_certainly_not_reach_stops_the_post_without_asking_anybody(url: str) -> None:
    def never(request: httpx.Request) -> httpx.Response:
        raise AssertionError("somebody was asked")

    at = settings(public_url=url)
    async with httpx.AsyncClient(transport=httpx.MockTransport(never)) as http:
        fault = await reachable.probe(http, at)
    assert fault
    assert "POSTFLOW_PUBLIC_URL" in fault
    found = await said("hello", medium(), at=Instagram(at))
    assert [(one.field, one.blocking) for one in found] == [("accounts", True)]
    assert Instagram(at).connect_options()[0].warning == fault


@pytest.mark.parametrize("url", ["https://postflow.example", "https://xn--pst-sna.example", "https://8.8.8.8:8443"])
def test_an_address_meta_might_reach_is_not_refused(url: str) -> None:
    assert reachable.refusal(settings(public_url=url)) is None


def test_the_sandbox_fetches_from_anywhere() -> None:
    assert (
        reachable.refusal(settings(public_url="http://localhost:8000", instagram_url="http://127.0.0.1:8903")) is None
    )


async def found_by(answer: httpx.Response | Exception) -> tuple[str | None, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        return await reachable.probe(http, settings(public_url="https://postflow.example")), asked


async def test_the_probe_comes_as_metas_fetcher_for_a_signed_link() -> None:
    fault, (asked,) = await found_by(httpx.Response(200, content=signed_links.PROBE))
    assert fault is None
    assert asked.url.host == "postflow.example"
    assert asked.url.path.startswith("/m/")
    assert asked.headers["user-agent"] == "facebookexternalhit/1.1"
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(302, headers={"location": "https://elsewhere.example"}), "sends visitors to another address"),
        (httpx.Response(403), "HTTP 403"),
        (httpx.Response(200, text="<html>Parked</html>"), "something else than PostFlow"),
        (httpx.ConnectError("no route"), "could not be reached"),
        (httpx.ConnectError("x leads to a private address"), "private address"),
        (httpx.ReadTimeout("slow"), "ReadTimeout"),
    ],
)
async def test_what_the_probe_found_is_said_and_does_not_stop_a_post(
    answer: httpx.Response | Exception, words: str
) -> None:
    fault, _ = await found_by(answer)
    assert fault
    assert words in fault
    server = await with_fault(fault)
    (problem,) = INSTAGRAM.check(
        Content(attachments=(Attachment(media_id=1, alt_text="a view"),)), [medium()], server, None, is_reply=False
    )  # type: ignore[arg-type]
    assert (problem.sentence, problem.blocking) == (fault, False)


async def with_fault(fault: str) -> Any:
    async with httpx.AsyncClient(transport=httpx.MockTransport(probe)) as http:
        server = await INSTAGRAM.server(http, "")
    assert server.capabilities.fetch_fault == ""
    return server.model_copy(update={"capabilities": server.capabilities.model_copy(update={"fetch_fault": fault})})


def test_a_way_is_open_when_its_own_settings_are_there() -> None:
    facebook = settings(facebook_app_id="1", facebook_app_secret=SecretStr("s"))
    ways = {one.key: one for one in Instagram(facebook).connect_options()}
    assert ways["facebook-login"].available
    assert "POSTFLOW_INSTAGRAM_APP_ID" in ways["instagram-login"].unavailable_because
