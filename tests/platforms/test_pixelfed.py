"""Pixelfed's own manners: keys that are used up, posts that never show, access that must be renewed."""

from typing import Any

import httpx
import pytest

from postflow.errors import OutcomeUnknown, Refused, StageLost, Throttled, Unauthorized
from postflow.http import clients
from postflow.models import LookAgain, SafeToResend, Undecidable
from tests.platforms.conftest import Start


async def test_a_repeated_key_is_unknown_and_never_a_second_post(start: Start) -> None:
    case = await start("pixelfed")
    await case.publish()
    with pytest.raises(OutcomeUnknown):
        await case.commit()
    assert case.times_out() == 1


async def test_unused_pictures_prove_that_it_did_not_go_out_and_the_key_is_changed(start: Start) -> None:
    case = await start("pixelfed")
    await case.prepare()
    verdict = await case.look(absent_for_s=40)
    assert isinstance(verdict, SafeToResend)
    assert verdict.new_key


async def test_a_stuck_draft_is_never_sent_again(start: Start) -> None:
    case = await start("pixelfed")
    await case.prepare()
    case.fault("stuck_draft")
    with pytest.raises(OutcomeUnknown):
        await case.commit()
    case.sandbox.faults.clear()
    assert isinstance(await case.look(absent_for_s=40), LookAgain)
    assert isinstance(await case.look(absent_for_s=700, sent_s_ago=700), Undecidable)


async def test_uploads_that_an_earlier_attempt_took_into_a_draft_are_never_sent_anew(start: Start) -> None:
    case = await start("pixelfed")
    await case.prepare()
    case.fault("stuck_draft")
    with pytest.raises(OutcomeUnknown):
        await case.commit()
    case.changed(sent_ago_s=60.0, idempotency_key="an hour later the first key is forgotten")
    with pytest.raises(OutcomeUnknown):
        await case.commit()


async def test_uploads_that_are_gone_at_the_first_attempt_are_made_anew_under_a_new_key(start: Start) -> None:
    case = await start("pixelfed")
    await case.prepare()
    case.staged.uploads[0].remote_id = "999999"
    with pytest.raises(StageLost) as caught:
        await case.commit()
    assert caught.value.new_key


async def test_an_account_that_never_signed_in_is_told_so(start: Start) -> None:
    case = await start("pixelfed")
    case.sandbox.add_account("pixelfed", case.outgoing.login.account.handle, never_logged_in=True)
    with pytest.raises(Refused) as caught:
        await case.prepare()
    assert caught.value.code == "never_signed_in"


async def test_renewed_access_works_and_the_old_refresh_token_does_not(start: Start) -> None:
    case = await start("pixelfed")
    login = case.outgoing.login
    renewed = await case.platform.refresh(case.http, login)
    assert renewed.expires_at
    fresh = login.model_copy(update={"credentials": renewed})
    assert (await case.platform.verify(case.http, fresh)).remote_id == case.account
    with pytest.raises(Unauthorized):
        await case.platform.refresh(case.http, login)


async def test_a_lost_renewal_is_unknown(start: Start) -> None:
    case = await start("pixelfed")
    case.sandbox.faults.add("drop_after_commit", instance="pixelfed", path="/oauth/token")
    with pytest.raises(OutcomeUnknown) as caught:
        await case.platform.refresh(case.http, case.outgoing.login)
    assert "post" not in caught.value.sentence


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (500, {"error": "Unauthenticated."}, Unauthorized),
        (401, {"error": "Unauthenticated."}, Unauthorized),
        (401, {"message": "Unauthenticated."}, Unauthorized),
        (500, {"message": "Too long.", "errors": {"status": ["The status is too long."]}}, Refused),
        (422, {"message": "Too long.", "errors": {"status": ["The status is too long."]}}, Refused),
        (500, {"message": "", "errors": {}}, Refused),
        (500, {"error": "Server Error"}, OutcomeUnknown),
        (500, {"error": "No query results for model [App\\Media] 1"}, OutcomeUnknown),
        (400, {"error": "Duplicate idempotency key."}, OutcomeUnknown),
        (400, {"error": "Direct visibility is not available."}, Refused),
        (403, {"error": ""}, Refused),
        (429, {"error": "Too Many Attempts."}, Throttled),
        (302, {}, OutcomeUnknown),
        (200, [], Refused),
        (200, {}, OutcomeUnknown),
    ],
    ids=str,
)
async def test_older_and_newer_builds_are_understood_by_what_they_say(
    start: Start, status: int, body: Any, expected: type[Exception]
) -> None:
    case = await start("pixelfed")
    await case.prepare()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(status, json=body)
        return httpx.Response(200, json={"id": request.url.path.rpartition("/")[2], "username": "ada"})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as case.http:
        with pytest.raises(expected):
            await case.commit()


async def test_every_request_asks_for_json_or_pixelfed_would_send_to_its_login_page(start: Start) -> None:
    case = await start("pixelfed")
    async with clients.client(case.settings) as case.http:
        await case.publish()
        await case.look()
    asked = case.sandbox.ledger.requests(instance="pixelfed", account=case.outgoing.login.account.handle)
    assert len(asked) >= 4
    assert not any(one.status == 302 for one in asked)
