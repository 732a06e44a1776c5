"""When a delivery may go, told from all that is known of it: at the boundaries, too, which no clock meets twice."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from postflow import config, jobs, platforms
from postflow.models import AccountState, DeliveryStatus
from postflow.publishing import turns
from postflow.publishing.turns import Says, Timing, Turn

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MOMENT, HOUR = timedelta(microseconds=1), timedelta(hours=1)
HEAD_START = timedelta(seconds=jobs.HEAD_START_S + jobs.MARGIN_S)
GRACE = timedelta(seconds=3600)
SETTINGS = config.load(
    {
        "DATABASE_URL": "postgresql://nobody@localhost/none",
        "POSTFLOW_SECRET_KEY": "s" * 40,
        "POSTFLOW_ENCRYPTION_KEYS": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        "POSTFLOW_GRACE_S": "3600",
    }
)


def known(**more: Any) -> Timing:
    """Of a delivery that is due at this very moment."""
    due = {
        "now": NOW,
        "delivery_id": 1,
        "account_id": 1,
        "has_history": True,
        "status": "scheduled",
        "status_at": NOW,
        "post_date": NOW,
        "asked_at": None,
        "post_grace_s": None,
        "not_before": None,
        "staged_at": None,
        "first_sent_at": None,
        "platform": "mastodon",
        "account_state": "active",
        "throttled_until": None,
        "ahead": None,
        "part_before": None,
    }
    return Timing.model_validate(due | more)


def turn(**more: Any) -> Turn:
    return known(**more).turn(SETTINGS)


@pytest.mark.parametrize("status", DeliveryStatus)
def test_only_what_is_scheduled_or_ready_has_a_turn(status: DeliveryStatus) -> None:
    goes = status in (DeliveryStatus.scheduled, DeliveryStatus.ready)
    assert turn(status=status) == Turn(Says.go if goes else Says.nothing, NOW)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        (AccountState.active, Says.go),
        (AccountState.needs_reconnect, Says.nothing),
        (AccountState.disconnected, Says.cut_off),
    ],
)
def test_an_account_that_cannot_be_used_holds_it_and_one_that_is_gone_ends_it(state: AccountState, says: Says) -> None:
    assert turn(account_state=state) == Turn(says, NOW)
    assert known(account_state=state).account_is_active is (says is Says.go)


def test_where_something_may_be_forgotten_it_is_looked_at_first_whatever_else_is_known() -> None:
    late, gone = NOW - 2 * GRACE, AccountState.disconnected
    assert turn(has_history=False, status="sending", account_state=gone, post_date=late) == Turn(Says.look, NOW)


@pytest.mark.parametrize("early", [timedelta(0), MOMENT, HEAD_START])
def test_moments_before_its_instant_it_goes_and_waits_for_it_on_its_way(early: timedelta) -> None:
    assert turn(post_date=NOW + early) == Turn(Says.go, NOW + early)


@pytest.mark.parametrize("early", [HEAD_START + MOMENT, timedelta(days=1)])
def test_before_that_it_is_to_come_back(early: timedelta) -> None:
    assert turn(post_date=NOW + early) == Turn(Says.wait, NOW + early)


@pytest.mark.parametrize("what", ["not_before", "throttled_until", "turn_at"])
def test_it_waits_for_the_last_of_all_that_holds_it(what: str) -> None:
    others = {"not_before": NOW + 1 * HOUR, "throttled_until": NOW + 1 * HOUR, "turn_at": NOW + 1 * HOUR}
    assert turn(**others | {what: NOW + 2 * HOUR}) == Turn(Says.wait, NOW + 2 * HOUR)


def test_it_is_too_late_when_it_is_later_than_the_grace() -> None:
    assert turn(post_date=NOW - GRACE).says is Says.go
    assert turn(post_date=NOW - GRACE - MOMENT) == Turn(Says.too_late, NOW)


@pytest.mark.parametrize("grace_s", [0, 60])
def test_a_posts_own_grace_counts_more(grace_s: int) -> None:
    grace = timedelta(seconds=grace_s)
    assert turn(post_grace_s=grace_s, post_date=NOW - grace).says is Says.go
    assert turn(post_grace_s=grace_s, post_date=NOW - grace - MOMENT).says is Says.too_late


def test_it_is_late_by_what_was_asked_for_last() -> None:
    assert known(post_date=NOW - HOUR).lateness_s == 3600
    asked_for = known(post_date=NOW - 9 * HOUR, asked_at=NOW - HOUR)
    assert (asked_for.since, asked_for.lateness_s) == (NOW - HOUR, 3600)
    moved = known(post_date=NOW + HOUR, asked_at=NOW - HOUR)
    assert (moved.since, moved.lateness_s) == (NOW + HOUR, -3600)


def test_it_counts_as_late_after_a_minute() -> None:
    minute = timedelta(seconds=turns.LATE_S)
    assert known(post_date=NOW - minute).is_late is False
    assert known(post_date=NOW - minute - MOMENT).is_late is True
    assert known(post_date=NOW + HOUR).is_late is False


def test_a_pause_ends_with_the_last_of_them() -> None:
    assert known().pause_ends == NOW
    assert known(not_before=NOW - HOUR, throttled_until=NOW - HOUR).pause_ends == NOW
    assert known(not_before=NOW + HOUR).pause_ends == NOW + HOUR
    assert known(not_before=NOW + HOUR, throttled_until=NOW + 2 * HOUR).pause_ends == NOW + 2 * HOUR


@pytest.mark.parametrize("network", ["mastodon", "pixelfed", "instagram"])
def test_what_was_prepared_is_too_old_after_the_networks_own_time(network: str) -> None:
    life = timedelta(seconds=platforms.get(network).staged_life_s)
    kept = known(platform=network, staged_at=NOW)
    assert kept.is_stale(NOW + life) is False
    assert kept.is_stale(NOW + life + MOMENT) is True


def test_what_may_be_out_or_was_never_prepared_or_is_unknown_here_is_not_too_old() -> None:
    assert known(staged_at=NOW, first_sent_at=NOW).is_stale(NOW + 9999 * HOUR) is False
    assert known().is_stale(NOW + 9999 * HOUR) is False
    assert known(platform="none of ours", staged_at=NOW).is_stale(NOW + 9999 * HOUR) is False
