"""The database itself refuses rows that make no sense, whoever writes them: each CHECK and each promise of "once"."""

import psycopg
import pytest
from psycopg import errors

from postflow import config
from postflow.engine import Engine
from postflow.models import Delivery
from sandbox import Sandbox
from tests.engine.conftest import a_picture, a_user, an_account, scheduled

ROW = "UPDATE deliveries SET"
SENDING = f"{ROW} status = 'sending'"
STAGED, CLAIMED = "staged = '{}'", "claim = 'mine'"
INTENT = "attempt_no = 1, sent_at = now(), first_sent_at = now()"
RUN = "INSERT INTO periodic_runs (name, label, cron, next_at, ended_at, outcome) VALUES ('x', 'x', '* * * * *', now(),"
#: By constraint, what only it refuses.
NONSENSE = {
    "deliveries_status_check": f"{ROW} status = 'elsewhere', wake_at = NULL",
    "deliveries_moving_have_a_wake": f"{ROW} wake_at = NULL",
    "deliveries_claimed_while_worked_on": f"{ROW} status = 'preparing'",
    "deliveries_ready_is_staged": f"{ROW} status = 'ready'",
    "deliveries_intent_before_sending": f"{SENDING}, {STAGED}, {CLAIMED}",
    "deliveries_published_at": f"{ROW} status = 'published', wake_at = NULL",
    "deliveries_say_why": f"{ROW} status = 'failed', wake_at = NULL",
    "accounts_state_check": "UPDATE accounts SET state = 'asleep'",
    "accounts_active_has_credentials": "UPDATE accounts SET sealed = NULL",
    "accounts_disconnected_forgets": "UPDATE accounts SET state = 'disconnected'",
    "posts_grace_s_check": "UPDATE posts SET grace_s = -1",
    "posts_have_a_date_or_are_drafts": "UPDATE posts SET post_date = NULL",
    "users_email_is_lower": "UPDATE users SET email = 'Ada@example.org'",
    "periodic_runs_outcome_check": f"{RUN} now(), 'so so')",
    "periodic_runs_end_with_an_outcome": f"{RUN} now(), NULL)",
    "media_kind_check": "UPDATE media SET kind = 'scent'",
    "lineage_one_check": "UPDATE lineage SET one = false",
}
#: The other half of what is tied together: a state that has ended, but still waits or claims to be out.
ALSO = [
    ("deliveries_moving_have_a_wake", f"{ROW} status = 'cancelled'"),
    ("deliveries_published_at", f"{ROW} published_at = now()"),
    ("deliveries_intent_before_sending", f"{ROW} status = 'unknown'"),
    ("deliveries_claimed_while_worked_on", f"{SENDING}, {STAGED}, {INTENT}"),
    ("deliveries_ready_is_staged", f"{SENDING}, {CLAIMED}, {INTENT}"),
    ("periodic_runs_end_with_an_outcome", f"{RUN} NULL, 'done')"),
    ("deliveries_say_why", f"{ROW} status = 'attention', wake_at = NULL"),
    ("deliveries_say_why", f"{ROW} status = 'missed', wake_at = NULL"),
]


@pytest.fixture
async def delivery(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> Delivery:
    """One of everything."""
    account = await an_account(db, engine, sandbox, ada, "mastodon", "constrained")
    [delivery] = scheduled(db, settings, ada, (account,), "makes sense", media=(a_picture(db, ada),))
    return delivery


def test_every_check_of_ours_is_tried(db: psycopg.Connection) -> None:
    there = db.execute(
        "SELECT conname FROM pg_constraint WHERE contype = 'c' AND connamespace = 'public'::regnamespace"
        " AND conrelid::regclass::text NOT LIKE 'procrastinate%'"
    ).fetchall()
    assert {row[0] for row in there} == set(NONSENSE)


@pytest.mark.parametrize(("constraint", "statement"), [*NONSENSE.items(), *ALSO])
def test_nonsense_is_refused_by_its_check(
    constraint: str, statement: str, db: psycopg.Connection, delivery: Delivery
) -> None:
    with pytest.raises(errors.CheckViolation) as refused:
        db.execute(statement.encode())
    assert refused.value.diag.constraint_name == constraint


async def test_two_posts_of_one_account_are_never_sent_at_once(
    db: psycopg.Connection, settings: config.Settings, ada: int, delivery: Delivery
) -> None:
    scheduled(db, settings, ada, (delivery.account_id,), "at the same time")
    with pytest.raises(errors.UniqueViolation) as refused:
        db.execute(f"{SENDING}, {STAGED}, {CLAIMED}, {INTENT}".encode())
    assert refused.value.diag.constraint_name == "deliveries_one_sending_per_account"


async def test_two_deliveries_never_claim_the_same_status_on_the_network(
    db: psycopg.Connection, settings: config.Settings, ada: int, delivery: Delivery
) -> None:
    scheduled(db, settings, ada, (delivery.account_id,), "mine, too")
    with pytest.raises(errors.UniqueViolation) as refused:
        db.execute(f"{ROW} remote_id = '1'".encode())
    assert refused.value.diag.constraint_name == "deliveries_one_owner_per_status"


@pytest.mark.parametrize("status", ["sending", "unknown"])
async def test_two_posts_alike_to_one_account_of_a_network_are_never_in_doubt_at_once(
    status: str, db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, bob: int
) -> None:
    """Whoever of us has connected it."""
    ada = a_user(db, "another-ada@example.org")
    for person in (ada, bob):
        account = await an_account(db, engine, sandbox, person, "mastodon", "connected-twice")
        scheduled(db, settings, person, (account,), "alike")
    with pytest.raises(errors.UniqueViolation) as refused:
        db.execute(f"{ROW} status = '{status}', {STAGED}, {CLAIMED}, {INTENT}, likeness = 'x'".encode())
    assert refused.value.diag.constraint_name == "deliveries_one_alike_in_doubt"


async def test_a_post_goes_to_an_account_once(db: psycopg.Connection, delivery: Delivery) -> None:
    again = (
        "INSERT INTO deliveries (post_id, account_id, revision, wake_at)"
        " SELECT post_id, account_id, revision, wake_at FROM deliveries"
    )
    with pytest.raises(errors.UniqueViolation) as refused:
        db.execute(again)
    assert refused.value.diag.constraint_name == "deliveries_once"
