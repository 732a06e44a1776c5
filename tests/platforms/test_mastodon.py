"""Mastodon's own rules: uploads that are used already, words as the only trace, what a server quietly changes."""

from datetime import timedelta

import pytest

from postflow.errors import NotReady, OutcomeUnknown, Retry, StageLost
from postflow.models import Found, LookAgain, SafeToResend, Undecidable, utc_now
from sandbox import Sandbox
from tests.platforms.conftest import Start


async def test_a_post_without_pictures_is_found_by_its_words(start: Start) -> None:
    case = await start("mastodon", pictures=0)
    await case.prepare()
    case.fault("drop_after_commit", method="POST", path=r"/statuses$")
    with pytest.raises(OutcomeUnknown):
        await case.commit()
    assert isinstance(await case.look(), Found)


async def test_other_words_of_the_same_minute_are_not_ours(start: Start) -> None:
    case = await start("mastodon", pictures=0)
    await case.publish()
    other = case.outgoing.content.model_copy(update={"text": "Something else"})
    case.changed(content=other)
    assert isinstance(await case.look(absent_for_s=40), SafeToResend)


async def test_the_same_words_of_last_week_are_not_ours(start: Start) -> None:
    case = await start("mastodon", pictures=0)
    await case.prepare()
    await case.commit()
    verdict = await case.look(absent_for_s=40, first_sent_at=utc_now() + timedelta(hours=2))
    assert isinstance(verdict, SafeToResend)


async def test_the_same_words_by_a_clock_that_may_be_wrong_are_a_question(start: Start) -> None:
    """A first post: nothing stands before it on the account by which it could be told."""
    case = await start("mastodon", pictures=0)
    await case.prepare()
    assert case.staged.anchor is None
    await case.commit()
    verdict = await case.look(absent_for_s=40, first_sent_at=utc_now() + timedelta(minutes=10))
    assert isinstance(verdict, Undecidable)


@pytest.mark.parametrize("instance", ["mastodon", "gotosocial"])
async def test_a_server_whose_clock_is_behind_does_not_hide_what_it_published(start: Start, instance: str) -> None:
    case = await start(instance, pictures=0)
    await case.platform.commit(case.http, case.outgoing, case.platform.staged_model())  # an older post of the account
    case.changed(
        content=case.outgoing.content.model_copy(update={"text": "by a slow clock"}), idempotency_key="slow clock"
    )
    await case.prepare()
    assert case.staged.anchor
    await case.commit()
    ahead = timedelta(minutes=10)  # ours: the server tells its time with its list
    verdict = await case.look(absent_for_s=40, first_sent_at=case.first_sent_at + ahead, ahead=ahead)
    assert isinstance(verdict, Found)
    verdict = await case.look(absent_for_s=40, first_sent_at=case.first_sent_at + timedelta(hours=2))
    assert isinstance(verdict, Undecidable), "newer than the anchor and dated long before: no proof either way"


@pytest.mark.parametrize("instance", ["mastodon", "gotosocial"])
async def test_what_was_sent_with_a_token_made_by_hand_bears_the_name_of_another_app(
    start: Start, sandbox: Sandbox, instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = await start(instance, pictures=0)
    await case.publish()
    (status,) = sandbox.ledger.statuses(account=case.account)
    app = sandbox.network.store.apps[sandbox.network.store.statuses[status.id].client_id]
    monkeypatch.setattr(app, "name", "my own little script")
    case.changed(login=case.outgoing.login.model_copy(update={"app": None}))
    assert isinstance(await case.look(absent_for_s=40), Found)


async def test_a_mention_in_other_capitals_is_the_same_mention(start: Start) -> None:
    case = await start("mastodon", pictures=0, text="Thank you @ada@birds.example!")
    await case.publish()
    said = case.outgoing.content.model_copy(update={"text": "Thank you @Ada@Birds.Example!"})
    case.changed(content=said)
    assert isinstance(await case.look(absent_for_s=40), Found)
    said = case.outgoing.content.model_copy(update={"text": "Thank you @countess@birds.example!"})
    case.changed(content=said)
    assert isinstance(await case.look(absent_for_s=40), Undecidable)


async def test_a_post_is_not_held_absent_while_its_request_may_still_run(start: Start) -> None:
    case = await start("mastodon", pictures=0)
    await case.prepare()
    assert isinstance(await case.look(absent_for_s=40, sent_s_ago=64), LookAgain)
    assert isinstance(await case.look(absent_for_s=40, sent_s_ago=66), SafeToResend)


@pytest.mark.parametrize("fault", [404, 403, 405])
async def test_a_proxy_that_misses_its_server_has_said_nothing_of_the_post(start: Start, fault: int) -> None:
    """It was not carried out, so it is tried again: neither refused for good nor out and deleted."""
    case = await start("mastodon", pictures=0)
    await case.prepare()
    case.changed(sent_ago_s=30.0)
    case.fault_at_commit("status", status=fault, body="html")
    with pytest.raises(Retry) as caught:
        await case.commit()
    assert caught.value.code == "turned_away"
    assert case.times_out() == 0


async def test_it_finds_the_post_behind_more_than_a_page_of_newer_ones(start: Start) -> None:
    case = await start("mastodon")
    receipt = await case.publish()
    ours = case.staged
    content = case.outgoing.content
    case.changed(media=())
    for number in range(45):
        case.staged = case.platform.staged_model()
        case.changed(content=content.model_copy(update={"text": f"later {number}"}), idempotency_key=f"later-{number}")
        await case.commit()
    case.staged = ours
    verdict = await case.look()
    assert isinstance(verdict, Found)
    assert verdict.receipt.remote_id == receipt.remote_id


WRITES_ONLY = ["profile", "write:media", "write:statuses"]


@pytest.mark.parametrize("pictures", [0, 1])
async def test_without_the_right_to_read_it_finds_what_everybody_sees(start: Start, pictures: int) -> None:
    case = await start("mastodon", scopes=WRITES_ONLY, pictures=pictures)
    receipt = await case.publish()
    verdict = await case.look(absent_for_s=40)
    assert isinstance(verdict, Found)
    assert verdict.receipt.remote_id == receipt.remote_id


@pytest.mark.parametrize("visibility", ["public", "private"])
async def test_without_the_right_to_read_nothing_is_ever_held_to_be_absent(start: Start, visibility: str) -> None:
    case = await start("mastodon", scopes=WRITES_ONLY, visibility=visibility)
    await case.prepare()
    if visibility == "private":
        await case.commit()
    assert isinstance(await case.look(absent_for_s=400), Undecidable)


async def test_without_the_right_to_read_on_a_server_closed_to_strangers_a_person_has_to_look(start: Start) -> None:
    case = await start("mastodon", scopes=WRITES_ONLY)
    await case.publish()
    case.sandbox.configure("mastodon", closed=True)
    try:
        assert isinstance(await case.look(absent_for_s=40), Undecidable)
    finally:
        case.sandbox.configure("mastodon", closed=False)


@pytest.mark.parametrize("network", ["mastodon", "gotosocial"])
async def test_refused_uploads_lead_to_the_post_that_already_has_them(network: str, start: Start) -> None:
    case = await start(network)
    first = await case.publish()
    case.changed(idempotency_key="another key: an hour later the first one is forgotten")
    again = await case.commit()
    assert again.remote_id == first.remote_id
    assert case.times_out() == 1


async def test_uploads_that_are_gone_are_made_anew(start: Start) -> None:
    case = await start("mastodon")
    await case.prepare()
    case.staged.uploads[0].remote_id = "109999999999999999"
    with pytest.raises(StageLost):
        await case.commit()
    assert case.times_out() == 0


async def test_uploads_that_grew_too_old_are_made_anew(start: Start) -> None:
    case = await start("pixelfed")
    await case.prepare()
    before = case.staged.uploads[0].remote_id
    case.staged.uploads[0].uploaded_at -= timedelta(minutes=86)
    await case.prepare()
    assert [one.remote_id for one in case.staged.uploads] != [before]


async def test_it_waits_for_an_upload_that_is_still_processed_and_keeps_its_id(start: Start) -> None:
    case = await start("mastodon")
    case.fault("still_processing", polls=1)
    with pytest.raises(NotReady):
        await case.prepare()
    kept = case.checkpoints[-1]["uploads"][0]["remote_id"]
    case.staged = case.platform.staged_model.model_validate(case.checkpoints[-1])
    while not case.staged.uploads[0].ready:
        try:
            await case.prepare()
        except NotReady:
            case.staged = case.platform.staged_model.model_validate(case.checkpoints[-1])
    assert case.staged.uploads[0].remote_id == kept
    assert (await case.commit()).notes == ()


async def test_it_says_when_the_server_left_out_a_picture_or_changed_who_sees_it(start: Start) -> None:
    case = await start("mastodon-4.1", pictures=2)
    case.fault("drop_media")
    case.fault("change_visibility", to="unlisted")
    receipt = await case.publish()
    assert "without 2 of its 2 pictures" in (receipt.shortfall or "")
    assert any("unlisted" in note for note in receipt.notes)


async def test_an_upload_is_as_old_as_the_database_says_whatever_the_workers_clock(start: Start) -> None:
    """This machine's clock is an hour behind the database's, by which all workers go."""
    case = await start("mastodon")
    case.fault("still_processing", polls=2)
    case.changed(gathered_at=utc_now() + timedelta(hours=1))
    for _ in range(2):
        with pytest.raises(NotReady):
            await case.prepare()
        case.staged = case.platform.staged_model.model_validate(case.checkpoints[-1])
    assert abs(case.staged.uploads[0].uploaded_at - case.outgoing.now()) < timedelta(minutes=5)


async def test_an_earlier_fault_that_is_answered_again_has_used_up_the_key(start: Start) -> None:
    """Akkoma keeps answers to a key, faults too: the same key would get this one for hours."""
    case = await start("akkoma", pictures=0)
    await case.prepare()
    case.fault_at_commit("status", status=500, body="json", headers={"Idempotent-Replayed": "true"})
    with pytest.raises(OutcomeUnknown) as caught:
        await case.commit()
    verdict = await case.look(absent_for_s=40, error_code=caught.value.code)
    assert isinstance(verdict, SafeToResend)
    assert verdict.new_key
    verdict = await case.look(absent_for_s=40, error_code="answer_lost")
    assert isinstance(verdict, SafeToResend)
    assert not verdict.new_key
