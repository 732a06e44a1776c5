"""After a lost answer on Instagram: what may be taken for ours, and the one narrow case in which a container goes again."""

from datetime import timedelta
from typing import Any

import pytest

from postflow.errors import OutcomeUnknown, Unauthorized
from postflow.models import Found, LookAgain, MediaKind, SafeToResend, Undecidable, utc_now
from postflow.platforms.instagram import Instagram
from sandbox import Sandbox
from tests.platforms.conftest import Case, Start

LOGINS = ("instagram-login", "facebook-login")
SETTLED: dict[str, Any] = {"absent_for_s": 660, "sent_s_ago": 700}


def left_to_us(case: Case) -> None:
    assert isinstance(case.platform, Instagram)
    case.platform = Instagram(case.platform.settings.model_copy(update={"instagram_republish": "auto"}))


async def lost(case: Case, kind: str = "drop_before", **options: Any) -> None:
    await case.prepare()
    case.fault_at_commit(kind, **options)
    with pytest.raises(OutcomeUnknown):
        await case.commit()


async def test_a_container_goes_again_when_all_three_agree_that_it_is_not_out(start: Start) -> None:
    case = await start("instagram-login")
    left_to_us(case)
    await lost(case)
    assert isinstance(await case.look(**SETTLED, absent_looks=2), SafeToResend)
    await case.commit()
    assert case.times_out() == 1


async def test_it_never_goes_again_unless_somebody_chose_so(start: Start) -> None:
    case = await start("instagram-login")
    await lost(case)
    verdict = await case.look(**SETTLED, absent_looks=9)
    assert isinstance(verdict, Undecidable)
    assert "may be behind" in verdict.why


async def test_ten_minutes_of_looks_are_waited_for(start: Start) -> None:
    case = await start("instagram-login")
    left_to_us(case)
    await lost(case)
    for absence in ({"absent_for_s": 500, "absent_looks": 9}, {"absent_for_s": 660, "absent_looks": 1}):
        verdict = await case.look(sent_s_ago=900, **absence)
        assert isinstance(verdict, LookAgain)
        assert verdict.absent


async def test_a_status_and_a_listing_that_lag_do_not_lead_to_a_second_post(start: Start) -> None:
    """The quota counts the post although neither container nor listing show it."""
    case = await start("instagram-login")
    left_to_us(case)
    case.fault_at_commit("status_lag", seconds=7200)
    await lost(case, "drop_after_commit")
    assert isinstance(await case.look(**SETTLED, absent_looks=9), LookAgain)
    assert isinstance(await case.look(absent_for_s=1900, sent_s_ago=1900, absent_looks=30), Undecidable)
    assert case.times_out() == 1


async def test_the_accounts_other_posts_are_told_from_this_one_in_the_count(start: Start, sandbox: Sandbox) -> None:
    case = await start("instagram-login")
    left_to_us(case)
    await case.publish()
    (other,) = sandbox.ledger.statuses(account=case.account)
    case.staged = None
    case.changed(content=case.outgoing.content.model_copy(update={"text": "the one that got lost"}))
    await lost(case)
    known = {"taken": frozenset({other.id}), "absent_looks": 9}
    assert isinstance(await case.look(**SETTLED, **known), LookAgain)  # it may not be in the count yet
    sandbox.network.store.statuses[other.id].created_at -= 700
    first = utc_now() - timedelta(seconds=720)
    assert isinstance(await case.look(**SETTLED, **known, first_sent_at=first), SafeToResend)
    # Of the very second in which the count begins: it is listed as well.
    first = first.replace(microsecond=900_000)
    sandbox.network.store.statuses[other.id].created_at = int(first.timestamp()) - 60 + 0.2
    assert isinstance(await case.look(**SETTLED, **known, first_sent_at=first), SafeToResend)


async def test_a_quota_that_cannot_be_read_is_no_proof(start: Start) -> None:
    case = await start("instagram-login")
    left_to_us(case)
    await lost(case)
    case.fault("graph_error", code=2, path="content_publishing_limit$", times=None)
    assert isinstance(await case.look(**SETTLED, absent_looks=9), LookAgain)
    day = 86500
    assert isinstance(await case.look(absent_for_s=day, sent_s_ago=day, absent_looks=99), Undecidable)


async def test_a_container_that_may_be_out_by_now_is_asked_before_it_goes_again(start: Start, sandbox: Sandbox) -> None:
    """Where publishing it a second time makes a second post."""
    sandbox.configure("instagram-login", second_publish="again")
    case = await start("instagram-login")
    await lost(case, "drop_after_commit")
    case.changed(sent_ago_s=900.0)
    with pytest.raises(OutcomeUnknown):
        await case.commit()
    assert case.times_out() == 1
    assert isinstance(await case.look(), Found)


async def test_a_container_that_may_be_out_is_never_replaced_and_an_old_one_that_is_not_is(start: Start) -> None:
    case = await start("instagram-login")
    await case.prepare()
    first = case.staged.parent.remote_id
    case.staged.parent.created_at -= timedelta(hours=21)
    case.changed(sent_ago_s=900.0)
    assert (await case.prepare()).parent.remote_id == first
    case.changed(sent_ago_s=None)
    assert (await case.prepare()).parent.remote_id != first


async def test_what_is_published_and_cannot_be_listed_is_published_all_the_same(start: Start) -> None:
    case = await start("instagram-login")
    await lost(case, "drop_after_commit")
    case.fault("graph_error", code=2, path="/media$", method="GET", times=None)
    verdict = await case.look(looks=4)
    assert isinstance(verdict, Found)
    assert verdict.receipt.remote_id is None


async def test_a_container_near_its_end_is_left_to_the_person(start: Start) -> None:
    case = await start("instagram-login")
    left_to_us(case)
    await lost(case)
    case.staged.parent.created_at -= timedelta(hours=21)
    assert isinstance(await case.look(**SETTLED, absent_looks=9), Undecidable)


@pytest.mark.parametrize("login", LOGINS)
async def test_a_container_that_is_not_found_is_told_by_the_listing(start: Start, login: str) -> None:
    case = await start(login)
    await lost(case, "drop_after_commit")
    case.fault("graph_error", code=100, subcode=33, path=rf"/{case.staged.parent.remote_id}$", times=None)
    assert isinstance(await case.look(), Found)


async def test_a_container_that_is_not_found_nor_listed_is_a_question_for_the_person(start: Start) -> None:
    case = await start("instagram-login")
    left_to_us(case)
    await lost(case)
    case.fault("graph_error", code=100, subcode=33, path=rf"/{case.staged.parent.remote_id}$", times=None)
    first = await case.look()
    assert isinstance(first, LookAgain)
    assert not first.absent
    assert isinstance(await case.look(**SETTLED, absent_looks=9), Undecidable)


async def test_what_is_published_but_not_listed_gets_its_link_looked_for_a_few_times(
    start: Start, sandbox: Sandbox
) -> None:
    case = await start("instagram-login")
    await lost(case, "drop_after_commit")
    (status,) = sandbox.ledger.statuses(account=case.account)
    sandbox.network.store.statuses[status.id].visible_at += 3600
    assert isinstance(await case.look(looks=3), LookAgain)
    verdict = await case.look(looks=4)
    assert isinstance(verdict, Found)
    assert verdict.receipt.remote_id is None
    assert verdict.receipt.notes


async def test_it_is_found_behind_fifty_newer_posts(start: Start, sandbox: Sandbox) -> None:
    case = await start("instagram-login")
    await lost(case, "drop_after_commit")
    (ours,) = sandbox.ledger.statuses(account=case.account)
    wanted = case.outgoing
    for number in range(55):
        case.changed(content=wanted.content.model_copy(update={"text": f"another {number}"}))
        case.staged = None
        await case.publish()
    case.changed(content=wanted.content)
    verdict = await case.look()
    assert isinstance(verdict, Found)
    assert verdict.receipt.remote_id == ours.id


async def test_the_same_words_under_another_kind_of_post_are_not_ours(start: Start) -> None:
    other = await start("instagram-login", pictures=2)
    await other.publish()
    case = await start("instagram-login")
    case.changed(
        login=other.outgoing.login,
        content=case.outgoing.content.model_copy(update={"text": other.outgoing.content.text}),
    )
    await lost(case)
    assert not isinstance(await case.look(), Found)


async def test_a_carousel_is_told_by_its_number_of_pictures(start: Start) -> None:
    other = await start("instagram-login", pictures=2)
    await other.publish()
    case = await start("instagram-login", pictures=3, text=other.outgoing.content.text)
    case.changed(login=other.outgoing.login)
    await lost(case)
    assert not isinstance(await case.look(), Found)
    case.sandbox.faults.clear()
    receipt = await case.commit()
    found = await case.look()
    assert isinstance(found, Found)
    assert found.receipt.remote_id == receipt.remote_id


async def test_what_was_there_before_the_first_send_is_not_ours(start: Start) -> None:
    case = await start("instagram-login")
    await case.publish()
    verdict = await case.look(first_sent_at=utc_now() + timedelta(minutes=2))
    assert not (isinstance(verdict, Found) and verdict.receipt.remote_id)


async def test_a_story_is_found_among_the_stories_once_its_container_says_so(start: Start, sandbox: Sandbox) -> None:
    case = await start("instagram-login", options={"instagram": {"kind": "story"}})
    await lost(case, "drop_after_commit")
    verdict = await case.look()
    assert isinstance(verdict, Found)
    assert verdict.receipt.remote_id == sandbox.ledger.statuses(account=case.account)[0].id


async def test_somebody_elses_story_is_not_taken_for_ours(start: Start) -> None:
    """Stories have no caption: one of the person's own, from the phone, looks just like it."""
    other = await start("instagram-login", options={"instagram": {"kind": "story"}})
    await other.publish()
    case = await start("instagram-login", options={"instagram": {"kind": "story"}})
    case.changed(login=other.outgoing.login)
    left_to_us(case)
    await lost(case)
    assert isinstance(await case.look(), LookAgain)
    verdict = await case.look(**SETTLED, absent_looks=9)
    assert isinstance(verdict, Undecidable)
    assert "whether it is this post" in verdict.why


async def test_a_story_that_never_left_goes_again_only_when_no_story_was_counted(start: Start) -> None:
    case = await start("instagram-login", options={"instagram": {"kind": "story"}})
    left_to_us(case)
    await lost(case)
    assert isinstance(await case.look(**SETTLED, absent_looks=2), SafeToResend)


async def test_the_persons_token_looks_where_the_pages_is_not_let_in(start: Start, sandbox: Sandbox) -> None:
    case = await start("facebook-login")
    await lost(case, "drop_after_commit")
    page_token = case.outgoing.login.credentials.access_token.get_secret_value()
    sandbox.network.store.tokens[page_token].revoked = True
    assert isinstance(await case.look(), Found)


async def test_the_pages_token_counts_when_the_persons_is_dead(start: Start, sandbox: Sandbox) -> None:
    """A container that is not found stays a container that is not found: nobody needs to connect again."""
    case = await start("facebook-login")
    await lost(case, "drop_after_commit")
    person = case.outgoing.login.credentials.user_token.get_secret_value()
    sandbox.network.store.tokens[person].revoked = True
    case.fault("graph_error", code=100, subcode=33, path=rf"/{case.staged.parent.remote_id}$", times=None)
    assert isinstance(await case.look(), Found)


async def test_two_dead_tokens_ask_to_reconnect(start: Start, sandbox: Sandbox) -> None:
    case = await start("facebook-login")
    await lost(case)
    for token in sandbox.network.store.tokens.values():
        token.revoked = token.revoked or case.account in token.account_ids
    with pytest.raises(Unauthorized):
        await case.look()


async def test_a_throttled_look_waits_as_long_as_it_is_told(start: Start) -> None:
    case = await start("instagram-login")
    await lost(case)
    case.fault("rate_limit", method="GET", style="instagram", seconds=420)
    verdict = await case.look()
    assert isinstance(verdict, LookAgain)
    assert verdict.in_s == 420


async def test_after_a_day_without_an_answer_a_person_is_asked(start: Start) -> None:
    case = await start("instagram-login")
    await lost(case)
    case.fault("status", method="GET", status=503, times=None)
    assert isinstance(await case.look(sent_s_ago=25 * 3600), Undecidable)


async def test_a_picture_with_the_same_words_is_not_taken_for_a_reel(start: Start) -> None:
    case = await start("instagram-login")
    receipt = await case.publish()
    (media,) = case.outgoing.media
    case.changed(media=(media.model_copy(update={"kind": MediaKind.video}),))
    verdict = await case.look()
    assert not (isinstance(verdict, Found) and verdict.receipt.remote_id == receipt.remote_id)


async def test_an_answer_without_a_list_is_no_empty_list(start: Start) -> None:
    """Container and quota may both be behind; then the listing is all there is."""
    case = await start("instagram-login")
    left_to_us(case)
    await lost(case)
    for text in ("{}", '{"data": null}', '{"data": {}}'):
        case.sandbox.faults.clear()
        case.fault("garbage", method="GET", path=r"/media$", text=text)
        verdict = await case.look(**SETTLED, absent_looks=9)
        assert isinstance(verdict, LookAgain)
        assert verdict.absent is None
    assert isinstance(await case.look(**SETTLED, absent_looks=9), SafeToResend)


async def test_a_list_that_does_not_reach_what_was_there_before_is_waited_for_and_proves_nothing(start: Start) -> None:
    case = await start("instagram-login")
    left_to_us(case)
    await case.publish()  # an older post of the account
    case.staged = None
    case.changed(content=case.outgoing.content.model_copy(update={"text": "the one that got lost"}))
    await lost(case)
    case.fault("short_list", times=None)
    verdict = await case.look(**SETTLED, absent_looks=9)
    assert isinstance(verdict, LookAgain)
    assert verdict.absent is None
    assert isinstance(await case.look(absent_for_s=1900, sent_s_ago=1900, absent_looks=30), Undecidable)


async def test_what_is_pinned_to_the_top_does_not_hide_what_is_new(start: Start, sandbox: Sandbox) -> None:
    """However the account's posts are sorted: up to three older ones may come first."""
    case = await start("instagram-login")
    ours = case.outgoing
    for number in range(3):
        case.staged = None
        case.changed(content=ours.content.model_copy(update={"text": f"pinned {number}"}))
        await case.publish()
    case.staged = None
    case.changed(content=ours.content)
    await lost(case, "drop_after_commit")
    posts = sandbox.network.store.by_account[case.account]
    for older in posts[:3]:
        older.created_at -= 86400
    posts[:] = [posts[3], *posts[:3]]
    assert isinstance(await case.look(), Found)


async def test_where_another_post_has_the_same_words_the_person_is_asked(start: Start) -> None:
    case = await start("instagram-login")
    await lost(case, "drop_after_commit")
    verdict = await case.look(rivalled=True, **SETTLED)
    assert not (isinstance(verdict, Found) and verdict.receipt.remote_id)


NONSENSE = (
    "{}", '{"data": null}', '{"data": "x"}', '{"data": [5, null, "x", []]}', '{"data": [{}]}', '{"data": {"id": "1"}}',
    '{"data": [{"quota_usage": "0", "config": []}]}', '{"data": [{"id": null, "children": 5, "timestamp": 7}]}',
    '{"paging": "x"}', '{"data": [], "paging": {"next": "y", "cursors": 5}}', '{"status_code": 5, "status": []}',
)  # fmt: skip


@pytest.mark.parametrize("text", NONSENSE)
async def test_answers_of_an_unexpected_shape_prove_nothing(start: Start, text: str) -> None:
    """Whatever is read wrongly, a post that is out is not sent again."""
    case = await start("facebook-login", pictures=2)
    left_to_us(case)
    case.fault("garbage", path="content_publishing_limit$", text=text)
    await lost(case, "drop_after_commit")
    for path in (r"/media$", "content_publishing_limit$", rf"/{case.staged.parent.remote_id}$"):
        case.fault("garbage", method="GET", path=path, text=text, times=None)
    verdict = await case.look(**SETTLED, absent_looks=9)
    assert not isinstance(verdict, SafeToResend)
