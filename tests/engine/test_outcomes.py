"""What is written down when a request has ended: the row, its story, and who is woken by it, in one transaction."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from structlog.testing import capture_logs

from postflow import config
from postflow.engine import Engine
from postflow.errors import NotReady, OutcomeUnknown, PublishError, Refused, Retry, StageLost, Throttled, Unauthorized
from postflow.models import Delivery, Receipt
from postflow.publishing import outcomes, outgoing, preparing, sending, transitions
from sandbox import Sandbox
from tests.engine.conftest import scheduled, status_of
from tests.engine.test_kept import answering_badly, gone

COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}


async def being_sent(
    db: psycopg.Connection, engine: Engine, ada: int, account: int, text: str = "under way", **changed: int
) -> Delivery:
    """Its request has left, as far as the row knows; no job is left. The claim is "mine"."""
    [made] = scheduled(db, engine.settings, ada, (account,), text)
    ready = await preparing.prepare(engine, made.id)
    assert ready
    async with engine.pool.connection() as conn:
        sent = await transitions.claim_to_send(conn, ready, "mine", 60, text, None, pace_s=0)
    assert sent
    db.execute("DELETE FROM procrastinate_jobs")
    for column, value in changed.items():
        db.execute(f"UPDATE deliveries SET {column} = %s WHERE id = %s".encode(), [value, made.id])
    return sent.model_copy(update=changed)


def jobs(db: psycopg.Connection) -> list[tuple[str, int, datetime]]:
    return db.execute(
        "SELECT task_name, (args->>'delivery_id')::bigint, scheduled_at FROM procrastinate_jobs ORDER BY id"
    ).fetchall()


def row(db: psycopg.Connection, delivery: Delivery) -> Delivery:
    with db.cursor(row_factory=psycopg.rows.class_row(Delivery)) as cursor:
        found = cursor.execute(
            f"SELECT {transitions.COLUMNS} FROM deliveries WHERE id = %s".encode(), [delivery.id]
        ).fetchone()
    assert found
    return found


def last_line(db: psycopg.Connection, delivery: Delivery) -> tuple[str, dict[str, Any]]:
    found = db.execute(
        "SELECT sentence, detail FROM delivery_events WHERE delivery_id = %s ORDER BY id DESC LIMIT 1", [delivery.id]
    ).fetchone()
    assert found
    return found


# -- it is out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", ["with its link", "without", "without, and it is not told", "without any id"])
async def test_a_link_that_the_answer_left_out_is_asked_for_and_is_no_condition(
    answered: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, account: int
) -> None:
    [made] = scheduled(db, engine.settings, ada, (account,), "where is it?")
    out = await sending.publish(engine, made.id)
    assert out
    db.execute(
        "UPDATE deliveries SET status = 'sending', claim = 'mine', wake_at = now(), published_at = NULL, remote_id = NULL,"
        " permalink = NULL"
    )
    platform, parcel = await outgoing.gathered(engine, out, with_data=False)
    receipt = Receipt(
        remote_id=out.remote_id, permalink="https://elsewhere.example/1" if answered == "with its link" else None
    )
    if answered == "without any id":
        receipt = Receipt(remote_id=None)
    if answered == "without, and it is not told":
        sandbox.faults.add("status", method="GET", path="/api/v1/statuses/", status=502, times=None)
    assert await outcomes.published(engine, out, "mine", platform, parcel, receipt)
    links = {"with its link": "https://elsewhere.example/1", "without": out.permalink}
    assert (status_of(db, made), row(db, made).permalink) == ("published", links.get(answered))
    asked = sandbox.ledger.requests(method="GET", path=f"/api/v1/statuses/{out.remote_id}")
    assert bool(asked) == (answered in ("without", "without, and it is not told"))


@pytest.mark.parametrize("times", [1, 2])
async def test_what_was_sent_again_after_a_lost_answer_is_planned_to_be_looked_at_once_more(
    times: int, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    if times == 2:
        await outcomes.unknown(engine, sent, "mine", OutcomeUnknown("Who knows."))
        db.execute("UPDATE deliveries SET status = 'ready', wake_at = now()")
        async with engine.pool.connection() as conn:
            again = await transitions.claim_to_send(conn, row(db, sent), "mine", 60, "alike", None, pace_s=0)
        assert again
        sent = again
    assert await outcomes._write_published(engine, sent, Receipt(remote_id="1"), found=False)
    assert db.execute("SELECT count(*) FROM rechecks").fetchone() == (times - 1,)


@pytest.mark.parametrize("shortfall", [None, "It went out without its picture."])
async def test_what_the_network_left_out_is_told_to_its_person(
    shortfall: str | None, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    assert await outcomes._write_published(engine, sent, Receipt(remote_id="1", shortfall=shortfall), found=False)
    assert last_line(db, sent)[0] == " ".join(filter(None, ("Published.", shortfall)))
    assert db.execute("SELECT kind FROM notices").fetchall() == ([("delivery-incomplete",)] if shortfall else [])


@pytest.mark.parametrize(
    ("found", "sentence"), [(True, "Found on the network: it had gone out."), (False, "Published.")]
)
async def test_its_story_tells_what_was_found_from_what_was_answered(
    found: bool, sentence: str, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    platform, parcel = await outgoing.gathered(engine, sent, with_data=False)
    receipt = Receipt(remote_id="1", permalink="https://social.example/1", notes=("Seen.",) if found else ())
    done = await outcomes.published(engine, sent, None if found else "mine", platform, parcel, receipt)
    assert done and done.published_at and done.sent_at
    assert last_line(db, sent) == (sentence, {"notes": ["Seen."]} if found else {})
    assert (done.published_at == done.sent_at) == found, "what is found went out when it was sent"


@pytest.mark.parametrize(
    ("receipt", "where"),
    [
        (Receipt(remote_id="7", permalink="https://social.example/7"), "https://social.example/7"),
        (Receipt(remote_id="7"), "7"),
        (Receipt(remote_id=None), "an address that is not known"),
    ],
)
async def test_an_answer_to_an_earlier_request_is_a_line_of_the_story_that_says_where(
    receipt: Receipt, where: str, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    db.execute("UPDATE deliveries SET attempt_no = 2")
    platform, parcel = await outgoing.gathered(engine, sent, with_data=False)
    assert await outcomes.published(engine, sent, "mine", platform, parcel, receipt) is None
    assert status_of(db, sent) == "sending"
    assert last_line(db, sent)[0] == f"An earlier request for it was answered after all: it is out as {where}."


@pytest.mark.parametrize("remote_id", ["8", None])
async def test_what_is_out_as_another_status_is_told_and_not_taken_for_this_one(
    remote_id: str | None, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    assert await outcomes._write_published(engine, sent, Receipt(remote_id="7"), found=False)
    assert await outcomes._write_published(engine, sent, Receipt(remote_id=remote_id), found=False) is None
    assert (status_of(db, sent), row(db, sent).remote_id) == ("published", "7")
    assert last_line(db, sent)[0].startswith("An earlier request for it was answered after all")


# -- nobody knows ------------------------------------------------------------------------------------------


async def test_what_nobody_knows_is_looked_up_once_the_network_had_time_to_settle(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    slow = replace(engine, settings=engine.settings.model_copy(update={"settle_s": 600.0}))
    sent = await being_sent(db, engine, ada, account)
    await outcomes.not_confirmed(slow, sent, "mine", OutcomeUnknown("Who knows.", code="who_knows", detail="cut"))
    now = row(db, sent)
    assert (now.status, now.error, now.error_code) == ("unknown", "Who knows.", "who_knows")
    assert now.wake_at and now.wake_at - now.status_at > timedelta(seconds=300)
    assert jobs(db) == [("reconcile", sent.id, now.wake_at)]
    assert last_line(db, sent) == ("Who knows.", {"code": "who_knows", "detail": "cut"})


# -- not now -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("in_s", [0, 3600])
async def test_what_could_not_be_prepared_is_tried_before_its_date_and_from_then_on_published(
    in_s: int, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    at = datetime.now(UTC) + timedelta(seconds=in_s)
    [made] = scheduled(db, engine.settings, ada, (account,), "early enough", at=at)
    db.execute("DELETE FROM procrastinate_jobs")
    async with engine.pool.connection() as conn:
        claimed = await transitions.claim_to_prepare(conn, made.id, "mine", 60)
    assert claimed
    await outcomes.could_not(engine, claimed, "mine", Retry("Not now.", retry_in_s=90))
    now = row(db, made)
    assert (now.status, now.faults) == ("scheduled", 1)
    assert now.not_before
    assert now.wake_at == max(at, now.not_before)
    assert jobs(db) == [("prepare" if in_s else "publish", made.id, now.not_before)]
    assert last_line(db, made) == ("Not now.", {"code": "retry"})


async def test_a_dead_token_wakes_nobody_before_the_account_is_back(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    await outcomes.could_not(engine, sent, "mine", Unauthorized("Who are you?"))
    now = row(db, sent)
    assert (now.status, now.not_before, now.faults) == ("scheduled", None, 0)
    assert jobs(db) == []


@pytest.mark.parametrize(
    ("error", "burnt"),
    [
        (Retry("Busy.", new_key=True), True),
        (Retry("Busy."), False),
        (NotReady("Busy.", retry_in_s=1), False),
        (StageLost("Gone.", new_key=True), True),
        (StageLost("Gone."), False),
        (Unauthorized("Who?"), False),
    ],
)
async def test_a_key_is_changed_where_the_network_has_used_it_up_and_nowhere_else(
    error: PublishError, burnt: bool, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    """With another key the network could not tell a second request from a second post."""
    sent = await being_sent(db, engine, ada, account)
    await outcomes.could_not(engine, sent, "mine", error)
    assert row(db, sent).key_no - sent.key_no == burnt
    assert (row(db, sent).staged is None) == isinstance(error, StageLost)


#: (what went wrong, attempts it spends, pauses of unknown length it counts, its pause at least, who waits)
PRICES: list[tuple[PublishError, int, int, float, set[str]]] = [
    (Retry("Busy."), 1, 0, 0, set()),
    (Retry("Busy.", retry_in_s=500), 1, 0, 500, set()),
    (StageLost("Gone."), 1, 0, 0, set()),
    (NotReady("Busy.", retry_in_s=500), 0, 0, 500, set()),
    (Throttled("Wait.", retry_in_s=500), 0, 0, 500, {"throttled_until"}),
    (Throttled("Wait."), 0, 1, 45, {"throttled_until"}),
]


@pytest.mark.parametrize(("error", "faults", "pauses", "pause_s", "waits"), PRICES)
async def test_waiting_as_long_as_the_network_wishes_spends_no_attempt(
    error: PublishError,
    faults: int,
    pauses: int,
    pause_s: float,
    waits: set[str],
    db: psycopg.Connection,
    engine: Engine,
    ada: int,
    account: int,
) -> None:
    sent = await being_sent(db, engine, ada, account)
    await outcomes.could_not(engine, sent, "mine", error)
    now = row(db, sent)
    assert (now.status, now.faults, now.pauses) == ("scheduled", faults, pauses)
    assert now.not_before and (now.not_before - now.status_at).total_seconds() > pause_s - 20
    assert jobs(db) == [("publish", sent.id, now.not_before)]
    held = db.execute(
        "SELECT throttled_until, uploads_throttled_until FROM accounts WHERE id = %s", [account]
    ).fetchone()
    assert held == (now.not_before if waits else None, None)


async def test_pauses_of_unknown_length_grow_from_a_minute_and_faults_from_what_is_set(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    """Each by its own count."""
    sent = await being_sent(db, engine, ada, account, faults=3, pauses=5)
    now = datetime.now(UTC)
    found = {
        error: (at - now).total_seconds()
        for error in (Throttled("Wait."), Retry("Busy."))
        if (at := outcomes._again_at(engine, sent, error, now))
    }
    assert list(found.values()) == pytest.approx(
        [outcomes.backoff(60.0, 5, of=account), outcomes.backoff(engine.settings.backoff_s, 3, of=account)], abs=1e-5
    )


# -- never -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("next_step", [None, "Mend that."])
async def test_the_last_fault_says_how_often_it_was_tried_and_what_to_do(
    next_step: str | None, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account, faults=engine.settings.max_faults)
    error = Retry("No.", code="no", next_step=next_step, detail="HTTP 500")
    await outcomes.could_not(engine, sent, "mine", error)
    now = row(db, sent)
    tried = engine.settings.max_faults + 1
    assert (now.status, now.error, now.error_code) == ("failed", f"No. It was tried {tried} times.", "no")
    assert now.next_step == (next_step or "Try again later with “Try again”.")
    assert last_line(db, sent)[1] == {"code": "no", "detail": "HTTP 500"}
    assert db.execute("SELECT kind FROM notices").fetchall() == [("delivery-failed",)]


async def test_a_server_that_stays_out_of_reach_is_not_said_to_be_tried_again(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, account: int
) -> None:
    """It has been given up, and nothing moves it but its person."""
    [made] = scheduled(db, engine.settings, ada, (account,), "out of reach")
    db.execute("UPDATE deliveries SET faults = %s", [engine.settings.max_faults])
    assert await preparing.prepare(engine, made.id)
    sandbox.go_down("mastodon")
    await sending.publish(engine, made.id)
    sandbox.come_back("mastodon")
    now = row(db, made)
    assert (now.status, now.error_code) == ("failed", "unreachable")
    assert now.next_step == "Try again later with “Try again”."


# -- somebody else was first --------------------------------------------------------------------------------

LATE: list[PublishError] = [Retry("Not now."), Refused("Never."), OutcomeUnknown("Who knows."), Unauthorized("Who?")]


@pytest.mark.parametrize("error", LATE, ids=lambda error: error.code)
async def test_who_has_lost_the_row_moves_nothing_tells_nobody_and_wakes_no_job(
    error: PublishError, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    before = row(db, sent)
    with capture_logs() as told:
        await outcomes.not_confirmed(engine, sent, "another's", error)
    assert row(db, sent) == before
    assert jobs(db) == []
    assert "failed" not in [one["event"] for one in told]
    assert db.execute("SELECT count(*) FROM notices").fetchone() == (0,)


async def unheard_of(db: psycopg.Connection, engine: Engine, sent: Delivery, status: str) -> None:
    """The claim did not come through: the row is as it was before, or as somebody else has made it."""
    db.execute("UPDATE deliveries SET status = %s, claim = NULL, wake_at = now()", [status])
    await outcomes.intent_unheard(engine, sent, "mine")


async def test_an_intent_that_did_not_come_through_leaves_the_post_ready_and_awake(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    await unheard_of(db, engine, sent, "ready")
    assert status_of(db, sent) == "ready"
    assert [(story, one) for story, one, _ in jobs(db)] == [("publish", sent.id)]


async def test_an_intent_that_did_not_come_through_wakes_nothing_that_is_somebody_elses(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    await unheard_of(db, engine, sent, "scheduled")
    assert jobs(db) == []


async def test_who_never_got_the_row_says_nothing_of_a_request_that_somebody_else_has_sent_meanwhile(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    """Its claim was to be of the same number, and did not come through: what is in doubt is the other's request."""
    sent = await being_sent(db, engine, ada, account)
    await outcomes.unknown(engine, sent, "mine", OutcomeUnknown("Who knows."))
    before = row(db, sent)
    await outcomes.intent_unheard(engine, sent, "another's")
    assert row(db, sent) == before


# -- whoever waited ----------------------------------------------------------------------------------------

End = Callable[[Engine, Delivery], Awaitable[object]]
ENDS: dict[str, End] = {
    "published": lambda engine, sent: outcomes._write_published(engine, sent, Receipt(remote_id="1"), found=False),
    "unknown": lambda engine, sent: outcomes.unknown(engine, sent, "mine", OutcomeUnknown("Who knows.")),
    "not now": lambda engine, sent: outcomes.could_not(engine, sent, "mine", Retry("Not now.", retry_in_s=60)),
    "never": lambda engine, sent: outcomes.give_up(engine, sent, "mine", Refused("Never.")),
}


@pytest.mark.parametrize("end", ENDS)
async def test_the_end_of_a_request_however_it_ended_wakes_the_accounts_next_post(
    end: str, db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    [waits] = scheduled(db, settings, ada, (account,), "waits for the one before")
    assert await preparing.prepare(engine, waits.id)
    db.execute("DELETE FROM procrastinate_jobs")
    await ENDS[end](engine, sent)
    assert [story for story, one, _ in jobs(db) if one == waits.id] == ["publish"]


# -- a session that ends just then ---------------------------------------------------------------------------


@pytest.mark.parametrize(("end", "becomes"), [("unknown", "unknown"), ("not now", "scheduled"), ("never", "failed")])
async def test_whatever_was_learned_is_written_down_though_the_session_ends_just_then(
    end: str, becomes: str, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    async with answering_badly(engine, "UPDATE deliveries SET status", gone) as breaking:
        await ENDS[end](breaking, sent)
    assert status_of(db, sent) == becomes


async def test_what_is_still_ready_is_woken_though_the_session_ends_just_then(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    sent = await being_sent(db, engine, ada, account)
    async with answering_badly(engine, "procrastinate_defer_jobs", gone) as breaking:
        await unheard_of(db, breaking, sent, "ready")
    assert [story for story, _, _ in jobs(db)] == ["publish"]


# -- pauses ------------------------------------------------------------------------------------------------


def test_pauses_double_up_to_an_hour_a_quarter_to_and_fro() -> None:
    for times in (0, 1, 2, 5, 7, 8, 100, 5000):
        usual = min(15.0 * 2.0 ** min(times, 20), 3600.0)
        shares = [outcomes.backoff(15.0, times, of=one) / usual for one in range(300)]
        assert 0.75 <= min(shares) < 0.77
        assert 1.23 < max(shares) <= 1.25


def test_the_posts_of_one_account_pause_alike_and_those_of_two_do_not() -> None:
    assert outcomes.backoff(15.0, 3, of=1) == outcomes.backoff(15.0, 3, of=1) != outcomes.backoff(15.0, 3, of=2)


def test_what_nobody_foresaw_may_be_out() -> None:
    """Also what a library raises: nothing is known of the request then."""
    error = outcomes.unmapped(KeyError("id"))
    assert (type(error), error.code, error.detail) == (OutcomeUnknown, "unexpected", "KeyError")
    assert error.sentence == "Something unexpected happened while it was being handed over."
