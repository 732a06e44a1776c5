"""What every network must keep to, over real sockets: refused, thrown back, or unknown."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from postflow.errors import OutcomeUnknown, Refused, Retry, Throttled, Unauthorized
from postflow.http import clients
from postflow.models import Found, LookAgain, SafeToResend, Undecidable, utc_now
from postflow.platforms import answers
from tests.platforms.conftest import Start
from tests.platforms.networks import BY_NAME, NETWORKS

pytestmark = pytest.mark.parametrize("network", [one.name for one in NETWORKS])
LOST = (
    ("drop_after_commit", {}),
    ("cut_body", {}),
    ("garbage", {}),
    ("answer_without_id", {}),
    ("status", {"status": 502, "commit": True}),
    ("status", {"status": 500, "body": "empty", "commit": True}),
    ("slow", {"seconds": 1.5, "when": "after"}),
)
STYLES = ("mastodon", "pixelfed", "gotosocial", "overload", "retry_after", "http_date", "bare", "html")


async def test_it_publishes_the_pictures_in_order_and_says_where(network: str, start: Start) -> None:
    case = await start(network, pictures=3)
    receipt = await case.publish()
    (status,) = case.sandbox.ledger.statuses(account=case.account)
    assert status.id == receipt.remote_id
    assert [one.width for one in status.media] == [32, 33, 34]
    assert [one.alt_text for one in status.media] == ["Picture 0", "Picture 1", "Picture 2"]
    assert receipt.permalink or await case.platform.permalink(case.http, case.outgoing.login, receipt)
    assert receipt.notes == ()


async def test_it_uploads_only_what_an_interrupted_preparation_left_out(network: str, start: Start) -> None:
    case = await start(network, pictures=2)
    case.fault("drop_before", method="POST", path=case.network.upload, skip=1)
    with pytest.raises(Retry):
        await case.prepare()
    kept = case.uploads(case.checkpoints[-1])
    assert len(kept) == 1
    case.staged = case.platform.staged_model.model_validate(case.checkpoints[-1])
    await case.prepare()
    uploads = case.uploads(case.staged.model_dump(mode="json"))
    assert uploads[0] == kept[0]
    assert len(uploads) == 2


@pytest.mark.parametrize(("kind", "options"), LOST)
async def test_a_lost_answer_is_unknown_and_then_found(
    network: str, start: Start, kind: str, options: dict[str, Any]
) -> None:
    case = await start(network)
    await case.prepare()
    if kind == "answer_without_id":
        options = {"field": case.network.names_post_by}
    case.fault_at_commit(kind, **options)
    if kind == "slow":
        case.http.timeout = 0.5
    with pytest.raises(OutcomeUnknown):
        await case.commit()
    case.http.timeout = 5
    case.sandbox.faults.clear()
    verdict = await case.look()
    assert isinstance(verdict, Found)
    assert case.times_out() == 1
    assert verdict.receipt.remote_id == case.sandbox.ledger.statuses(account=case.account)[0].id


async def test_a_request_that_never_arrived_is_unknown_until_absent_twice(network: str, start: Start) -> None:
    case = await start(network)
    await case.prepare()
    case.fault_at_commit("drop_before")
    with pytest.raises(OutcomeUnknown):
        await case.commit()
    first = await case.look()
    assert isinstance(first, LookAgain)
    assert first.absent
    assert isinstance(await case.look(absent_for_s=5), LookAgain)
    settled_s = BY_NAME[network].settles_s
    decided = await case.look(absent_for_s=settled_s, sent_s_ago=settled_s + 80)
    assert isinstance(decided, SafeToResend if BY_NAME[network].proves_absence else Undecidable)


async def test_a_redirect_is_not_followed_and_unknown(network: str, start: Start) -> None:
    case = await start(network)
    await case.prepare()
    case.fault_at_commit("redirect")
    with pytest.raises(OutcomeUnknown):
        await case.commit()


async def test_a_throttled_post_waits_as_told_in_every_manner(network: str, start: Start) -> None:
    case = await start(network)
    await case.prepare()
    for style in STYLES:
        case.fault_at_commit("rate_limit", style=style, seconds=90)
        with pytest.raises(Throttled) as caught:
            await case.commit()
        wait = caught.value.retry_in_s
        if style not in ("bare", "html"):
            assert wait is not None, style
            assert 20 <= wait <= 91, style
    assert case.times_out() == 0


async def test_a_dead_token_asks_to_reconnect(network: str, start: Start) -> None:
    case = await start(network)
    await case.prepare()
    case.fault_at_commit("revoke_token")
    with pytest.raises(Unauthorized) as caught:
        await case.commit()
    token = case.outgoing.login.credentials.access_token.get_secret_value()
    assert token not in f"{caught.value.sentence} {caught.value.detail}"
    assert case.times_out() == 0


@pytest.mark.parametrize("status", [403, 413, 422])
async def test_a_definite_refusal_is_permanent(network: str, start: Start, status: int) -> None:
    case = await start(network)
    await case.prepare()
    case.refuse_at_commit(status, "No such thing")
    with pytest.raises(Refused):
        await case.commit()


@pytest.mark.parametrize("text", ["Not Found", "Record not found", "no Route matched with those values"])
async def test_a_gateway_that_misses_its_server_costs_a_pause_and_on_a_repeat_a_look(
    network: str, start: Start, text: str
) -> None:
    """It says 404 in JSON to whatever is asked, also after an earlier request of ours was lost."""
    case = await start(network)
    await case.prepare()
    case.fault("status", status=404, body="json", text=text, times=None)
    with pytest.raises((Retry, OutcomeUnknown)):
        await case.commit()
    case.changed(sent_ago_s=60.0)
    with pytest.raises((Retry, OutcomeUnknown)):
        await case.commit()
    verdict = await case.look(absent_for_s=700, absent_looks=9, sent_s_ago=900)
    assert isinstance(verdict, LookAgain)
    assert not verdict.absent


async def test_a_list_without_what_was_there_before_proves_nothing(network: str, start: Start) -> None:
    """200 and an empty list, or one that is cut short: a replica that is behind, an index being rebuilt."""
    if BY_NAME[network].by_key:
        pytest.skip(f"{network} is asked for the one record")
    case = await start(network)
    await case.publish()
    case.staged = None
    case.changed(
        content=case.outgoing.content.model_copy(update={"text": "the one that got lost"}), idempotency_key="lost"
    )
    await case.prepare()
    case.fault_at_commit("drop_before")
    with pytest.raises(OutcomeUnknown):
        await case.commit()
    case.fault("short_list", times=None)
    settled = {"absent_for_s": 700, "absent_looks": 9, "sent_s_ago": 900}
    later = utc_now() + timedelta(seconds=120)  # on Instagram, what is known lies before the first request
    verdict = await case.look(**settled, first_sent_at=later)
    assert not isinstance(verdict, (SafeToResend, Found))
    assert not getattr(verdict, "absent", False)


async def test_a_text_that_is_too_long_is_told_before_and_refused_by_the_server(network: str, start: Start) -> None:
    case = await start(network)
    limits = case.outgoing.server.limits
    content = case.outgoing.content.model_copy(update={"text": "x" * (limits.max_chars + 1)})
    case.changed(content=content)
    problems = case.platform.check(
        content.model_copy(update={"attachments": ()}),
        [],
        case.outgoing.server,
        case.outgoing.login.account,
        is_reply=False,
    )
    assert any("1 character too long" in problem.sentence and problem.blocking for problem in problems)
    if BY_NAME[network].counts:
        with pytest.raises(Refused):
            await case.publish()
        assert case.times_out() == 0


async def test_a_file_that_is_no_picture_is_refused_while_preparing(network: str, start: Start) -> None:
    if not BY_NAME[network].looks_into_media:
        pytest.skip(f"{network} takes any file")
    case = await start(network)
    await case.spoil_picture()
    with pytest.raises(Refused) as caught:
        await case.prepare_patiently()
    assert caught.value.sentence.endswith(".")


async def test_only_what_never_left_may_be_sent_again(network: str, start: Start) -> None:
    case = await start(network)
    await case.prepare()
    for error in (*answers.NOT_SENT, *answers.MAYBE_SENT):

        def fail(request: httpx.Request, error: type[httpx.TransportError] = error) -> httpx.Response:
            raise error("it broke", request=request)

        expected = Retry if error in answers.NOT_SENT else OutcomeUnknown
        async with httpx.AsyncClient(transport=httpx.MockTransport(fail)) as case.http:
            with pytest.raises((Retry, OutcomeUnknown)) as caught:
                await case.commit()
        assert type(caught.value) is expected, error


async def test_a_refusal_in_another_language_is_a_refusal_and_is_told(network: str, start: Start) -> None:
    case = await start(network)
    await case.prepare()
    case.refuse_at_commit(422, "検証に失敗しました: 本文は長すぎます")
    with pytest.raises(Refused) as caught:
        await case.commit()
    assert "検証に失敗しました" in caught.value.sentence
    assert case.times_out() == 0


async def test_a_success_that_is_no_post_is_unknown(network: str, start: Start) -> None:
    case = await start(network)
    await case.prepare()
    for body in ("", "<html><title>Welcome</title></html>", "[]x", '"a word"', "null", "[1]"):
        case.fault_at_commit("garbage", text=body, commit=False)
        with pytest.raises(OutcomeUnknown):
            await case.commit()


async def test_a_kept_connection_that_the_server_has_dropped_does_no_harm(network: str, start: Start) -> None:
    case = await start(network)
    await case.prepare()
    case.fault("drop_reused", times=None)
    async with clients.commit_client(case.settings) as case.http:
        assert (await case.commit()).remote_id
    assert case.times_out() == 1


async def test_nothing_was_sent_when_nobody_listens(network: str, start: Start) -> None:
    case = await start(network)
    await case.prepare()
    case.nobody_listens()
    with pytest.raises(Retry):
        await case.commit()


async def test_a_server_that_cannot_be_asked_is_asked_later_and_not_for_ever(network: str, start: Start) -> None:
    case = await start(network)
    await case.prepare()
    case.fault("status", method="GET", status=503, body="html", times=None)
    verdict = await case.look(looks=3)
    assert isinstance(verdict, LookAgain)
    assert not verdict.absent
    assert verdict.in_s == 240


async def test_a_post_of_another_delivery_is_not_adopted(network: str, start: Start) -> None:
    case = await start(network)
    receipt = await case.publish()
    verdict = await case.look(taken=frozenset({receipt.remote_id}))
    assert not isinstance(verdict, Found)


async def test_the_account_is_told_by_its_token(network: str, start: Start, http: httpx.AsyncClient) -> None:
    case = await start(network)
    profile = await case.platform.verify(http, case.outgoing.login)
    assert profile.remote_id == case.account
