"""Instagram beyond the suite of every network: containers, errors, budgets, and what is sent, compared with the ledger."""

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from postflow.errors import NotReady, OutcomeUnknown, PublishError, Refused, Retry, StageLost, Throttled, Unauthorized
from postflow.models import MediaKind, utc_now
from postflow.platforms.instagram import Instagram, containers, refusals, usage
from sandbox import Sandbox
from tests.platforms.conftest import Case, Start

VIDEO = b"\0\0\0\x18ftypmp42" + b"\0" * 40 + b"moov"
CHOSEN = {
    "kind": "feed",
    "fit": "crop",
    "collaborators": ["finch", "robin"],
    "location_id": "4711",
    "user_tags": ["1 @ada 0.50 0.30", "1 @bob 0.10 0.90", "3 @cyd 0.00 1.00"],
}
LOGINS = ("instagram-login", "facebook-login")


# -- what is sent --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", LOGINS)
async def test_a_carousel_carries_everything_it_was_given(start: Start, login: str) -> None:
    case = await start(login, pictures=3, options={"instagram": CHOSEN})
    receipt = await case.publish()
    (status,) = case.sandbox.ledger.statuses(account=case.account)
    assert status.id == receipt.remote_id
    assert status.text == case.outgoing.content.text
    assert [one.alt_text for one in status.media] == ["Picture 0", "Picture 1", "Picture 2"]
    assert [one.width for one in status.media] == [32, 33, 34]
    assert [one.user_tags for one in status.media] == [
        [{"username": "ada", "x": 0.5, "y": 0.3}, {"username": "bob", "x": 0.1, "y": 0.9}],
        [],
        [{"username": "cyd", "x": 0.0, "y": 1.0}],
    ]
    assert status.details["collaborators"] == ["finch", "robin"]
    assert status.details["location_id"] == "4711"
    assert status.details["media_type"] == "CAROUSEL_ALBUM"


async def test_children_carry_neither_text_nor_place(start: Start) -> None:
    case = await start("instagram-login", pictures=2, options={"instagram": CHOSEN | {"user_tags": []}})
    await case.prepare()
    made = [one for one in case.sandbox.network.store.containers.values() if one.account_id == case.account]
    children = [set(one.params) for one in made if one.is_child]
    assert children == [{"image_url", "is_carousel_item", "alt_text"}] * 2


async def test_a_single_picture_carries_its_tags(start: Start) -> None:
    case = await start("instagram-login", options={"instagram": CHOSEN | {"user_tags": ["1 @ada 0.50 0.30"]}})
    await case.publish()
    (status,) = case.sandbox.ledger.statuses(account=case.account)
    assert status.media[0].user_tags == [{"username": "ada", "x": 0.5, "y": 0.3}]


async def video(case: Case) -> None:
    """Its one picture becomes a video at an address of its own."""
    host = case.sandbox.add_account("mastodon", "host")
    headers = {"Authorization": f"Bearer {host.access_token}"}
    files = {"file": ("x.mp4", VIDEO, "video/mp4")}
    answer = await case.http.post(f"{host.url}/api/v1/media", headers=headers, files=files)
    url = answer.json().get("url") or answer.json()["preview_url"]
    (media,) = case.outgoing.media
    case.changed(media=(media.model_copy(update={"kind": MediaKind.video, "mime": "video/mp4", "public_url": url}),))


async def settled(case: Case) -> Any:
    """Asks as often as it is told to, moving the network's clock instead of waiting."""
    while True:
        try:
            return await case.prepare()
        except NotReady:
            case.sandbox.advance(1)
            case.staged = case.platform.staged_model.model_validate(case.checkpoints[-1])


@pytest.mark.parametrize(("kind", "product"), [("feed", "REELS"), ("reel", "REELS"), ("story", "STORY")])
async def test_a_video_becomes_a_reel_or_a_story(start: Start, kind: str, product: str) -> None:
    case = await start("instagram-login", options={"instagram": {"kind": kind, "user_tags": ["1 @ada 0.50 0.50"]}})
    await video(case)
    await settled(case)
    await case.commit()
    (status,) = case.sandbox.ledger.statuses(account=case.account)
    assert status.details["media_product_type"] == product
    assert status.media[0].user_tags == [{"username": "ada"}]


async def test_a_story_leaves_out_what_stories_do_not_have(start: Start) -> None:
    case = await start("instagram-login", options={"instagram": CHOSEN | {"kind": "story", "user_tags": []}})
    await case.prepare()
    (made,) = [one for one in case.sandbox.network.store.containers.values() if one.account_id == case.account]
    assert set(made.params) == {"image_url", "media_type"}


# -- containers ----------------------------------------------------------------------------------------------------


def spent(case: Case, path: str) -> int:
    """Requests to addresses that contain this."""
    return len(case.sandbox.ledger.requests(account=case.outgoing.login.account.handle, path=path))


async def test_the_quota_is_asked_once_and_not_at_each_look(start: Start) -> None:
    case = await start("instagram-login", options={"instagram": {"kind": "reel"}})
    await video(case)
    await settled(case)
    assert spent(case, "content_publishing_limit") == 1
    assert spent(case, case.staged.parent.remote_id) > 1


async def test_a_full_quota_makes_the_account_wait(start: Start) -> None:
    case = await start("instagram-login")
    case.fault("quota_full", path="content_publishing_limit$")
    with pytest.raises(Throttled) as caught:
        await case.prepare()
    assert caught.value.retry_in_s == 1800
    assert "100 posts a day" in caught.value.sentence


async def test_a_broken_container_is_made_anew_and_given_up_after_three(start: Start) -> None:
    case = await start("instagram-login")
    case.fault("container_error", code=2207032, times=None)
    for _ in range(2):
        with pytest.raises(Retry):
            await case.prepare()
        case.staged = case.platform.staged_model.model_validate(case.checkpoints[-1])
        assert case.staged.parent is None
    with pytest.raises(Refused) as caught:
        await case.prepare()
    assert "tried 3 times" in caught.value.sentence


async def test_a_fault_of_the_media_is_told_at_once(start: Start) -> None:
    case = await start("instagram-login")
    case.fault("container_error", code=2207026)
    with pytest.raises(Refused) as caught:
        await case.prepare()
    assert caught.value.sentence.startswith("Instagram cannot read the video")


async def test_what_meta_cannot_fetch_ends_with_the_public_address(start: Start) -> None:
    case = await start("instagram-login")
    case.fault("unfetchable", times=None)
    for expected in (Retry, Retry, Refused):
        with pytest.raises(expected) as caught:
            await case.prepare()
        case.staged = case.platform.staged_model.model_validate(case.checkpoints[-1])
    assert "POSTFLOW_PUBLIC_URL" in (caught.value.next_step or "")
    assert "postflow doctor" in (caught.value.next_step or "")


async def test_a_container_that_is_worked_on_for_ever_is_made_anew(start: Start) -> None:
    case = await start("instagram-login")
    created_at = utc_now() - timedelta(hours=2)
    await case.prepare()
    case.staged.parent = containers.Container(remote_id=case.staged.parent.remote_id, created_at=created_at)
    known = case.sandbox.network.store.containers[case.staged.parent.remote_id]
    known.ready_at += 10_000
    with pytest.raises(Retry):
        await case.prepare()
    assert case.staged.parent is None


async def test_a_container_that_is_not_ready_yet_is_no_lost_answer(start: Start) -> None:
    case = await start("instagram-login")
    await case.prepare()
    case.sandbox.network.store.containers[case.staged.parent.remote_id].ready_at += 10_000
    with pytest.raises(NotReady):
        await case.commit()
    assert case.times_out() == 0


async def test_a_second_publish_is_looked_up_and_found(start: Start) -> None:
    case = await start("instagram-login")
    await case.publish()
    with pytest.raises(OutcomeUnknown):
        await case.commit()
    assert case.times_out() == 1


async def test_nothing_prepared_is_nothing_sent(start: Start) -> None:
    case = await start("instagram-login")
    case.staged = containers.Staged()
    with pytest.raises(StageLost):
        await case.commit()


# -- budgets -------------------------------------------------------------------------------------------------------


async def test_a_used_up_budget_stops_the_preparation_for_as_long_as_told(start: Start) -> None:
    case = await start("instagram-login")
    case.fault("usage", percent=100, regain_minutes=7)
    with pytest.raises(Throttled) as caught:
        await case.prepare()
    assert caught.value.retry_in_s == 420
    assert spent(case, "/media") == 0


async def test_a_used_up_budget_does_not_hold_back_the_one_visible_call(start: Start) -> None:
    case = await start("instagram-login")
    await case.prepare()
    case.fault("usage", percent=100, regain_minutes=7, times=None)
    assert (await case.commit()).remote_id


async def test_an_almost_used_up_budget_is_asked_less_often(start: Start) -> None:
    case = await start("instagram-login", options={"instagram": {"kind": "reel"}})
    await video(case)
    with pytest.raises(NotReady) as usual:
        await case.prepare()
    case.staged = case.platform.staged_model.model_validate(case.checkpoints[-1])
    case.fault("usage", percent=85, times=None)
    with pytest.raises(NotReady) as sparing:
        await case.prepare()
    assert usual.value.retry_in_s < sparing.value.retry_in_s == 60


@pytest.mark.parametrize("code", [17, 32, 613, 80002])
async def test_a_rate_limit_is_nothing_published_and_waits_by_the_header(start: Start, code: int) -> None:
    case = await start("instagram-login")
    await case.prepare()
    case.fault_at_commit("rate_limit", style="instagram", code=code, seconds=300)
    with pytest.raises(Throttled) as caught:
        await case.commit()
    assert caught.value.retry_in_s == 300
    assert case.times_out() == 0


@pytest.mark.parametrize(
    ("headers", "percent", "regain_s"),
    [
        ({}, 0, 0),
        ({"x-app-usage": '{"call_count":28,"total_cputime":91,"total_time":25}'}, 91, 0),
        (
            {
                "x-business-use-case-usage": '{"17":[{"type":"instagram","call_count":3,"estimated_time_to_regain_access":19}]}'
            },
            3,
            1140,
        ),
        ({"x-business-use-case-usage": '{"17":"[]","18":[null,4,{}]}', "x-app-usage": "[1]"}, 0, 0),
        (
            {"x-app-usage": "not json", "x-business-use-case-usage": '{"1":[{"estimated_time_to_regain_access":"x"}]}'},
            0,
            0,
        ),
        ({"x-business-use-case-usage": '{"1":[{"estimated_time_to_regain_access":999999}]}'}, 0, 86400),
    ],
)
def test_usage_headers_are_read_whatever_is_in_them(headers: dict[str, str], percent: int, regain_s: int) -> None:
    given = httpx.Headers(headers)
    assert (usage.percent(given), usage.regain_s(given)) == (percent, regain_s)


# -- errors --------------------------------------------------------------------------------------------------------

UNKNOWN_AT_COMMIT = [
    (1, None), (2, None), (-1, 2207001), (341, None), (4, None), (4, 2207051), (24, 2207006), (24, 2207008), (100, 33),
    (100, None), (9004, 2207052), (-2, 2207003), (-2, 2207020), (1, 99), (77777, None), (0, None), (-1, 2207053),
]  # fmt: skip
REFUSED_AT_COMMIT = [
    (36000, 2207004), (36001, 2207005), (36003, 2207009), (36004, 2207010), (352, 2207026), (1, 2207057), (100, 2207023),
    (100, 2207028), (100, 2207035), (100, 2207036), (100, 2207037), (100, 2207040), (368, None),
]  # fmt: skip
WAITS = [(9, 2207042), (17, None), (32, None), (613, None), (80002, None)]
DEAD = [(190, sub) for sub in (None, 458, 459, 460, 463, 464, 467, 492, 12345)] + [
    (102, None), (10, None), (3, None), (200, None), (299, None), (25, 2207050),
]  # fmt: skip


def answered(
    code: Any, subcode: Any, *, status: int = 400, commit: bool = True, text: str = "Said Meta"
) -> PublishError:
    error = {"message": text, "type": "OAuthException", "code": code, "error_subcode": subcode, "fbtrace_id": "Ax"}
    answer = httpx.Response(status, json={"error": error}, request=httpx.Request("POST", "https://graph.example/x"))
    return refusals.error(answer, answer.json(), commit=commit)


@pytest.mark.parametrize(("code", "subcode"), UNKNOWN_AT_COMMIT)
def test_what_does_not_plainly_say_no_is_unknown_at_the_commit(code: int, subcode: int | None) -> None:
    assert type(answered(code, subcode)) is OutcomeUnknown
    assert not isinstance(answered(code, subcode, commit=False), OutcomeUnknown)


@pytest.mark.parametrize(("code", "subcode"), REFUSED_AT_COMMIT)
@pytest.mark.parametrize("commit", [True, False])
def test_what_says_no_is_refused_with_a_sentence(code: int, subcode: int | None, commit: bool) -> None:
    error = answered(code, subcode, commit=commit)
    assert type(error) is Refused
    assert error.next_step
    assert error.sentence.endswith("Said Meta")


@pytest.mark.parametrize(("code", "subcode"), WAITS)
def test_limits_make_the_account_wait(code: int, subcode: int | None) -> None:
    error = answered(code, subcode)
    assert type(error) is Throttled
    assert error.retry_in_s in (900, 1800)


@pytest.mark.parametrize(("code", "subcode"), DEAD)
def test_a_dead_token_or_a_missing_permission_asks_to_reconnect(code: int, subcode: int | None) -> None:
    error = answered(code, subcode)
    assert type(error) is Unauthorized
    assert error.next_step
    assert "onnect" in error.next_step


@pytest.mark.parametrize(
    ("code", "subcode"), [("abc", "def"), (None, None), ({}, []), ("190", "463"), (1e400, 0), (True, "²")]
)
@pytest.mark.parametrize("commit", [True, False])
def test_numbers_that_are_none_do_no_harm(code: Any, subcode: Any, commit: bool) -> None:
    body = {"error": {"code": code, "error_subcode": subcode, "message": None, "error_user_msg": 5}}
    answer = httpx.Response(400, request=httpx.Request("POST", "https://graph.example/x"))
    assert isinstance(refusals.error(answer, body, commit=commit), PublishError)


@pytest.mark.parametrize("body", [None, [], "x", {}, {"error": "x"}, {"error": []}, {"error_message": "y"}])
@pytest.mark.parametrize("status", [200, 302, 400, 403, 404, 500, 503])
def test_an_answer_of_another_shape_is_unknown_at_the_commit(body: Any, status: int) -> None:
    answer = httpx.Response(status, request=httpx.Request("POST", "https://graph.example/x"))
    assert type(refusals.error(answer, body, commit=True)) is OutcomeUnknown
    assert isinstance(refusals.error(answer, body, commit=False), Retry | Refused)


def test_each_row_of_the_table_says_a_sentence_and_where_it_comes_from() -> None:
    keys = [(row.code, row.subcode) for row in refusals.ROWS]
    assert len(keys) == len(set(keys))
    for row in refusals.ROWS:
        assert row.sentence.endswith("."), row
        assert row.source.startswith("https://") or row.source == refusals.SEEN
        if row.commit not in (OutcomeUnknown, NotReady):
            assert row.early is row.commit or row.early is Refused, row


async def test_no_token_comes_back_in_an_error(start: Start) -> None:
    """Meta repeats what it does not like, in its message and in its words for the person."""
    case = await start("facebook-login")
    held = case.outgoing.login.credentials
    token, secret = held.access_token.get_secret_value(), "sandbox-facebook-secret"
    for code in (100, 190, 36004):
        case.fault("graph_error", code=code, text=f"Bad token {token} of {secret}", path="publishing_limit$", times=2)
        with pytest.raises(PublishError) as caught:
            await case.prepare()
        said = f"{caught.value} {caught.value.sentence} {caught.value.detail} {caught.value.next_step}"
        assert token not in said
        assert secret not in said


async def test_a_token_in_the_address_does_not_come_back_either(start: Start) -> None:
    case = await start("instagram-login")
    held = case.outgoing.login.credentials
    token = held.access_token.get_secret_value()
    case.fault("graph_error", code=190, text=f"Cannot parse {token}", path="refresh_access_token$")
    with pytest.raises(Unauthorized) as caught:
        await case.platform.refresh(case.http, case.outgoing.login)
    assert token not in f"{caught.value} {caught.value.detail}"


# -- keeping alive -------------------------------------------------------------------------------------------------


def aged(case: Case, *, hours: float, left_days: float) -> None:
    """Its token was given so long ago, and ends so soon, here and there."""
    now, held = utc_now(), case.outgoing.login.credentials
    given = {"issued_at": now - timedelta(hours=hours), "expires_at": now + timedelta(days=left_days)}
    case.changed(login=case.outgoing.login.model_copy(update={"credentials": held.model_copy(update=given)}))
    token = case.sandbox.network.store.tokens[held.access_token.get_secret_value()]
    token.created_at -= hours * 3600
    token.expires_at = case.sandbox.now() + left_days * 86400


@pytest.mark.parametrize(
    ("hours", "left_days", "due"), [(25, 29, True), (25, 31, False), (23, 29, False), (25, 0.5, True), (23, 31, False)]
)
async def test_a_token_is_due_between_a_day_old_and_thirty_days_left(
    start: Start, hours: float, left_days: float, due: bool
) -> None:
    case = await start("instagram-login")
    aged(case, hours=hours, left_days=left_days)
    assert case.platform.refresh_due(case.outgoing.login, now=utc_now()) is due


async def test_a_token_is_renewed_for_sixty_days_and_the_old_one_lives_on(start: Start) -> None:
    case = await start("instagram-login")
    aged(case, hours=48, left_days=10)
    renewed = await case.platform.refresh(case.http, case.outgoing.login)
    assert renewed.expires_at
    assert renewed.expires_at - utc_now() > timedelta(days=59)
    assert renewed.access_token != case.outgoing.login.credentials.access_token
    assert (await case.platform.verify(case.http, case.outgoing.login)).remote_id == case.account


async def test_a_token_that_is_too_young_is_not_given_up(start: Start) -> None:
    case = await start("instagram-login")
    with pytest.raises(Retry):
        await case.platform.refresh(case.http, case.outgoing.login)


async def test_an_expired_token_asks_to_reconnect(start: Start) -> None:
    case = await start("instagram-login")
    aged(case, hours=48, left_days=-1)
    with pytest.raises(Unauthorized):
        await case.platform.refresh(case.http, case.outgoing.login)


async def test_facebooks_access_is_checked_daily_and_its_end_noted(start: Start) -> None:
    case = await start("facebook-login")
    assert case.platform.refresh_due(case.outgoing.login, now=utc_now())
    checked = await case.platform.refresh(case.http, case.outgoing.login)
    case.changed(login=case.outgoing.login.model_copy(update={"credentials": checked}))
    assert checked.expires_at
    assert timedelta(days=89) < checked.expires_at - utc_now() < timedelta(days=91)
    assert not case.platform.refresh_due(case.outgoing.login, now=utc_now() + timedelta(hours=19))
    assert case.platform.refresh_due(case.outgoing.login, now=utc_now() + timedelta(hours=21))


async def test_a_persons_token_that_ended_is_left_behind_while_the_pages_lives(start: Start, sandbox: Sandbox) -> None:
    case = await start("facebook-login")
    person = case.outgoing.login.credentials.user_token.get_secret_value()
    sandbox.network.store.tokens[person].expires_at = sandbox.now() - 1
    checked = await case.platform.refresh(case.http, case.outgoing.login)
    assert checked.user_token is None


async def test_a_page_token_that_died_asks_to_reconnect(start: Start, sandbox: Sandbox) -> None:
    case = await start("facebook-login")
    page = case.outgoing.login.credentials.access_token.get_secret_value()
    sandbox.network.store.tokens[page].revoked = True
    with pytest.raises(Unauthorized):
        await case.platform.refresh(case.http, case.outgoing.login)


async def test_a_page_token_that_died_is_noticed_by_the_daily_look_too(start: Start, sandbox: Sandbox) -> None:
    """The person's token still opens the account, but it is not the one that publishes."""
    case = await start("facebook-login")
    page = case.outgoing.login.credentials.access_token.get_secret_value()
    sandbox.network.store.tokens[page].revoked = True
    with pytest.raises(Unauthorized):
        await case.platform.verify(case.http, case.outgoing.login)


async def test_facebooks_access_near_its_end_is_told_though_it_works(start: Start, sandbox: Sandbox) -> None:
    case = await start("facebook-login")
    page = case.outgoing.login.credentials.access_token.get_secret_value()
    sandbox.network.store.tokens[page].created_at -= 80 * 86400
    with pytest.raises(Unauthorized, match="only the person can renew it"):
        await case.platform.refresh(case.http, case.outgoing.login)
    assert (await case.platform.verify(case.http, case.outgoing.login)).remote_id == case.account


async def test_a_check_that_is_not_answered_changes_nothing(start: Start) -> None:
    case = await start("facebook-login")
    for kind, options in (("status", {"status": 503}), ("garbage", {"text": "{}"}), ("graph_error", {"code": 190})):
        case.sandbox.faults.add(kind, path="debug_token$", **options)
        with pytest.raises(Retry):
            await case.platform.refresh(case.http, case.outgoing.login)


async def test_verifying_never_ends_in_a_refusal(start: Start) -> None:
    """A refusal would end posts; the account just could not be seen."""
    case = await start("instagram-login")
    for code in (100, 368, 36004):
        case.fault("graph_error", code=code, path="/me$")
        with pytest.raises(Retry):
            await case.platform.verify(case.http, case.outgoing.login)


async def test_an_account_that_became_personal_must_be_connected_again(start: Start, sandbox: Sandbox) -> None:
    case = await start("instagram-login")
    sandbox.network.store.accounts[case.account].traits["account_type"] = "PERSONAL"
    with pytest.raises(Unauthorized, match="personal account"):
        await case.platform.verify(case.http, case.outgoing.login)


async def test_the_id_that_paths_do_not_take_is_never_used(start: Start) -> None:
    """/me without user_id: the app-scoped id would look right and fail at every post."""
    case = await start("instagram-login")
    body = json.dumps({"id": "26178", "username": "wren", "account_type": "BUSINESS"})
    case.fault("garbage", text=body, path="/me$")
    with pytest.raises(Retry):
        await case.platform.verify(case.http, case.outgoing.login)


async def test_calls_through_facebook_prove_the_app(start: Start) -> None:
    case = await start("facebook-login")
    await case.publish()
    asked = case.sandbox.ledger.requests(account=case.outgoing.login.account.handle)
    assert asked
    assert all(len(str(one.params.get("appsecret_proof", ""))) == 64 for one in asked)


async def test_a_proof_made_with_another_secret_is_refused(start: Start) -> None:
    case = await start("facebook-login")
    wrong = case.platform.settings.model_copy(update={"facebook_app_secret": SecretStr("another")})
    case.platform = Instagram(wrong)
    with pytest.raises(Refused, match="appsecret_proof"):
        await case.prepare()
