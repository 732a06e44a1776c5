"""After a lost answer: what each verdict makes of the row, whom it wakes, and what ends a look before there is one."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest

from postflow import db as database
from postflow.engine import Engine
from postflow.errors import NotReady, PublishError, Refused, Retry, Unauthorized
from postflow.http import deadline
from postflow.models import Delivery, LookAgain, SafeToResend, Undecidable
from postflow.publishing import outcomes, preparing, reconciling, restoring, transitions
from sandbox import Sandbox
from tests.engine.conftest import scheduled, status_of
from tests.engine.test_outcomes import being_sent, jobs, last_line, row

LISTS = {"method": "GET", "path": "/statuses$"}
DAY_S = 86_400
ASK_ITS_PERSON = "Look at the account: if the post is there, say so; if it is not, send it again."


async def lost(
    db: psycopg.Connection, engine: Engine, ada: int, account: int, text: str = "in doubt", **changed: Any
) -> Delivery:
    """Its request never arrived, nobody knows that, and it may be looked for."""
    sent = await being_sent(db, engine, ada, account, text)
    db.execute(
        "UPDATE deliveries SET status = 'unknown', claim = NULL, wake_at = clock_timestamp(), error_code = 'answer_lost',"
        " error = 'Lost.' WHERE id = %s",
        [sent.id],
    )
    for column, value in changed.items():
        db.execute(f"UPDATE deliveries SET {column} = %s WHERE id = %s".encode(), [value, sent.id])
    return row(db, sent)


async def looked_for(db: psycopg.Connection, engine: Engine, ada: int, account: int, **changed: Any) -> Delivery:
    """A look at it is under way. The claim is "mine"."""
    unknown = await lost(db, engine, ada, account, **changed)
    async with engine.pool.connection() as conn:
        claimed = await transitions.claim_to_look(conn, unknown.id, "mine", 60)
    assert claimed
    return claimed


def notices(db: psycopg.Connection) -> list[str]:
    return [kind for (kind,) in db.execute("SELECT kind FROM notices")]


def sent_ago(db: psycopg.Connection, delivery: Delivery, seconds: float) -> Delivery:
    db.execute("UPDATE deliveries SET sent_at = sent_at - make_interval(secs => %s)", [seconds])
    return row(db, delivery)


# -- verdicts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absent", [True, False, None])
async def test_what_is_not_decided_is_looked_up_again_when_the_network_says(
    absent: bool | None, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    looking = await looked_for(db, engine, ada, account, absent_looks=1)
    before = database.now(db)
    assert (
        await reconciling._decided(engine, looking, "mine", LookAgain(in_s=300, why="Not yet.", absent=absent)) is None
    )
    now = row(db, looking)
    assert (now.status, now.looks, now.absent_looks) == ("unknown", 1, {True: 2, False: 0, None: 1}[absent])
    assert now.wake_at and now.wake_at >= before + timedelta(seconds=300)
    assert jobs(db) == [("reconcile", looking.id, now.wake_at)]
    assert last_line(db, looking)[0] == "Not yet."


@pytest.mark.parametrize("faults", [0, 1, 4])
async def test_what_is_not_there_is_sent_again_after_a_pause_that_grows_with_its_faults(
    faults: int, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    """The first time at once."""
    slow = replace(engine, settings=engine.settings.model_copy(update={"backoff_s": 100.0}))
    looking = await looked_for(db, engine, ada, account, faults=faults)
    before = database.now(db)
    moved = await reconciling._decided(slow, looking, "mine", SafeToResend(why="It is not there."))
    after = database.now(db)
    assert moved and moved.wake_at
    assert (moved.status, moved.faults, moved.key_no) == ("scheduled", faults + 1, looking.key_no)
    pause = timedelta(seconds=outcomes.backoff(100.0, faults - 1, of=account) if faults else 0)
    assert before + pause <= moved.wake_at <= after + pause
    assert jobs(db) == [("publish", looking.id, moved.wake_at)]
    assert last_line(db, looking)[0] == "It is not there. Sending it again."
    assert moved.staged and moved.first_sent_at, "what was sent first may come up all the same"


async def test_what_is_sent_again_begins_anew_as_far_as_the_network_asks(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    looking = await looked_for(db, engine, ada, account)
    verdict = SafeToResend(why="Its key is burnt.", new_key=True, restage=True, settled=True)
    moved = await reconciling._decided(engine, looking, "mine", verdict)
    assert moved
    assert (moved.key_no, moved.staged, moved.first_sent_at) == (looking.key_no + 1, None, None)


async def test_what_was_never_answered_is_its_persons_once_its_budget_is_spent(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    most = engine.settings.max_faults
    looking = await looked_for(db, engine, ada, account, faults=most)
    moved = await reconciling._decided(engine, looking, "mine", SafeToResend(why="Whatever."))
    assert moved
    assert (moved.status, moved.error_code, moved.next_step) == ("attention", "never_answered", ASK_ITS_PERSON)
    assert moved.error == f"It was tried {most + 1} times, the last time without a clear answer. Whatever."
    assert (notices(db), jobs(db)) == (["delivery-attention"], [])


async def test_what_no_look_will_tell_is_its_persons(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    looking = await looked_for(db, engine, ada, account)
    moved = await reconciling._decided(engine, looking, "mine", Undecidable(why="It may be one of two."))
    assert moved
    assert (moved.status, moved.error_code, moved.error) == ("attention", "undecidable", "It may be one of two.")
    assert (moved.next_step, notices(db), jobs(db)) == (ASK_ITS_PERSON, ["delivery-attention"], [])


@pytest.mark.parametrize(
    "verdict", [SafeToResend(why="Absent."), Undecidable(why="Unclear."), LookAgain(in_s=1, why="Wait.")]
)
async def test_after_a_restored_backup_absence_is_no_proof(
    verdict: SafeToResend | Undecidable | LookAgain, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    looking = await looked_for(db, engine, ada, account, error_code=restoring.RESTORED)
    await reconciling._decided(engine, looking, "mine", verdict)
    now = row(db, looking)
    expected = "unknown" if isinstance(verdict, LookAgain) else "attention"
    assert (now.status, now.error == restoring.NOT_FOUND) == (expected, expected == "attention")


# -- looks that see nothing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "in_s"),
    [
        (Retry("Busy.", retry_in_s=120), 120),
        (Retry("Busy."), reconciling.AGAIN_S),
        (NotReady("No key.", retry_in_s=90), 90),
        (Unauthorized("Who are you?"), reconciling.AGAIN_S),
    ],
)
async def test_who_cannot_look_looks_again_and_what_was_seen_before_still_counts(
    error: PublishError, in_s: float, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    looking = await looked_for(db, engine, ada, account, absent_looks=1)
    looking = sent_ago(db, looking, DAY_S - 600)
    before = database.now(db)
    assert await reconciling._cannot_look(engine, looking, "mine", error) is None
    now, after = row(db, looking), database.now(db)
    assert (now.status, now.absent_looks, now.looks) == ("unknown", 1, 1)
    assert now.wake_at and before <= now.wake_at - timedelta(seconds=in_s) <= after
    assert jobs(db) == [("reconcile", looking.id, now.wake_at)]


@pytest.mark.parametrize(
    ("error", "ago_s"), [(Refused("Gone.", code="gone"), 0), (Retry("Busy.", code="busy"), DAY_S + 1)]
)
async def test_what_can_never_be_looked_up_or_not_for_a_day_is_its_persons(
    error: PublishError, ago_s: float, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    looking = sent_ago(db, await looked_for(db, engine, ada, account), ago_s)
    moved = await reconciling._cannot_look(engine, looking, "mine", error)
    assert moved
    assert (moved.status, moved.error_code, moved.error) == ("attention", error.code, error.sentence)
    assert notices(db) == ["delivery-attention"]


@pytest.mark.parametrize(
    "verdict", [SafeToResend(why="Absent."), Undecidable(why="Unclear."), LookAgain(in_s=1, why="Wait.")]
)
async def test_who_has_lost_the_row_decides_nothing_tells_nobody_and_wakes_no_job(
    verdict: SafeToResend | Undecidable | LookAgain, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    looking = await looked_for(db, engine, ada, account)
    assert await reconciling._decided(engine, looking, "another's", verdict) is None
    assert await reconciling._cannot_look(engine, looking, "another's", Retry("Busy.")) is None
    await reconciling._hand_back(engine, looking, "another's")
    assert row(db, looking) == looking
    assert (notices(db), jobs(db)) == ([], [])


# -- a look, from its beginning ----------------------------------------------------------------------------


async def test_a_look_that_is_under_way_or_to_come_is_not_begun_again(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, account: int
) -> None:
    looking = await looked_for(db, engine, ada, account)
    before = len(sandbox.ledger.requests())
    assert await reconciling.reconcile(engine, looking.id) is None
    assert row(db, looking) == looking
    assert len(sandbox.ledger.requests()) == before


async def test_its_lease_outlasts_a_look_which_may_take_several_requests(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, account: int
) -> None:
    unknown = await lost(db, engine, ada, account)
    sandbox.faults.add("slow", **LISTS, seconds=1.2)
    leases = list[datetime]()

    def reached(step: str) -> None:
        if step == "looking":
            leases.append(row(db, unknown).wake_at or unknown.status_at)

    settings = engine.settings.model_copy(update={"request_timeout_s": 4.0})
    before = database.now(db)
    await reconciling.reconcile(replace(engine, settings=settings, reached=reached), unknown.id)
    assert leases[0] - before > timedelta(seconds=4 * 4.0)
    assert "on its way" in last_line(db, unknown)[0], "the look has seen the list"


async def test_a_network_that_is_too_slow_to_be_looked_through_is_looked_at_later(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, account: int
) -> None:
    unknown = await lost(db, engine, ada, account)
    sandbox.faults.add("slow", **LISTS, seconds=2)
    hasty = replace(engine, settings=engine.settings.model_copy(update={"request_timeout_s": 0.05}))
    before = database.now(db)
    assert await reconciling.reconcile(hasty, unknown.id) is None
    now = row(db, unknown)
    assert now.wake_at and now.wake_at >= before + timedelta(seconds=reconciling.AGAIN_S)
    assert last_line(db, unknown)[0] == "The network was too slow to be looked through; looking again later."


async def test_a_worker_that_is_stopped_while_it_looks_leaves_the_look_to_another(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, account: int
) -> None:
    unknown = await lost(db, engine, ada, account)
    sandbox.faults.add("slow", **LISTS, seconds=2)
    looking = asyncio.Event()
    noticing = replace(engine, reached=lambda step: looking.set() if step == "looking" else None)
    under_way = asyncio.ensure_future(reconciling.reconcile(noticing, unknown.id))
    await looking.wait()
    await asyncio.sleep(0)
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    now = row(db, unknown)
    assert now.status == "unknown" and now.wake_at and now.wake_at <= database.now(db)
    assert jobs(db) == [("reconcile", unknown.id, now.wake_at)]
    assert last_line(db, unknown)[0] == "The worker that looked was stopped; another looks."


def failing(engine: Engine, error: Exception) -> Engine:
    """Once the network has answered."""

    def reached(step: str) -> None:
        if step == "looked":
            raise error

    return replace(engine, reached=reached)


async def test_a_database_that_goes_away_ends_the_look_and_its_lease_brings_the_next(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    unknown = await lost(db, engine, ada, account)
    with pytest.raises(psycopg.OperationalError):
        await reconciling.reconcile(failing(engine, psycopg.OperationalError("gone")), unknown.id)
    assert (row(db, unknown).looks, jobs(db)) == (0, [])


@pytest.mark.parametrize(
    ("error", "in_s", "sentence"),
    [
        (KeyError("id"), reconciling.AGAIN_S, "Something unexpected happened while PostFlow looked whether it is out."),
        (
            psycopg.errors.UniqueViolation(),
            reconciling.TAKEN_S,
            "Another post with the same words was found to be the one on the network; looking once more.",
        ),
    ],
)
async def test_whatever_ends_a_look_another_one_follows(
    error: Exception, in_s: float, sentence: str, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    unknown = await lost(db, engine, ada, account)
    before = database.now(db)
    assert await reconciling.reconcile(failing(engine, error), unknown.id) is None
    now, after = row(db, unknown), database.now(db)
    assert now.wake_at and before <= now.wake_at - timedelta(seconds=in_s) <= after
    assert last_line(db, unknown)[0] == sentence


async def test_what_is_known_of_the_request_is_what_the_network_is_asked_with(
    db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    looking = await looked_for(db, engine, ada, account, looks=3, absent_looks=2, attempt_no=4)
    looking = sent_ago(db, looking, 100)
    before = database.now(db)
    attempt = await reconciling._known(engine, looking)
    assert (attempt.attempt_no, attempt.looks, attempt.absent_looks) == (4, 3, 2)
    assert (attempt.first_sent_at, attempt.sent_at) == (looking.first_sent_at, looking.sent_at)
    assert attempt.first_sent_at != attempt.sent_at
    assert (attempt.error_code, attempt.taken_remote_ids, attempt.rivalled) == ("answer_lost", frozenset(), False)
    assert before <= attempt.now <= database.now(db)
    assert attempt.still_ours_s == deadline.still_ours_s(deadline.timeout_s(60)), (
        "its lease was for a longer timeout than ours"
    )
    patient = replace(engine, settings=engine.settings.model_copy(update={"request_timeout_s": 100.0}))
    assert (await reconciling._known(patient, looking)).still_ours_s == deadline.still_ours_s(100.0)


@pytest.mark.parametrize(
    ("code", "ends"), [("answer_lost", "attention"), *((one, "unknown") for one in sorted(restoring.IN_DOUBT))]
)
async def test_what_was_prepared_is_missed_only_where_the_database_has_forgotten_nothing(
    code: str, ends: str, db: psycopg.Connection, engine: Engine, ada: int, account: int
) -> None:
    unknown = await lost(db, engine, ada, account, error_code=code)
    db.execute("UPDATE deliveries SET staged = NULL, staged_at = NULL")
    await reconciling.reconcile(engine, unknown.id)
    assert status_of(db, unknown) == ends
    if ends == "attention":
        assert row(db, unknown).error == "What was prepared for it is gone."


# -- parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ago_s", "ends"), [(0, "unknown"), (DAY_S - 600, "unknown"), (DAY_S + 1, "attention")])
async def test_a_part_is_not_looked_for_before_the_part_that_it_answers_and_for_a_day_at_most(
    ago_s: float, ends: str, db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int, account: int
) -> None:
    parts = scheduled(db, engine.settings, ada, (account,), "one", thread=("two",))
    for one in parts:
        assert await preparing.prepare(engine, one.id)
    db.execute(
        "UPDATE deliveries SET status = 'unknown', attempt_no = 1, sent_at = clock_timestamp(), first_sent_at = now(),"
        " wake_at = now(), error_code = 'forgotten', error = '?'"
    )
    db.execute("DELETE FROM procrastinate_jobs")
    sent_ago(db, parts[1], ago_s)
    before, asked = database.now(db), len(sandbox.ledger.requests())
    await reconciling.reconcile(engine, parts[1].id)
    now, after = row(db, parts[1]), database.now(db)
    assert now.status == ends
    assert len(sandbox.ledger.requests()) == asked
    if ends == "unknown":
        assert now.wake_at and before <= now.wake_at - timedelta(seconds=reconciling.PART_S) <= after
        assert last_line(db, parts[1])[0] == "The part before it is looked up first."
    else:
        assert now.error and now.error.endswith("what became of the part before it.")
