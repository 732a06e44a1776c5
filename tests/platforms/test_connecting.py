"""Which server it is, what it offers for logging in, and what a person left out of the permissions."""

from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from postflow import platforms
from postflow.connections import connecting
from postflow.errors import ConnectError, OutcomeUnknown, Refused, Unauthorized
from postflow.models import AppRegistration, Attachment, Content, Media, MediaKind, Server, utc_now
from postflow.platforms import composing
from postflow.platforms.base import Connected
from sandbox import Sandbox
from tests.platforms.conftest import Start, settings
from tests.platforms.conftest import login as login_of

MASTODON = platforms.get("mastodon")
BIRDS = "https://birds.example"


def answering(**pages: Any) -> httpx.AsyncClient:
    """A server of canned documents, keyed by the last word of the path; what is not there is 404 HTML."""

    def handle(request: httpx.Request) -> httpx.Response:
        name = "v2" if request.url.path == "/api/v2/instance" else request.url.path.rsplit("/", 1)[-1]
        found = pages.get(name.replace("-", "_").replace(".", "_"))
        if isinstance(found, httpx.Response):
            return found
        return httpx.Response(404, html="<h1>404</h1>") if found is None else httpx.Response(200, json=found)

    return httpx.AsyncClient(transport=httpx.MockTransport(handle))


def nodeinfo(name: str, version: str) -> dict[str, Any]:
    link = {"rel": "http://nodeinfo.diaspora.software/ns/schema/2.0", "href": f"{BIRDS}/nodeinfo/2.0"}
    return {"nodeinfo": {"links": [link]}, "2_0": {"software": {"name": name, "version": version}}}


async def seen(**pages: Any) -> Server:
    async with answering(**pages) as http:
        return await MASTODON.server(http, BIRDS)


async def test_what_version_2_leaves_out_is_taken_from_version_1() -> None:
    server = await seen(
        **nodeinfo("akkoma", "3.15.2"),
        v2={"title": "Birds", "configuration": {"accounts": {"max_featured_tags": 10}}},
        instance={
            "max_toot_chars": 7000, "upload_limit": 9_000_000, "description_limit": 4000, "max_media_attachments": 9,
            "poll_limits": {"max_options": 20, "max_option_chars": 200, "min_expiration": 0, "max_expiration": 31536000},
        },
    )  # fmt: skip
    limits = server.limits
    assert (server.title, limits.max_chars, limits.max_media) == ("Birds", 7000, 9)
    assert (limits.max_image_bytes, limits.max_video_bytes, limits.max_description_chars) == (
        9_000_000,
        9_000_000,
        4000,
    )
    assert limits.polls
    assert (limits.polls.max_options, limits.polls.max_option_chars) == (20, 200)
    assert (limits.polls.min_expiration_s, limits.polls.max_expiration_s) == (300, 31536000)


async def test_version_1_is_not_asked_where_version_2_says_it_all() -> None:
    server = await seen(
        **nodeinfo("mastodon", "4.4.0"),
        v2={"configuration": {"statuses": {"max_characters": 1000}}},
        instance={"max_toot_chars": 99},
    )
    assert server.limits.max_chars == 1000


@pytest.mark.parametrize(
    ("kind", "width", "fits"),
    [("gif", 1280, True), ("gif", 1281, False), ("video", 2000, True), ("video", 3000, False), ("image", 9000, True)],
)
async def test_an_animation_or_video_with_too_many_pixels_is_told_before(kind: str, width: int, fits: bool) -> None:
    server = await seen(
        **nodeinfo("mastodon", "4.7.4"),
        instance={"configuration": {"media_attachments": {"video_matrix_limit": 2000 * 720}}},
    )
    mime = {"gif": "image/gif", "video": "video/mp4", "image": "image/png"}[kind]
    media = Media(
        id=1, user_id=1, filename="wide", kind=MediaKind(kind), mime=mime, size_bytes=1000, width=width, height=720,
        sha256="", created_at=utc_now(),
    )  # fmt: skip
    content = Content(text="look", attachments=(Attachment(media_id=1, alt_text="wide"),))
    problems = composing.problems(content, [media], server.limits, 4)
    assert ["too many pixels" in one.sentence for one in problems] == ([] if fits else [True])


async def test_a_login_with_proof_is_used_where_it_is_offered_whatever_the_software() -> None:
    document = {
        "token_endpoint": f"{BIRDS}/oauth/token", "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["read", "write", "read:accounts"],
    }  # fmt: skip
    server = await seen(
        **nodeinfo("sharkey", "2025.1"), instance={"max_toot_chars": 3000}, oauth_authorization_server=document
    )
    assert (server.capabilities.pkce, server.capabilities.profile_scope) == (True, False)
    app = AppRegistration(client_id="1", client_secret=SecretStr("2"), redirect_uri="http://x/", scopes=("read",))
    away = await MASTODON.authorize(server, app, state="s", option="instance")
    assert "code_challenge=" in away.url
    assert away.memo["code_verifier"] not in away.url


async def test_the_host_s_name_says_nothing_about_its_software() -> None:
    async with answering(**nodeinfo("snac", "2.84"), instance={"max_toot_chars": 1}) as http:
        server = await MASTODON.server(http, BIRDS)
    assert server.software == "snac"
    async with answering(instance={"max_toot_chars": 500}) as http:
        server = await MASTODON.server(http, BIRDS)
    assert (server.software, server.capabilities.idempotency) == ("unknown", "none")


async def test_nodeinfo_on_another_host_is_not_believed() -> None:
    pages = nodeinfo("mastodon", "4.7.4")
    pages["nodeinfo"]["links"][0]["href"] = "https://birds.example.evil.example/nodeinfo/2.0"
    assert (await seen(**pages, instance={"max_toot_chars": 500})).software == "unknown"


async def test_an_address_that_points_elsewhere_names_the_right_one() -> None:
    away = httpx.Response(301, headers={"Location": "https://social.birds.example/api/v2/instance"})
    with pytest.raises(ConnectError, match=r"type social\.birds\.example instead"):
        await seen(v2=away)


@pytest.mark.parametrize("page", [httpx.Response(200, html="<h1>Hello</h1>"), httpx.Response(200, json=[]), None])
async def test_what_is_no_such_server_says_so(page: Any) -> None:
    with pytest.raises(ConnectError, match="does not speak Mastodon's API"):
        await seen(v2=page, instance=page)


# -- what was granted --------------------------------------------------------------------------------------


async def connected(sandbox: Sandbox, http: httpx.AsyncClient, network: str, scope: str) -> Connected:
    """A token endpoint that grants `scope`; everything else is the sandbox's."""
    known = sandbox.add_account(network, "granted")
    server = await MASTODON.server(http, known.url)
    app = login_of(MASTODON, known).app
    assert app

    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/oauth/token":
            return httpx.Response(200, json={"access_token": known.access_token, "scope": scope})
        answer = await http.request(request.method, request.url, headers=request.headers)
        return httpx.Response(answer.status_code, content=answer.content)

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as granting:
        (one,) = await MASTODON.exchange(granting, server, app, "code", {})
    return one


async def test_all_that_was_asked_for_needs_no_words(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    for scope in ("read write", "profile read:statuses write:media write:statuses"):
        assert (await connected(sandbox, http, "mastodon", scope)).notes == ()


async def test_access_that_may_not_read_is_warned_of_or_refused_where_looking_is_all_there_is(
    sandbox: Sandbox, http: httpx.AsyncClient
) -> None:
    scope = "profile write:media write:statuses"
    (note,) = (await connected(sandbox, http, "mastodon", scope)).notes
    assert "read:statuses" in note
    for network in ("gotosocial", "takahe", "snac", "unknown"):
        with pytest.raises(ConnectError, match="read:statuses"):
            await connected(sandbox, http, network, scope)


async def test_access_that_may_not_write_is_refused(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    with pytest.raises(ConnectError, match="write:media"):
        await connected(sandbox, http, "mastodon", "read write:statuses")


async def test_giving_access_back_that_the_server_does_not_take_is_told(start: Start) -> None:
    case = await start("mastodon", pictures=0)
    case.sandbox.faults.add("status", instance="mastodon", path="/oauth/revoke", status=503)
    with pytest.raises(Refused):
        await case.platform.revoke(case.http, case.outgoing.login)


async def test_an_account_switched_off_or_a_token_gone_is_noticed_by_the_daily_look(start: Start) -> None:
    for network in ("mastodon", "akkoma", "takahe", "snac", "unknown", "gotosocial", "pixelfed"):
        case = await start(network, pictures=0)
        case.sandbox.revoke_tokens(case.account)
        with pytest.raises(Unauthorized):
            await case.platform.verify(case.http, case.outgoing.login)


async def test_takahe_is_asked_for_the_whole_of_read_since_no_part_of_it_tells_whose_token_it_is(start: Start) -> None:
    case = await start("takahe", pictures=0)
    assert MASTODON.scopes(case.outgoing.server) == ("read", "write:media", "write:statuses")
    assert (await case.platform.verify(case.http, case.outgoing.login)).remote_id == case.account
    case = await start("takahe", pictures=0, scopes="read:accounts read:statuses write:media write:statuses")
    with pytest.raises(Unauthorized) as refused:
        await case.platform.verify(case.http, case.outgoing.login)
    assert refused.value.code == "scopes"


async def test_an_app_that_was_registered_for_less_than_is_asked_for_now_is_registered_anew(start: Start) -> None:
    wanted = {
        "takahe": "read write:media write:statuses",
        "mastodon": "profile read:statuses write:media write:statuses",
    }
    older = ("read:accounts", "read:statuses", "write:media", "write:statuses")
    for network, known in (("takahe", False), ("mastodon", True)):  # `profile` is part of what it had
        case = await start(network, pictures=0)
        app = case.outgoing.login.app
        assert app
        for scopes, expected in ((tuple(wanted[network].split()), True), (older, known)):
            anew = app.model_copy(update={"scopes": scopes})
            assert await case.platform.knows_app(case.http, case.outgoing.server, anew) is expected


@pytest.mark.parametrize(
    ("trait", "said"),
    [("pending", "have not approved"), ("unconfirmed", "not confirmed yet"), ("disabled", "switched")],
)
async def test_an_account_that_may_not_yet_or_no_longer_is_told_so_and_not_to_make_another_token(
    trait: str, said: str, start: Start
) -> None:
    case = await start("mastodon", pictures=0)
    case.sandbox.add_account("mastodon", case.outgoing.login.account.handle, **{trait: True})
    with pytest.raises(Unauthorized, match=said):
        await case.platform.verify(case.http, case.outgoing.login)
    token = case.outgoing.login.credentials.access_token.get_secret_value()
    with pytest.raises(ConnectError, match=said) as told:
        await case.platform.sign_in(case.http, case.outgoing.server, {"token": token})
    assert "scope" not in str(told.value)


async def test_words_nobody_knows_are_passed_on_and_scopes_are_found_out_in_any_language(start: Start) -> None:
    case = await start("mastodon", pictures=0, scopes="write:media write:statuses")
    case.sandbox.add_account("mastodon", case.outgoing.login.account.handle, locale="de")
    server, token = case.outgoing.server, case.outgoing.login.credentials.access_token.get_secret_value()
    with pytest.raises(ConnectError, match="does not let PostFlow see whose account it is"):
        await case.platform.sign_in(case.http, server, {"token": token})
    case.fault(
        "status", method="GET", path="verify_credentials", status=403, body="json", text="Zutritt verboten", times=2
    )
    with pytest.raises(ConnectError, match=r"says: “Zutritt verboten”\. Make one with these scopes"):
        await case.platform.sign_in(case.http, server, {"token": token})


async def test_a_token_that_belongs_to_no_person_opens_nothing_but_a_page_in_the_way_proves_nothing(
    start: Start,
) -> None:
    case = await start("mastodon", pictures=0)
    for body, error in (
        ({"json": {"error": "needs a user"}}, Unauthorized),
        ({}, Unauthorized),
        ({"html": "<p>"}, Refused),
    ):
        answer = httpx.Response(422, **body)
        async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _, said=answer: said)) as http:
            with pytest.raises(error):
                await case.platform.verify(http, case.outgoing.login)


@pytest.mark.parametrize("spoken", ["https", "http"])
async def test_a_name_of_the_house_without_a_scheme_is_asked_by_https_before_http(spoken: str) -> None:
    asked = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.scheme)
        if request.url.scheme != spoken:
            raise httpx.ConnectError("wrong version number", request=request)
        return httpx.Response(404)

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        home = await connecting._home(settings(allowed_private="localhost:8443"), http, "localhost:8443")  # pyright: ignore[reportPrivateUsage]
    assert (home, asked[0]) == (f"{spoken}://localhost:8443", "https")


async def test_a_token_whose_answer_was_lost_is_no_lost_post(start: Start) -> None:
    case = await start("pixelfed")
    case.sandbox.faults.add("cut_body", instance="pixelfed", path="/oauth/token")
    with pytest.raises(OutcomeUnknown, match="gave out access"):
        await case.platform.refresh(case.http, case.outgoing.login)
