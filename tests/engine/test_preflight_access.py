"""While composing: what is said of an account that will not reach the post's date, or whose server keeps silent."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.models import Content, NewPost
from postflow.posts import preflight
from sandbox import Sandbox
from tests.engine.conftest import an_account

NOW = datetime(2027, 3, 1, 9, 0, tzinfo=UTC)


@pytest.fixture
async def account(db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int) -> int:
    account_id = await an_account(db, engine, sandbox, ada, "mastodon", "preflight")
    db.execute("UPDATE servers SET fetched_at = %s", [NOW])
    return account_id


def said(
    conn: psycopg.Connection, settings: config.Settings, user_id: int, account_id: int, *, now: datetime = NOW
) -> list[tuple[str, str, bool]]:
    """Of a post in five days: (field, sentence, does it stop anyone)."""
    new = NewPost(
        content=Content(text="in five days", language="en"),
        account_ids=(account_id,),
        post_date=now + timedelta(days=5),
        time_zone="UTC",
    )
    found = preflight.check(conn, user_id, new, now=now)
    return [(one.problem.field, one.problem.sentence, one.problem.blocking) for one in found]


def test_an_account_in_order_is_not_spoken_of(
    db: psycopg.Connection, settings: config.Settings, ada: int, account: int
) -> None:
    assert said(db, settings, ada, account) == []
    db.execute("UPDATE accounts SET token_expires_at = %s", [NOW + timedelta(days=6)])
    assert said(db, settings, ada, account) == []


def test_access_that_ends_before_the_post_is_said_with_its_day(
    db: psycopg.Connection, settings: config.Settings, ada: int, account: int
) -> None:
    db.execute("UPDATE accounts SET token_expires_at = %s", [NOW + timedelta(days=4)])
    [(field, sentence, stops)] = said(db, settings, ada, account)
    assert (field, stops) == ("post_date", False)
    assert sentence.startswith("Its access ends on 5 March 2027, before this post. It is renewed in time by itself")


def test_access_that_could_not_be_renewed_asks_to_connect_again_before_that_day(
    db: psycopg.Connection, settings: config.Settings, ada: int, account: int
) -> None:
    db.execute("UPDATE accounts SET token_expires_at = %s, state_reason = 'Refused.'", [NOW + timedelta(days=4)])
    [(_, sentence, stops)] = said(db, settings, ada, account)
    assert sentence.endswith("could not be renewed. Connect it again before that.") and not stops


def test_a_post_may_be_scheduled_on_an_account_that_must_be_connected_again_and_waits_for_it(
    db: psycopg.Connection, settings: config.Settings, ada: int, account: int
) -> None:
    db.execute("UPDATE accounts SET state = 'needs_reconnect', state_reason = 'Gone.'")
    assert said(db, settings, ada, account) == [
        ("accounts", "It must be connected again: until then this post waits for it.", False)
    ]


def test_a_server_that_has_kept_silent_for_days_is_named(
    db: psycopg.Connection, settings: config.Settings, ada: int, account: int
) -> None:
    assert said(db, settings, ada, account, now=NOW + timedelta(days=2)) == []
    [(field, sentence, stops)] = said(db, settings, ada, account, now=NOW + timedelta(days=4))
    assert (field, stops) == ("accounts", False)
    assert sentence.startswith("Its server has not answered since 1 March 2027.")
