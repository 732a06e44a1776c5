"""Which status is ours: each feature has its say, and what is not certain is neither adopted nor held to be absent."""

import uuid
from datetime import timedelta
from typing import Any

import pytest

from postflow.errors import OutcomeUnknown, Retry
from postflow.models import Found, LookAgain, SafeToResend, Undecidable, Visibility, utc_now
from postflow.platforms.mastodon.matching import Match, judged
from sandbox import Sandbox
from tests.platforms.conftest import Case, Start

ALL = ["mastodon", "mastodon-4.1", "gotosocial", "akkoma"]
#: Those that guard a repeat of words alone, so that an absence leads to one.
GUARDED = ["mastodon", "mastodon-4.1", "akkoma"]


@pytest.mark.parametrize(
    ("sayings", "verdict"),
    [
        (("ours",), "ours"),
        (("ours", "unclear", "ours"), "unclear"),
        (("ours", "unclear", "another"), "another"),
        (("another", "ours"), "another"),
    ],
)
def test_one_no_rules_out_and_one_doubt_leaves_open(sayings: tuple[Match, ...], verdict: Match) -> None:
    assert judged(*sayings) == verdict


async def by_hand(case: Case, **changes: Any) -> None:
    """The person posts the same words there; nothing of ours has arrived."""
    ours = case.outgoing
    content = ours.content.model_copy(update=changes)
    case.changed(content=content, media=(), idempotency_key=str(uuid.uuid4()))
    await case.platform.commit(case.http, case.outgoing, case.platform.staged_model())
    case.outgoing = ours


async def preceded(start: Start, network: str) -> Case:
    """An account with an older post, connected with a token made by hand: apps tell nothing."""
    case = await start(network, pictures=0)
    await by_hand(case, text="an older one")
    case.changed(login=case.outgoing.login.model_copy(update={"app": None}))
    await case.prepare()
    assert case.staged.anchor
    return case


@pytest.mark.parametrize("network", ALL)
async def test_the_same_words_for_fewer_eyes_are_a_question(network: str, start: Start) -> None:
    case = await preceded(start, network)
    case.first_sent_at = utc_now()
    await by_hand(case, visibility=Visibility.private)
    assert isinstance(await case.look(absent_for_s=40), Undecidable)


@pytest.mark.parametrize("network", ALL)
async def test_the_same_words_from_before_the_first_request_are_a_question(network: str, start: Start) -> None:
    """Prepared, then posted by hand, then sent by us in vain."""
    case = await preceded(start, network)
    await by_hand(case)
    verdict = await case.look(absent_for_s=40, first_sent_at=utc_now() + timedelta(minutes=3))
    assert isinstance(verdict, Undecidable)


@pytest.mark.parametrize("network", ["mastodon", "gotosocial"])
async def test_the_same_words_in_another_language_are_a_question(network: str, start: Start) -> None:
    case = await preceded(start, network)
    case.changed(content=case.outgoing.content.model_copy(update={"language": "pt"}))
    await by_hand(case, language="en")
    assert isinstance(await case.look(absent_for_s=40), Undecidable)


@pytest.mark.parametrize("network", ALL)
async def test_words_that_another_post_has_too_are_a_question_and_uploads_are_not(network: str, start: Start) -> None:
    case = await start(network, pictures=0)
    await case.publish()
    assert isinstance(await case.look(rivalled=True), Undecidable)
    case = await start(network)
    await case.publish()
    assert isinstance(await case.look(rivalled=True), Found)


# -- the list it is looked for in ------------------------------------------------------------------------------


async def deleted(case: Case) -> None:
    token = case.platform.bearer(case.outgoing.login.credentials)
    base_url = case.outgoing.login.account.base_url
    await case.http.delete(f"{base_url}/api/v1/statuses/{case.staged.anchor}", headers=token)


@pytest.mark.parametrize("network", [*ALL, "pixelfed"])
async def test_an_account_whose_only_post_was_deleted_has_a_whole_list_all_the_same(network: str, start: Start) -> None:
    case = await start(network)
    await case.publish()
    case.staged = None
    case.changed(content=case.outgoing.content.model_copy(update={"text": "lost"}), idempotency_key="lost")
    await case.prepare()
    case.fault("short_list")
    assert not getattr(await case.look(absent_for_s=40), "absent", False), "it is still there"
    await deleted(case)
    assert isinstance(await case.look(absent_for_s=40), SafeToResend)


@pytest.mark.parametrize("network", GUARDED)
async def test_a_deleted_post_behind_older_ones_is_not_missed(network: str, start: Start) -> None:
    case = await start(network, pictures=0)
    await by_hand(case, text="the oldest")
    await by_hand(case, text="the anchor")
    await case.prepare()
    await deleted(case)
    assert isinstance(await case.look(absent_for_s=40), SafeToResend)


@pytest.mark.parametrize("network", GUARDED)
async def test_an_account_that_never_posted_is_told_by_its_own_count(network: str, start: Start) -> None:
    case = await start(network, pictures=0)
    await case.prepare()
    assert case.staged.anchor is None
    assert isinstance(await case.look(absent_for_s=40), SafeToResend)
    await by_hand(case, text="the first one ever")
    case.fault("short_list")
    verdict = await case.look(absent_for_s=40)
    assert isinstance(verdict, LookAgain)
    assert verdict.absent is None


async def test_a_list_that_stays_short_for_a_day_is_shown_to_the_person(start: Start) -> None:
    case = await preceded(start, "mastodon")
    case.fault("short_list", times=None)
    assert isinstance(await case.look(absent_for_s=40), LookAgain)
    assert isinstance(await case.look(absent_for_s=40, sent_s_ago=25 * 3600), Undecidable)


async def test_uploads_are_not_made_anew_on_the_word_of_a_list_that_is_cut_short(start: Start) -> None:
    """The post that has them is out; its place in the list is not."""

    case = await start("mastodon")
    await by_hand(case, text="an older one")
    await case.publish()
    case.changed(idempotency_key="an hour later the first one is forgotten", sent_ago_s=4000.0)
    case.fault("short_list", times=None)
    with pytest.raises(OutcomeUnknown):
        await case.commit()


# -- what an upload that is asked after proves -------------------------------------------------------------------


@pytest.mark.parametrize("text", ["{}", '{"status": "ok"}', '{"id": "1"}'])
async def test_an_upload_is_unused_only_when_the_answer_shows_it(text: str, start: Start) -> None:
    """A gateway's friendly page is no proof that Pixelfed did not publish."""
    case = await start("pixelfed")
    await case.publish()
    case.fault("short_list", times=None)
    case.staged.anchor = None
    case.fault("garbage", method="GET", path="/api/v1/media/", text=text, times=None)
    assert not isinstance(await case.look(absent_for_s=700, sent_s_ago=900), SafeToResend)


@pytest.mark.parametrize("network", ["mastodon", "gotosocial", "pixelfed"])
async def test_a_part_whose_parent_a_gateway_does_not_find_is_not_given_up(network: str, start: Start) -> None:

    case = await start(network)
    case.changed(reply_to_remote_id=(await case.publish()).remote_id)
    case.staged = None
    await case.prepare()
    case.fault("status", status=404, body="json", text="Not Found", times=None)
    with pytest.raises(Retry):
        await case.commit()


async def test_without_an_anchor_what_is_dated_long_before_makes_the_list_whole(start: Start, sandbox: Sandbox) -> None:
    """As after a failover that lost what was prepared: not everything the account ever wrote has to be read."""
    case = await start("mastodon", pictures=0)
    for number in range(45):
        await by_hand(case, text=f"years ago {number}")
    for one in sandbox.network.store.by_account[case.account]:
        one.created_at -= 400 * 86400
    case.staged = case.platform.staged_model()
    assert isinstance(await case.look(absent_for_s=40), SafeToResend)
    assert len(sandbox.ledger.requests(path="/statuses", method="GET", instance="mastodon")) == 1
