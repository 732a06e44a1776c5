"""Passing faults: ever longer pauses that spread, a budget with an end, and an account that waits when it is told to."""

import asyncio
import email.utils
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.posts import scheduling
from postflow.publishing import outcomes, preparing, sending, sweeping
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of

UPLOAD = {"method": "POST", "path": "/api/v[12]/media$"}
COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}
NETWORKS = ["mastodon", "pixelfed"]
#: Pauses as they are shipped, and a budget that outlasts the doubling.
PATIENT = {"backoff_s": 15.0, "max_faults": 11}


@pytest.fixture
def patient(engine: Engine, settings: config.Settings) -> Engine:
    return replace(engine, settings=settings.model_copy(update=PATIENT))


async def pauses(conn: psycopg.Connection, engine: Engine, delivery: Delivery) -> list[float]:
    """Seconds after each fault, until it is given up. No time passes: the row's memory moves."""
    found = list[float]()
    while True:
        await sending.publish(engine, delivery.id)
        row = conn.execute(
            "SELECT extract(epoch FROM d.not_before - e.at) FROM deliveries d JOIN delivery_events e ON e.delivery_id = d.id"
            " WHERE d.id = %s AND d.status = 'scheduled' ORDER BY e.id DESC LIMIT 1",
            [delivery.id],
        ).fetchone()
        if row is None:
            return found
        found.append(float(row[0]))
        assert len(found) < 50, "it is never given up"
        lifetime.pass_time(conn, 3 * 3600)


def double_spread_and_stop(found: list[float]) -> bool:
    usual = [min(outcomes.LONGEST_BACKOFF_S, 15.0 * 2**number) for number in range(len(found))]
    shares = [pause / expected for pause, expected in zip(found, usual, strict=True)]
    return all(0.7 < share < 1.3 for share in shares) and len({round(share, 3) for share in shares}) > len(shares) / 2


def told(conn: psycopg.Connection, delivery: Delivery) -> tuple[str, str, int]:
    row = conn.execute("SELECT status, error, faults FROM deliveries WHERE id = %s", [delivery.id]).fetchone()
    assert row
    return row[0], row[1], row[2]


# -- pauses and budget -------------------------------------------------------------------------------------


@pytest.mark.parametrize("instance", NETWORKS)
async def test_a_server_with_a_fault_is_asked_at_growing_pauses_as_often_as_the_person_is_told(
    instance: str,
    db: psycopg.Connection,
    patient: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    account = await an_account(db, patient, sandbox, ada, instance, f"faulty-{instance}")
    [delivery] = scheduled(db, settings, ada, (account,), f"faulty {instance}", media=(a_picture(db, ada),))
    fault = sandbox.faults.add("status", account=f"faulty-{instance}", **UPLOAD, status=503, times=None)
    found = await pauses(db, patient, delivery)
    assert len(found) == patient.settings.max_faults
    assert double_spread_and_stop(found), found
    state, error, faults = told(db, delivery)
    assert (state, faults) == ("failed", patient.settings.max_faults)
    assert error.endswith(f"It was tried {fault.hits} times.")
    assert fault.hits == patient.settings.max_faults + 1
    assert sandbox.ledger.times_published(f"faulty {instance}") == 0


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("instance", NETWORKS)
async def test_a_server_that_cannot_be_reached_is_tried_at_growing_pauses_and_given_up(
    instance: str,
    prepared: bool,
    db: psycopg.Connection,
    patient: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    handle = f"out-of-reach-{instance}-{prepared}"
    account = await an_account(db, patient, sandbox, ada, instance, handle)
    [delivery] = scheduled(db, settings, ada, (account,), handle, media=(a_picture(db, ada),))
    if prepared:
        assert await preparing.prepare(patient, delivery.id)
    uploads = len(sandbox.ledger.requests(account=handle, path="/media"))
    sandbox.go_down(instance)
    found = await pauses(db, patient, delivery)
    assert double_spread_and_stop(found), found
    state, error, _ = told(db, delivery)
    assert state == "failed"
    assert error.endswith(f"It was tried {len(found) + 1} times.")
    sandbox.come_back(instance)
    assert sandbox.ledger.requests(account=handle, path="/statuses", method="POST") == []
    assert len(sandbox.ledger.requests(account=handle, path="/media")) == uploads
    assert sandbox.ledger.times_published(handle) == 0


async def test_what_was_given_up_has_its_whole_budget_again_when_the_person_asks(
    db: psycopg.Connection, patient: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, patient, sandbox, ada, "mastodon", "asked-again")
    [delivery] = scheduled(db, settings, ada, (account,), "asked again", media=(a_picture(db, ada),))
    fault = sandbox.faults.add("status", account="asked-again", **UPLOAD, status=502, times=None)
    first = await pauses(db, patient, delivery)
    with db.transaction():
        scheduling.retry(db, ada, delivery.id, now=datetime.now(UTC))
    second = await pauses(db, patient, delivery)
    assert len(first) == len(second) == patient.settings.max_faults
    assert double_spread_and_stop(second), "the pauses begin anew"
    sandbox.faults.clear(fault)
    with db.transaction():
        scheduling.retry(db, ada, delivery.id, now=datetime.now(UTC))
    assert await sending.publish(patient, delivery.id)
    assert sandbox.ledger.times_published("asked again") == 1


@pytest.mark.parametrize("instance", NETWORKS)
async def test_a_network_that_loses_every_request_is_sent_to_a_bounded_number_of_times_and_then_a_person_is_asked(
    instance: str,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    handle = f"always-lost-{instance}"
    account = await an_account(db, engine, sandbox, ada, instance, handle)
    [delivery] = scheduled(db, settings, ada, (account,), handle, media=(a_picture(db, ada),))
    few = replace(engine, settings=settings.model_copy(update={"max_faults": 3}))
    fault = sandbox.faults.add("drop_before", account=handle, **COMMIT, times=None)
    await lifetime.to_rest(few, db, [delivery.id])
    state, error, faults = told(db, delivery)
    assert (state, faults, fault.hits) == ("attention", 3, 4)
    assert f"tried {fault.hits} times" in error
    assert sandbox.ledger.times_published(handle) == 0


# -- told to wait ------------------------------------------------------------------------------------------

WAIT_S = 90
Headers = Callable[[], dict[str, str]]


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=WAIT_S)


FORMS: dict[str, Headers] = {
    "seconds": lambda: {"Retry-After": str(WAIT_S)},
    "an HTTP date": lambda: {"Retry-After": email.utils.format_datetime(soon(), usegmt=True)},
    "a reset in ISO 8601": lambda: {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": soon().isoformat()},
    "a reset with Z": lambda: {"X-RateLimit-Reset": soon().strftime("%Y-%m-%dT%H:%M:%S.%fZ")},
    "a reset as an epoch": lambda: {"X-RateLimit-Reset": f"{soon().timestamp():.0f}"},
    "a reset in milliseconds": lambda: {"X-RateLimit-Reset": f"{soon().timestamp() * 1000:.0f}"},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("instance", NETWORKS)
async def test_an_account_told_to_wait_holds_all_its_posts_and_nobody_elses(
    instance: str,
    form: str,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    handle = f"{instance}-{form}-waits".replace(" ", "-").lower()
    account = await an_account(db, engine, sandbox, ada, instance, handle)
    other = await an_account(db, engine, sandbox, ada, instance, f"other-{handle}")
    pictures = [(a_picture(db, ada),) for _ in range(4)]
    [first] = scheduled(db, settings, ada, (account,), f"{handle} first", media=pictures[0])
    [second] = scheduled(db, settings, ada, (account,), f"{handle} second", media=pictures[1])
    [ready] = scheduled(db, settings, ada, (account,), f"{handle} ready", media=pictures[2])
    [theirs] = scheduled(db, settings, ada, (other,), f"{handle} theirs", media=pictures[3])
    mine = [first.id, second.id, ready.id]
    assert await preparing.prepare(engine, ready.id)

    fault = sandbox.faults.add(
        "status", account=handle, **COMMIT, status=429, body="json", headers=FORMS[form](), times=None
    )
    assert await sending.publish(engine, first.id) is None
    heard = len(sandbox.ledger.requests(account=handle))
    for delivery_id in mine * 2:
        await sending.publish(engine, delivery_id)
    assert len(sandbox.ledger.requests(account=handle)) == heard, "not one request while it waits"
    assert fault.hits == 1
    assert [status_of(db, one) for one in (first, second, ready)] == ["scheduled", "scheduled", "ready"]
    held = db.execute(
        "SELECT throttled_until - now() BETWEEN interval '80 s' AND interval '91 s' FROM accounts WHERE id = %s",
        [account],
    ).fetchone()
    assert held == (True,)
    assert await sending.publish(engine, theirs.id), "another account is not held"

    lifetime.pass_time(db, WAIT_S - 15)
    await sweeping.sweep(engine)
    await lifetime.run_due(engine, db)
    assert len(sandbox.ledger.requests(account=handle)) == heard, "not yet"
    sandbox.faults.clear(fault)
    lifetime.pass_time(db, 20)
    await lifetime.run_due(engine, db)  # no sweep: each has a job for then
    assert lifetime.states(db, mine) == ["published"] * 3
    assert all(
        sandbox.ledger.times_published(f"{handle} {name}") == 1 for name in ("first", "second", "ready", "theirs")
    )
    assert db.execute("SELECT sum(faults) FROM deliveries").fetchone() == (0,), "waiting spends no attempt"


@pytest.mark.parametrize("instance", NETWORKS)
async def test_a_wait_asked_of_uploads_holds_what_has_something_to_upload_and_nothing_else(
    instance: str,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    handle = f"uploads-wait-{instance}"
    account = await an_account(db, engine, sandbox, ada, instance, handle)
    first, second, ready = (
        scheduled(db, settings, ada, (account,), f"{handle} {name}", media=(a_picture(db, ada),))[0]
        for name in ("first", "second", "ready")
    )
    without = [] if instance == "pixelfed" else scheduled(db, settings, ada, (account,), f"{handle} text")
    assert await preparing.prepare(engine, ready.id)
    fault = sandbox.faults.add(
        "status", account=handle, **UPLOAD, status=429, body="json", headers={"Retry-After": "90"}, times=None
    )
    assert await sending.publish(engine, first.id) is None
    for one in (first, second) * 2:
        await sending.publish(engine, one.id)
    assert fault.hits == 1, "what has something to upload is not tried while uploads wait"
    for one in (ready, *without):
        assert await sending.publish(engine, one.id), "what has nothing to upload goes"
    sandbox.faults.clear(fault)
    lifetime.pass_time(db, 91)
    await lifetime.run_due(engine, db)  # no sweep: each has a job for then
    assert lifetime.states(db, [first.id, second.id]) == ["published"] * 2


@pytest.mark.parametrize("where", [UPLOAD, COMMIT], ids=["the upload", "the post"])
async def test_a_wait_of_unknown_length_is_a_minute_and_doubles(
    where: dict[str, str],
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    handle = "untold-upload" if where is UPLOAD else "untold-post"
    account = await an_account(db, engine, sandbox, ada, "mastodon", handle)
    [delivery] = scheduled(db, settings, ada, (account,), handle, media=(a_picture(db, ada),))
    fault = sandbox.faults.add("status", account=handle, **where, status=429, times=3)
    found = await pauses(db, engine, delivery)
    assert fault.hits == 3
    assert [0.7 < pause / usual < 1.3 for pause, usual in zip(found, (60, 120, 240), strict=True)] == [True] * 3, found


@pytest.mark.parametrize("instance", NETWORKS)
async def test_an_account_that_is_told_to_wait_over_and_over_spends_no_attempt_however_often(
    instance: str,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    account = await an_account(db, engine, sandbox, ada, instance, f"patience-{instance}")
    text = f"patience on {instance}"
    [delivery] = scheduled(db, settings, ada, (account,), text, media=(a_picture(db, ada),))
    often = settings.max_faults + 3
    fault = sandbox.faults.add(
        "status", account=f"patience-{instance}", **COMMIT, status=429, headers={"Retry-After": "30"}, times=often
    )
    for _ in range(often):
        assert await sending.publish(engine, delivery.id) is None
        lifetime.pass_time(db, 31)
    assert fault.hits == often
    done = await sending.publish(engine, delivery.id)
    assert done and done.faults == 0
    assert sandbox.ledger.times_published(text) == 1


@pytest.mark.parametrize("instance", NETWORKS)
async def test_a_longer_wait_is_not_shortened_by_a_later_and_shorter_one(
    instance: str,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    """Two uploads of one account are under way; the one that is answered last is told to wait less."""
    handle = f"longer-{instance}"
    account = await an_account(db, engine, sandbox, ada, instance, handle)
    [first] = scheduled(db, settings, ada, (account,), f"{handle} one", media=(a_picture(db, ada),))
    [second] = scheduled(db, settings, ada, (account,), f"{handle} two", media=(a_picture(db, ada),))
    sandbox.faults.add("slow", account=handle, **UPLOAD, seconds=0.5)
    sandbox.faults.add("status", account=handle, **UPLOAD, status=429, headers={"Retry-After": "5"})
    later = asyncio.create_task(preparing.prepare(engine, second.id))
    while not sandbox.ledger.requests(account=handle, method="POST", path="/media"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    sandbox.faults.add("status", account=handle, **UPLOAD, status=429, headers={"Retry-After": "600"})
    await preparing.prepare(engine, first.id)
    await later
    assert lifetime.states(db, [first.id, second.id]) == ["scheduled", "scheduled"]
    assert len(sandbox.ledger.requests(account=handle, method="POST", path="/media")) == 2, "both were told to wait"
    held = db.execute(
        "SELECT uploads_throttled_until - now() > interval '500 s' FROM accounts WHERE id = %s", [account]
    )
    assert held.fetchone() == (True,)
