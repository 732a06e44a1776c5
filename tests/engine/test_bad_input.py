"""What goes wrong around a delivery: wrong clocks, lost jobs, vanished accounts and networks, a database that cannot write."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import time_machine
from cryptography.fernet import Fernet
from psycopg import sql
from pydantic import SecretStr

import postflow.db
from postflow import config, errors, platforms
from postflow import engine as engines
from postflow.engine import Engine
from postflow.models import Content, Delivery, NewPost
from postflow.posts import scheduling
from postflow.publishing import preparing, reconciling, sending, sweeping
from sandbox import Sandbox
from tests.engine.conftest import a_picture, an_account, scheduled, status_of

POSTS = {"instance": "mastodon", "method": "POST", "path": "/api/v1/statuses$"}


def told(conn: psycopg.Connection, delivery: Delivery) -> tuple[str, str, str]:
    """State, what went wrong, what to do."""
    row = conn.execute("SELECT status, error, next_step FROM deliveries WHERE id = %s", [delivery.id]).fetchone()
    assert row
    return row[0], row[1] or "", row[2] or ""


def jobs_of(conn: psycopg.Connection, delivery: Delivery) -> list[str]:
    found = conn.execute(
        "SELECT task_name FROM procrastinate_jobs WHERE args->>'delivery_id' = %s::text AND status = 'todo'"
        " ORDER BY id",
        [delivery.id],
    )
    return [row[0] for row in found.fetchall()]


# -- dates and clocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("away", "sentence"),
    [
        (timedelta(days=-1), "has passed"),
        (timedelta(minutes=-3), "has passed"),
        (timedelta(seconds=-90), None),
        (timedelta(days=365 * 5), None),
        (timedelta(days=366 * 5 + 1), "more than five years away"),
        (timedelta(days=365 * 5000), "more than five years away"),
    ],
    ids=str,
)
async def test_a_date_just_past_means_now_and_nonsense_is_said(
    away: timedelta,
    sentence: str | None,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "dated")
    now = datetime.now(UTC)
    new = NewPost(content=Content(text="when?"), account_ids=(account,), post_date=now + away, time_zone="UTC")
    if sentence is None:
        assert len(scheduling.schedule(db, ada, new, now=now).deliveries) == 1
    else:
        with pytest.raises(errors.Invalid, match=sentence):
            scheduling.schedule(db, ada, new, now=now)


@pytest.mark.parametrize("minutes_off", [-10, 10])
async def test_a_worker_with_a_wrong_clock_neither_publishes_early_nor_calls_a_post_missed(
    minutes_off: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", f"clock{minutes_off}")
    text = f"by a clock {minutes_off} minutes off"
    soon = datetime.now(UTC) + timedelta(minutes=5)
    [early] = scheduled(db, settings, ada, (account,), f"{text}, not yet", at=soon)
    [due] = scheduled(db, settings, ada, (account,), text)
    db.execute("UPDATE posts SET grace_s = 60")
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes_off), tick=True):
        assert await sending.publish(engine, early.id) is None
        assert await sending.publish(engine, due.id)
    assert status_of(db, early) == "scheduled"
    assert db.execute("SELECT wake_at FROM deliveries WHERE id = %s", [early.id]).fetchone() == (soon,)
    assert sandbox.ledger.times_published(f"{text}, not yet") == 0
    assert sandbox.ledger.times_published(text) == 1


async def test_a_worker_with_a_wrong_clock_waits_as_long_before_it_calls_a_lost_post_absent(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon-4.1", "hasty")
    [delivery] = scheduled(db, settings, ada, (account,), "looked for too soon")
    sandbox.faults.add("drop_before", **{**POSTS, "instance": "mastodon-4.1"}, times=1)
    await sending.publish(engine, delivery.id)
    assert status_of(db, delivery) == "unknown"
    await reconciling.reconcile(engine, delivery.id)
    db.execute("UPDATE deliveries SET wake_at = now() WHERE id = %s", [delivery.id])
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=10), tick=True):
        await reconciling.reconcile(engine, delivery.id)
    assert status_of(db, delivery) == "unknown", "the two looks were no half minute apart"


async def test_what_a_wrong_clock_puts_off_is_put_off_by_the_databases(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "limited")
    [delivery] = scheduled(db, settings, ada, (account,), "later, please")
    sandbox.faults.add("status", **POSTS, times=1, status=429, headers={"Retry-After": "30"})
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=10), tick=True):
        await sending.publish(engine, delivery.id)
    row = db.execute(
        "SELECT extract(epoch FROM wake_at - now()) BETWEEN 1 AND 60 FROM deliveries WHERE id = %s", [delivery.id]
    ).fetchone()
    assert row == (True,)


# -- the queue ---------------------------------------------------------------------------------------------


async def test_a_job_deleted_by_hand_is_replaced_by_the_sweep_and_the_post_goes_out(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "jobless")
    [delivery] = scheduled(db, settings, ada, (account,), "its job was deleted")
    db.execute("DELETE FROM procrastinate_jobs")
    db.execute("UPDATE deliveries SET wake_at = now() - interval '21 seconds'")
    assert (await sweeping.sweep(engine))["asleep"] == 1
    assert jobs_of(db, delivery) == ["publish"]
    assert (await sweeping.sweep(engine))["asleep"] == 0, "one wake-up is enough"
    assert await sending.publish(engine, delivery.id)


SENT = "staged = '{}', attempt_no = 1, sent_at = now(), first_sent_at = now()"
PASSING = {
    "scheduled": ("claim = NULL", "scheduled", "publish"),
    "preparing": ("claim = 'gone'", "scheduled", "publish"),
    "ready": ("staged = '{}'", "ready", "publish"),
    "sending": (f"claim = 'gone', {SENT}", "unknown", "reconcile"),
    "unknown": (SENT, "unknown", "reconcile"),
}


def test_every_state_that_passes_is_among_those_the_sweep_is_tried_with() -> None:
    from postflow.models import RESTING, DeliveryStatus

    assert set(PASSING) == set(DeliveryStatus) - RESTING


@pytest.mark.parametrize("state", PASSING)
async def test_no_passing_state_lasts_for_ever(
    state: str,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    """Nobody works on it, no job knows of it: only the row tells."""
    also, becomes, story = PASSING[state]
    account = await an_account(db, engine, sandbox, ada, "mastodon", f"stuck-{state}")
    [delivery] = scheduled(db, settings, ada, (account,), f"stuck while {state}")
    db.execute("DELETE FROM procrastinate_jobs")
    overslept = f"UPDATE deliveries SET status = '{state}', wake_at = now() - interval '1 minute', {also}"
    db.execute(overslept.encode())
    await sweeping.sweep(engine)
    assert status_of(db, delivery) == becomes
    assert jobs_of(db, delivery) == [story]


# -- who and what is gone ----------------------------------------------------------------------------------


async def test_a_backlog_does_not_grow_by_being_swept(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    """Every worker is busy: the jobs of what is due wait, and none of them is lost."""
    account = await an_account(db, engine, sandbox, ada, "mastodon", "backlog")
    rows = [scheduled(db, settings, ada, (account,), f"waits for a worker {number}")[0] for number in range(5)]
    db.execute("UPDATE deliveries SET wake_at = now() - interval '5 minutes'")
    known = len(db.execute("SELECT FROM procrastinate_jobs").fetchall())
    for _ in range(3):
        assert (await sweeping.sweep(engine))["asleep"] == 0
    assert len(db.execute("SELECT FROM procrastinate_jobs").fetchall()) == known
    db.execute("DELETE FROM procrastinate_jobs WHERE args->>'delivery_id' = %s", [str(rows[2].id)])
    db.execute("""INSERT INTO procrastinate_jobs (queue_name, task_name, args, scheduled_at)
                  VALUES ('posts', 'publish', '{"delivery_id": "nonsense"}', now()), ('posts', 'publish', '[]', now())""")
    assert (await sweeping.sweep(engine))["asleep"] == 1
    assert jobs_of(db, rows[2]) == ["publish"]


async def test_a_delivery_whose_account_was_disconnected_fails_with_the_reason(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "leaver")
    [delivery] = scheduled(db, settings, ada, (account,), "nobody to send it")
    db.execute("UPDATE accounts SET state = 'disconnected', sealed = NULL")
    await sending.publish(engine, delivery.id)
    state, error, next_step = told(db, delivery)
    assert state == "failed"
    assert "disconnected" in error
    assert "Connect the account again" in next_step
    assert sandbox.ledger.times_published("nobody to send it") == 0


async def test_a_post_that_missed_its_time_because_of_its_account_says_so(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "held")
    [delivery] = scheduled(db, settings, ada, (account,), "held too long")
    db.execute("UPDATE accounts SET state = 'needs_reconnect'")
    await sending.publish(engine, delivery.id)
    assert status_of(db, delivery) == "scheduled", "within the grace it waits for the account"
    db.execute("UPDATE posts SET post_date = now() - interval '1 hour', grace_s = 60")
    await sending.publish(engine, delivery.id)
    state, error, next_step = told(db, delivery)
    assert (state, "connected again" in error, "Connect the account" in next_step) == ("missed", True, True)


async def test_the_jobs_of_a_person_who_was_removed_do_nothing(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "removed")
    [delivery] = scheduled(db, settings, ada, (account,), "its author is gone")
    db.execute("DELETE FROM posts WHERE user_id = %s", [ada])
    db.execute("DELETE FROM users WHERE id = %s", [ada])
    assert await preparing.prepare(engine, delivery.id) is None
    assert await sending.publish(engine, delivery.id) is None
    assert await reconciling.reconcile(engine, delivery.id) is None
    assert sandbox.ledger.times_published("its author is gone") == 0


async def test_a_network_no_longer_registered_ends_with_a_sentence_before_anything_is_sent(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "pixelfed", "unregistered")
    [waiting] = scheduled(db, settings, ada, (account,), "its network is gone", media=(a_picture(db, ada),))
    monkeypatch.delitem(platforms.REGISTRY, "pixelfed")
    await sending.publish(engine, waiting.id)
    state, error, next_step = told(db, waiting)
    assert state == "failed"
    assert error == "PostFlow no longer speaks to “pixelfed”."
    assert next_step == "Publish it by hand."


async def test_an_unknown_outcome_on_a_network_no_longer_registered_is_left_to_the_person(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "unlooked")
    [delivery] = scheduled(db, settings, ada, (account,), "out, perhaps")
    sandbox.faults.add("drop_after_commit", **POSTS, times=1)
    await sending.publish(engine, delivery.id)
    monkeypatch.delitem(platforms.REGISTRY, "mastodon")
    await reconciling.reconcile(engine, delivery.id)
    state, error, _ = told(db, delivery)
    assert (state, "no longer speaks" in error) == ("attention", True)


@pytest.mark.parametrize("prepared", [False, True])
async def test_a_missing_key_holds_a_post_spends_nothing_and_ends_when_the_key_is_back(
    prepared: bool,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    text = f"locked out, {'after' if prepared else 'before'} preparing"
    account = await an_account(db, engine, sandbox, ada, "mastodon", f"locked{prepared}")
    [delivery] = scheduled(db, settings, ada, (account,), text)
    if prepared:
        assert await preparing.prepare(engine, delivery.id)
    lost = settings.model_copy(update={"encryption_keys": (SecretStr(Fernet.generate_key().decode()),)})
    for _ in range(settings.max_faults + 2):
        await sending.publish(replace(engine, settings=lost), delivery.id)
        db.execute("UPDATE deliveries SET not_before = NULL, wake_at = now() - interval '1 second'")
    assert status_of(db, delivery) == ("ready" if prepared else "scheduled")
    done = await sending.publish(engine, delivery.id)
    assert done and done.faults == 0
    assert sandbox.ledger.times_published(text) == 1


# -- a database that cannot write --------------------------------------------------------------------------


@pytest.fixture
def read_only(admin: psycopg.Connection, database_url: str) -> Iterator[None]:
    """As a failover to a standby leaves it: every session begins read-only."""
    name = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]))
    yield
    admin.execute(sql.SQL("ALTER DATABASE {} RESET default_transaction_read_only").format(name))


def make_read_only(admin: psycopg.Connection, database_url: str, wanted: bool) -> None:
    """For new sessions. Going read-only ends the present ones; coming back leaves them as they are, as hosts do."""
    name = str(psycopg.conninfo.conninfo_to_dict(database_url)["dbname"])
    admin.execute(
        sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}").format(
            sql.Identifier(name), sql.Literal("on" if wanted else "off")
        )
    )
    if wanted:
        gone = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"  # waits until they are
        admin.execute(gone, [name])


async def test_a_read_only_database_sends_nothing_and_forgets_nothing(
    db: psycopg.Connection,
    admin: psycopg.Connection,
    database_url: str,
    read_only: None,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "reader")
    [delivery] = scheduled(db, settings, ada, (account,), "no intent, no request")
    assert await preparing.prepare(engine, delivery.id)
    make_read_only(admin, database_url, True)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await sending.publish(engine, delivery.id)
    assert sandbox.ledger.times_published("no intent, no request") == 0
    make_read_only(admin, database_url, False)
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        await sending.publish(engine, delivery.id)  # by a session that began before
    monkeypatch.setattr(postflow.db, "READ_ONLY_LIFE_S", 0)
    assert await sending.publish(engine, delivery.id)
    assert sandbox.ledger.times_published("no intent, no request") == 1


FULL = """
    CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE ON deliveries EXECUTE FUNCTION full_disk();
"""


async def test_a_full_disk_sends_nothing_and_spends_no_attempt(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "full")
    [delivery] = scheduled(db, settings, ada, (account,), "no room for the intent")
    assert await preparing.prepare(engine, delivery.id)
    db.execute(FULL)
    with pytest.raises(psycopg.errors.DiskFull):
        await sending.publish(engine, delivery.id)
    assert sandbox.ledger.times_published("no room for the intent") == 0
    db.execute("DROP TRIGGER full_disk ON deliveries")
    done = await sending.publish(engine, delivery.id)
    assert done and (done.attempt_no, done.faults) == (1, 0)


async def test_a_disk_that_fills_up_while_preparing_is_no_fault_of_the_networks(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "filling")
    [delivery] = scheduled(db, settings, ada, (account,), "full half-way")
    db.execute(FULL.replace("INSERT OR UPDATE", "INSERT OR UPDATE OF staged"))
    with pytest.raises(psycopg.errors.DiskFull):
        await preparing.prepare(engine, delivery.id)
    db.execute("DROP TRIGGER full_disk ON deliveries")
    db.execute("UPDATE deliveries SET wake_at = now() - interval '1 second'")
    assert (await sweeping.sweep(engine))["preparing"] == 1
    done = await sending.publish(engine, delivery.id)
    assert done and done.faults == 0


async def test_an_answer_waits_until_it_can_be_written_down(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "written-later")
    [delivery] = scheduled(db, settings, ada, (account,), "out, and written down when there was room")
    db.execute(FULL.replace("INSERT OR UPDATE", "INSERT OR UPDATE OF remote_id"))
    publish = asyncio.create_task(sending.publish(engine, delivery.id))
    while not sandbox.ledger.times_published("out, and written down when there was room"):  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)
    assert status_of(db, delivery) == "sending" and not publish.done()
    db.execute("DROP TRIGGER full_disk ON deliveries")
    assert await publish
    assert status_of(db, delivery) == "published"


async def test_an_answer_that_cannot_be_written_down_is_looked_up_and_not_sent_again(
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engines, "KEPT_FOR_S", 0)  # the process ends before there is room
    account = await an_account(db, engine, sandbox, ada, "mastodon", "unwritten")
    [delivery] = scheduled(db, settings, ada, (account,), "out, but nowhere written")
    db.execute(FULL.replace("INSERT OR UPDATE", "INSERT OR UPDATE OF remote_id"))
    with pytest.raises(psycopg.errors.DiskFull):
        await sending.publish(engine, delivery.id)
    db.execute("DROP TRIGGER full_disk ON deliveries")
    assert status_of(db, delivery) == "sending"
    db.execute("UPDATE deliveries SET wake_at = now() - interval '1 second'")
    assert (await sweeping.sweep(engine))["sending"] == 1
    found = await reconciling.reconcile(engine, delivery.id)
    assert found and found.status == "published"
    assert sandbox.ledger.times_published("out, but nowhere written") == 1
