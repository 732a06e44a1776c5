"""Refusals that mean more than they say, and answers that are not what was asked for."""

from typing import Any

import httpx
import pytest

from postflow.errors import OutcomeUnknown, Refused, StageLost, Throttled, Unauthorized
from postflow.models import Found, Poll, Undecidable, Visibility
from postflow.platforms import answers
from postflow.platforms.mastodon.receipts import receipt
from tests.platforms.conftest import Case, Start


async def with_locale(start: Start, network: str, locale: str, **content: Any) -> Case:
    case = await start(network, **content)
    case.fault("localised", lang=locale, times=None)
    return case


# -- uploads -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("locale", ["de", "ja"])
async def test_in_any_language_refused_uploads_lead_to_the_post_that_has_them(start: Start, locale: str) -> None:
    case = await with_locale(start, "mastodon", locale)
    first = await case.publish()
    case.changed(idempotency_key="an hour later the first one is forgotten", sent_ago_s=60.0)
    assert (await case.commit()).remote_id == first.remote_id
    assert case.times_out() == 1


@pytest.mark.parametrize("locale", ["de", "ja"])
async def test_in_any_language_lost_uploads_are_made_anew(start: Start, locale: str) -> None:
    case = await with_locale(start, "mastodon", locale)
    await case.prepare()
    case.staged.uploads[0].remote_id = "109999999999999999"
    with pytest.raises(StageLost):
        await case.commit()


@pytest.mark.parametrize(("locale", "said"), [("de", "Gültigkeitsprüfung"), ("ja", "検証に失敗しました")])
async def test_in_any_language_a_text_that_is_too_long_is_refused_and_its_uploads_are_not_blamed(
    start: Start, locale: str, said: str
) -> None:
    case = await with_locale(start, "mastodon", locale, text="x" * 501)
    with pytest.raises(Refused) as caught:
        await case.publish()
    assert caught.value.code == "http_422"
    assert said in caught.value.sentence


async def test_without_the_right_to_read_a_refused_text_is_still_a_refusal(start: Start) -> None:
    case = await start("mastodon", text="x" * 501, scopes=["profile", "write:media", "write:statuses"])
    with pytest.raises(Refused):
        await case.publish()


async def test_the_picture_that_was_not_taken_is_named(start: Start) -> None:
    case = await start("mastodon", pictures=2)
    one, two = case.outgoing.media
    case.changed(media=(one, two.model_copy(update={"data": b"no picture"})))
    with pytest.raises(Refused, match="Picture 2 was not taken"):
        await case.prepare()


# -- who and what is gone ----------------------------------------------------------------------------------


async def test_a_post_that_was_deleted_before_its_answer_came_is_left_to_its_person(start: Start) -> None:
    """Anything in front of the server may say the same: not a reason to call it published, nor to send it once more."""
    case = await start("mastodon", pictures=0)
    first = await case.publish()
    token = case.platform.bearer(case.outgoing.login.credentials)
    base_url = case.outgoing.login.account.base_url
    await case.http.delete(f"{base_url}/api/v1/statuses/{first.remote_id}", headers=token)
    case.changed(sent_ago_s=60.0)
    with pytest.raises(OutcomeUnknown) as caught:
        await case.commit()
    verdict = await case.look(absent_for_s=40, absent_looks=1, sent_s_ago=200, error_code=caught.value.code)
    assert isinstance(verdict, Undecidable)
    assert "the server says that it had been there and is gone" in verdict.why
    assert len(case.sandbox.ledger.statuses(account=case.account)) == 1


async def test_an_answer_to_a_part_that_is_gone_says_so_or_is_told_to_stand_alone(start: Start) -> None:
    case = await start("mastodon", pictures=0)
    case.changed(reply_to_remote_id="109999999999999999")
    with pytest.raises(Refused) as caught:
        await case.publish()
    assert caught.value.code == "parent_gone"
    case = await start("akkoma", pictures=0)
    case.changed(reply_to_remote_id="109999999999999999")
    assert (await case.publish()).notes == ("The server does not show it as an answer to the part before it.",)


@pytest.mark.parametrize("network", ["mastodon", "akkoma"])
async def test_an_account_that_is_shut_out_needs_its_person(start: Start, network: str) -> None:
    case = await start(network, pictures=0)
    await case.prepare()
    case.sandbox.add_account(network, case.outgoing.login.account.handle, disabled=True)
    with pytest.raises(Unauthorized) as caught:
        await case.commit()
    assert caught.value.sentence.endswith(".")


async def test_a_post_that_alone_is_forbidden_does_not_cost_the_account(start: Start) -> None:
    case = await start("mastodon", pictures=0)
    await case.prepare()
    case.fault_at_commit("status", status=403, body="json", text="This action is not allowed")
    with pytest.raises(Refused):
        await case.commit()


# -- keys --------------------------------------------------------------------------------------------------


async def test_akkoma_still_busy_with_the_same_request_is_unknown_and_a_throttle_costs_the_key(start: Start) -> None:
    case = await start("akkoma")
    await case.prepare()
    case.fault_at_commit("status", status=409, body="json", text="Request is already in progress")
    with pytest.raises(OutcomeUnknown):
        await case.commit()
    case.fault_at_commit("rate_limit")
    with pytest.raises(Throttled) as caught:
        await case.commit()
    assert caught.value.new_key


async def test_a_repeat_that_answers_500_is_looked_up_and_found(start: Start) -> None:
    case = await start("mastodon-4.6")
    first = await case.publish()
    with pytest.raises(OutcomeUnknown):
        await case.commit()
    verdict = await case.look()
    assert isinstance(verdict, Found)
    assert verdict.receipt.remote_id == first.remote_id


async def test_where_uploads_change_their_ids_words_tell_and_other_words_tell_nothing(start: Start) -> None:
    case = await start("snac")
    first = await case.publish()
    verdict = await case.look()
    assert isinstance(verdict, Found)
    assert verdict.receipt.remote_id == first.remote_id
    case.changed(content=case.outgoing.content.model_copy(update={"text": "never sent"}))
    assert isinstance(await case.look(absent_for_s=400), Undecidable)


# -- what the server changed -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answered", "note"),
    [
        ({}, None),
        ({"visibility": "private"}, "“private” instead of “public”"),
        ({"language": "en"}, "“en” instead of “pt”"),
        ({"language": "pt-BR"}, None),
        ({"language": None}, None),
        ({"spoiler_text": ""}, "left out the content warning"),
        ({"sensitive": False}, "does not hide its pictures"),
        ({"poll": None}, "left out the poll"),
        ({"in_reply_to_id": None}, "not show it as an answer"),
        ({"in_reply_to_id": 7}, None),
        ({"media_attachments": [{"id": "1", "description": None}]}, "left out the description of picture 1"),
        ({"media_attachments": [{"id": "1", "description": "other words"}]}, None),
        ({"url": "javascript:alert(1)"}, None),
    ],
)
async def test_whatever_the_server_changed_is_told(start: Start, answered: dict[str, Any], note: str | None) -> None:
    case = await start(
        "mastodon", spoiler_text="careful", language="pt", poll=Poll(options=("a", "b"), expires_in_s=300)
    )
    case.changed(reply_to_remote_id="7")
    kept = {
        "id": "8", "url": "https://birds.example/8", "visibility": "public", "language": "pt", "sensitive": True,
        "spoiler_text": "careful", "poll": {"id": "1"}, "in_reply_to_id": "7",
        "media_attachments": [{"id": "1", "description": "Picture 0"}],
    }  # fmt: skip
    made = receipt({**kept, **answered}, case.outgoing)
    assert [note in said for said in made.notes] == ([True] if note else [])
    assert made.permalink in ("https://birds.example/8", None)
    assert made.shortfall is None


async def test_a_picture_that_was_left_out_is_no_footnote(start: Start) -> None:
    status = {"id": "8", "visibility": "public", "media_attachments": []}
    assert "without its picture" in (receipt(status, (await start("mastodon")).outgoing).shortfall or "")
    two = (await start("mastodon", pictures=2)).outgoing
    assert "without 2 of its 2 pictures" in (receipt(status, two).shortfall or "")
    status["media_attachments"] = [{"id": "1", "description": None}]
    made = receipt(status, two)
    assert "without 1 of its 2 pictures" in (made.shortfall or "")
    assert made.notes == (), "which of them is described is not known"


async def test_what_became_sensitive_by_itself_is_told(start: Start) -> None:
    case = await start("mastodon", pictures=0)
    assert receipt({"id": "8", "sensitive": True}, case.outgoing).notes == ("The server marked it as sensitive.",)


async def test_a_locked_pixelfed_account_makes_posts_private_and_says_so(start: Start) -> None:
    case = await start("pixelfed", visibility=Visibility.public)
    case.sandbox.add_account("pixelfed", case.outgoing.login.account.handle, locked=True)
    assert (await case.publish()).notes == ("The server made it “private” instead of “public”.",)


# -- how long to wait --------------------------------------------------------------------------------------


def test_every_way_of_saying_when_is_understood() -> None:
    now = answers.utc_now().timestamp()
    for said in (str(now + 90), str((now + 90) * 1000), "90"):
        assert 85 < (answers.wait_s(httpx.Headers({"X-RateLimit-Reset": said})) or 0) < 95
    assert answers.wait_s(httpx.Headers({"Retry-After": "30", "X-RateLimit-Reset": "soon"})) == 30
    assert answers.wait_s(httpx.Headers({"Retry-After": "soon"})) is None
    assert answers.wait_s(httpx.Headers({"Retry-After": "-5"})) == 1
    assert answers.wait_s(httpx.Headers({"Retry-After": "1e300"})) == answers.LONGEST_WAIT_S
    assert answers.wait_s(httpx.Headers({"Retry-After": "nan"})) is None
