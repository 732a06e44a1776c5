"""All that can be said in a post, held field by field against what the network has in the end."""

from typing import Any

import pytest

from postflow.models import Content, Focus, Poll, Visibility
from tests.platforms.conftest import Case, Start
from tests.platforms.networks import NETWORKS

FAMILY = [one.name for one in NETWORKS if one.platform == "mastodon"]
POLL = Poll(options=("yes", "no", "🏳️‍🌈"), expires_in_s=3600, multiple=True, hide_totals=True)


def there(case: Case) -> Any:
    (status,) = case.sandbox.ledger.statuses(account=case.account)
    return status


@pytest.mark.parametrize("network", [*FAMILY, "pixelfed"])
async def test_pictures_descriptions_focus_warning_visibility_and_language_arrive(network: str, start: Start) -> None:
    case = await start(
        network, pictures=3, spoiler_text="spiders", visibility=Visibility.unlisted, language="pt", sensitive=True
    )
    first, *others = case.outgoing.media
    case.changed(media=(first.model_copy(update={"focus": Focus(x=-0.25, y=0.5)}), *others))
    receipt = await case.publish()
    status, limits = there(case), case.outgoing.server.limits
    assert (status.text, status.spoiler_text) == (case.outgoing.content.text, "spiders")
    assert (status.visibility, status.sensitive) == ("unlisted", True)
    assert [one.alt_text for one in status.media] == ["Picture 0", "Picture 1", "Picture 2"]
    assert status.idempotency_key == case.outgoing.idempotency_key
    if limits.focus:
        assert status.media[0].focus == (-0.25, 0.5)
        assert status.media[1].focus is None
    if limits.language:
        assert status.language == "pt"
    assert receipt.notes == ()


@pytest.mark.parametrize("network", FAMILY)
async def test_a_poll_arrives_with_its_answers_end_and_manners(network: str, start: Start) -> None:
    case = await start(network, pictures=0, poll=POLL)
    offered = case.outgoing.server.limits.polls
    if offered is None:
        assert network == "snac"
        problems = case.platform.check(
            case.outgoing.content, [], case.outgoing.server, case.outgoing.login.account, is_reply=False
        )
        assert any(problem.field == "poll" and problem.blocking for problem in problems)
        return
    receipt = await case.publish()
    poll = there(case).poll
    assert poll["options"] == list(POLL.options)
    assert (poll["expires_in"], poll["multiple"], poll["hide_totals"]) == (3600, True, True)
    assert receipt.notes == ()


@pytest.mark.parametrize("network", [*FAMILY, "pixelfed"])
async def test_a_thread_hangs_together_and_keeps_who_may_see_it(network: str, start: Start) -> None:
    case = await start(network, visibility=Visibility.unlisted)
    first = await case.publish()
    ids = [first.remote_id]
    for number in (2, 3):
        case.staged = None
        content = Content(text=f"part {number}", visibility=Visibility.unlisted)
        case.changed(content=content, media=(), reply_to_remote_id=ids[-1], idempotency_key=f"{case.account}-{number}")
        receipt = await case.publish()
        assert receipt.notes == ()
        ids.append(receipt.remote_id)
    one, two, three = case.sandbox.ledger.statuses(account=case.account)
    assert [one.in_reply_to_id, two.in_reply_to_id, three.in_reply_to_id] == [None, one.id, two.id]
    assert {one.visibility, two.visibility, three.visibility} == {"unlisted"}


@pytest.mark.parametrize("network", FAMILY)
async def test_a_post_of_pictures_alone_is_taken_everywhere(network: str, start: Start) -> None:
    case = await start(network, text="")
    receipt = await case.publish()
    assert len(there(case).media) == 1
    assert receipt.notes == ()


async def test_a_content_warning_on_pixelfed_is_sent_with_sensitive_or_it_would_be_dropped(start: Start) -> None:
    case = await start("pixelfed", spoiler_text="x" * 140, sensitive=False)
    await case.publish()
    assert (there(case).spoiler_text, there(case).sensitive) == ("x" * 140, True)
    longer = case.outgoing.content.model_copy(update={"spoiler_text": "x" * 141, "attachments": ()})
    problems = case.platform.check(longer, [], case.outgoing.server, case.outgoing.login.account, is_reply=True)
    assert [problem.field for problem in problems if problem.blocking] == ["spoiler_text"]


async def test_a_comment_on_pixelfed_needs_no_picture_but_a_post_does(start: Start) -> None:
    case = await start("pixelfed", pictures=0)
    parts = (case.outgoing.content, [], case.outgoing.server, case.outgoing.login.account)
    assert [one.field for one in case.platform.check(*parts, is_reply=False) if one.blocking] == ["media"]
    assert not [one for one in case.platform.check(*parts, is_reply=True) if one.blocking]


async def test_pixelfed_says_which_part_of_a_text_would_vanish(start: Start) -> None:
    case = await start("pixelfed", text="I <3 this")
    problems = case.platform.check(
        case.outgoing.content.model_copy(update={"attachments": ()}),
        [], case.outgoing.server, case.outgoing.login.account, is_reply=True,
    )  # fmt: skip
    assert [(one.blocking, "vanish" in one.sentence) for one in problems] == [(False, True)]
