"""A thread goes out in order: a part that failed, is unknown, or was cancelled holds those after it, and says so."""

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from postflow import config, jobs
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.posts import scheduling
from postflow.publishing import preparing, sending, sweeping
from sandbox import Sandbox
from sandbox.core.ledger import StatusEntry
from tests.engine import lifetime
from tests.engine.conftest import an_account, scheduled
from tests.engine.lifetime import states

COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}
LISTING = {"method": "GET", "path": "/accounts/[^/]+/statuses$"}


class Thread:
    """Three parts on one account, all of them due."""

    def __init__(
        self,
        conn: psycopg.Connection,
        engine: Engine,
        sandbox: Sandbox,
        ada: int,
        account: int,
        handle: str,
        at: datetime | None = None,
    ) -> None:
        self.conn, self.engine, self.sandbox, self.ada, self.handle = conn, engine, sandbox, ada, handle
        self.texts = [f"{handle} {number}" for number in ("one", "two", "three")]
        one, two, three = self.texts
        self.parts = scheduled(conn, engine.settings, ada, (account,), one, thread=(two, three), at=at)
        self.ids = [part.id for part in self.parts]

    @property
    def states(self) -> list[str]:
        return states(self.conn, self.ids)

    def out(self) -> list[StatusEntry]:
        """What this account shows, in the order in which it came to be."""
        return self.sandbox.ledger.statuses(account=self.handle, published=True)

    def requests(self) -> int:
        """How many times something was to be published."""
        return len(self.sandbox.ledger.requests(account=self.handle, method="POST", path="/statuses"))

    async def ends(self) -> None:
        await lifetime.to_rest(self.engine, self.conn, self.ids)

    async def minutes_pass(self, minutes: int) -> None:
        """With the sweep that comes every minute, and whatever it wakes."""
        for _ in range(minutes):
            lifetime.pass_time(self.conn, 60)
            await sweeping.sweep(self.engine)
            await lifetime.run_due(self.engine, self.conn)

    def hours_late(self, hours: int) -> None:
        """All of it was due so long ago, whoever asked for it."""
        self.conn.execute("UPDATE posts SET post_date = post_date - make_interval(hours => %s)", [hours])
        self.conn.execute(
            "UPDATE deliveries SET asked_at = asked_at - make_interval(hours => %(h)s),"
            " wake_at = wake_at - make_interval(hours => %(h)s)",
            {"h": hours},
        )

    def asks_again(self, part: int) -> None:
        """“Try again”, as the web does it."""
        with self.conn.transaction():
            again = scheduling.retry(self.conn, self.ada, self.ids[part], now=datetime.now(UTC))
            jobs.publish_later(self.conn, again)

    def is_out_in_order(self) -> bool:
        found = self.out()
        parents = [None, *[one.id for one in found[:-1]]]
        return [one.text for one in found] == self.texts and [one.in_reply_to_id for one in found] == parents


@pytest.fixture
async def thread(
    db: psycopg.Connection,
    engine: Engine,
    sandbox: Sandbox,
    ada: int,
    instance: str,
) -> Thread:
    handle = "threader"
    account = await an_account(db, engine, sandbox, ada, instance, handle)
    return Thread(db, engine, sandbox, ada, account, handle)


on_mastodon = pytest.mark.parametrize("instance", ["mastodon"])
on_the_family = pytest.mark.parametrize("instance", ["mastodon", "gotosocial"])


@on_the_family
async def test_a_first_part_that_was_refused_holds_the_rest_until_the_person_tries_it_again(
    thread: Thread, sandbox: Sandbox
) -> None:
    refusal = sandbox.faults.add("status", account=thread.handle, **COMMIT, status=422, body="json", times=None)
    await lifetime.run_due(thread.engine, thread.conn)
    await thread.minutes_pass(10)
    assert thread.states == ["failed", "ready", "ready"]
    assert thread.requests() == 1, "only the first part was to be published"
    sandbox.faults.clear(refusal)
    thread.asks_again(0)
    await thread.ends()
    assert thread.states == ["published"] * 3
    assert thread.is_out_in_order()
    assert thread.requests() == 4


@on_mastodon
async def test_a_middle_part_that_was_refused_holds_only_what_comes_after_it(thread: Thread, sandbox: Sandbox) -> None:
    refusal = sandbox.faults.add("status", account=thread.handle, **COMMIT, skip=1, status=422, body="json", times=None)
    await lifetime.run_due(thread.engine, thread.conn)
    await thread.minutes_pass(10)
    assert thread.states == ["published", "failed", "ready"]
    assert [one.text for one in thread.out()] == thread.texts[:1]
    sandbox.faults.clear(refusal)
    thread.asks_again(1)
    await thread.ends()
    assert thread.is_out_in_order()


@pytest.mark.parametrize(
    ("instance", "fault"),
    [("mastodon", "drop_after_commit"), ("mastodon", "drop_before"), ("gotosocial", "drop_after_commit")],
)
async def test_a_first_part_whose_answer_was_lost_holds_the_rest_until_it_is_known(
    fault: str, thread: Thread, sandbox: Sandbox
) -> None:
    sandbox.faults.add(fault, account=thread.handle, **COMMIT)
    for delivery_id in thread.ids:
        await sending.publish(thread.engine, delivery_id)
    assert thread.states == ["unknown", "ready", "ready"]
    assert thread.requests() == 1
    await thread.ends()
    assert thread.states == ["published"] * 3
    assert thread.is_out_in_order()


@pytest.mark.parametrize("instance", ["gotosocial"])
async def test_a_first_part_that_only_its_person_can_decide_holds_the_rest(thread: Thread, sandbox: Sandbox) -> None:
    """Its server knows no key: sent again, a request that arrives late would make a second one."""
    sandbox.faults.add("drop_before", account=thread.handle, **COMMIT)
    for delivery_id in thread.ids:
        await sending.publish(thread.engine, delivery_id)
    await thread.minutes_pass(10)
    assert thread.states == ["attention", "ready", "ready"]
    assert thread.requests() == 1
    assert thread.out() == []


@pytest.mark.parametrize("prepared", [False, True])
@on_mastodon
async def test_the_rest_follows_at_once_when_the_first_part_is_found(
    prepared: bool, thread: Thread, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    """No time passes, nothing sweeps, and no job is left but that of the look."""
    sandbox.faults.add("drop_after_commit", account=thread.handle, **COMMIT)
    for delivery_id in thread.ids if prepared else thread.ids[:1]:
        await sending.publish(thread.engine, delivery_id)
    db.execute("DELETE FROM procrastinate_jobs WHERE task_name <> 'reconcile'")
    assert thread.states == ["unknown", *["ready" if prepared else "scheduled"] * 2]
    await lifetime.run_due(thread.engine, db)
    assert thread.is_out_in_order()


@on_mastodon
async def test_a_part_never_goes_out_without_its_parent_when_only_a_person_knows_that_one(
    thread: Thread, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    """The person saw the first part on the network; PostFlow never learned its id."""
    sandbox.faults.add("drop_after_commit", account=thread.handle, **COMMIT)
    unreadable = sandbox.faults.add("status", account=thread.handle, **LISTING, status=403, body="json", times=None)
    for_strangers = sandbox.faults.add("status", instance="mastodon", **LISTING, status=403, body="json", times=None)
    await lifetime.to_rest(thread.engine, db, thread.ids[:1])
    assert thread.states == ["attention", "ready", "ready"]
    sandbox.faults.clear(unreadable)
    sandbox.faults.clear(for_strangers)
    with db.transaction():
        scheduling.settle(db, thread.ada, thread.ids[0], published=True, now=datetime.now(UTC))
    await thread.minutes_pass(2)
    answered = [one.in_reply_to_id for one in thread.out()]
    assert answered == [None, *[one.id for one in thread.out()[:-1]]], "what is out answers the part before it"
    thread.hours_late(7)
    await thread.ends()
    assert thread.states[0] == "published"
    for state, error in reasons(db, thread.parts[1:]):
        assert state == "published" or error, "what did not go out says why"


@on_mastodon
async def test_a_first_part_that_nobody_can_decide_holds_the_rest_and_goes_first_when_it_is_not_there(
    thread: Thread, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    sandbox.faults.add("drop_before", account=thread.handle, **COMMIT)
    unreadable = sandbox.faults.add("status", instance="mastodon", **LISTING, status=403, body="json", times=None)
    await lifetime.to_rest(thread.engine, db, thread.ids[:1])
    await thread.minutes_pass(10)
    assert thread.states == ["attention", "ready", "ready"]
    assert thread.out() == []
    sandbox.faults.clear(unreadable)
    with db.transaction():
        absent = scheduling.settle(db, thread.ada, thread.ids[0], published=False, now=datetime.now(UTC))
        jobs.publish_later(db, absent)
    await thread.ends()
    assert thread.is_out_in_order()


@on_mastodon
async def test_parts_that_wait_in_vain_are_missed_with_a_reason_and_still_find_their_parent(
    thread: Thread, sandbox: Sandbox, db: psycopg.Connection
) -> None:
    sandbox.faults.add("status", account=thread.handle, **COMMIT, status=422, body="json")
    await lifetime.run_due(thread.engine, db)
    thread.hours_late(7)
    await thread.ends()
    assert thread.states == ["failed", "missed", "missed"]
    assert all(error for _, error in reasons(db, thread.parts))
    for part in range(3):
        thread.asks_again(part)
    await thread.ends()
    assert thread.is_out_in_order()


@on_mastodon
async def test_parts_asked_for_before_the_part_they_answer_wait_for_it(thread: Thread, db: psycopg.Connection) -> None:
    with db.transaction():
        scheduling.cancel(db, thread.ada, thread.parts[0].post_id)
    for part in (2, 1):
        thread.asks_again(part)
    await lifetime.run_due(thread.engine, db)
    await thread.minutes_pass(10)
    assert thread.states == ["cancelled", "ready", "ready"]
    assert thread.requests() == 0
    thread.asks_again(0)
    await thread.ends()
    assert thread.is_out_in_order()


@on_mastodon
async def test_a_part_whose_parent_stays_cancelled_comes_to_an_end_and_says_so(
    thread: Thread, db: psycopg.Connection
) -> None:
    with db.transaction():
        scheduling.cancel(db, thread.ada, thread.parts[0].post_id)
    thread.asks_again(1)
    await thread.minutes_pass(2)
    thread.hours_late(7)
    await thread.ends()
    assert thread.states == ["cancelled", "missed", "cancelled"]
    assert thread.out() == []
    told = db.execute("SELECT count(*) FROM notices WHERE kind = 'delivery-missed'").fetchone()
    assert told == (1,), "the person hears of it outside the pages"


@on_mastodon
async def test_a_thread_that_was_missed_goes_out_in_order_when_it_is_asked_for_now(
    thread: Thread, db: psycopg.Connection
) -> None:
    thread.hours_late(7)
    await thread.ends()
    assert thread.states == ["missed"] * 3
    with db.transaction():
        now = scheduling.publish_now(db, thread.ada, thread.parts[0].post_id, now=datetime.now(UTC))
        jobs.publish_later(db, now)
    await thread.ends()
    assert thread.is_out_in_order()


async def test_a_part_that_failed_on_one_account_holds_nothing_on_another(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    here = await an_account(db, engine, sandbox, ada, "mastodon", "held-here")
    there = await an_account(db, engine, sandbox, ada, "gotosocial", "free-there")
    sandbox.faults.add("status", account="held-here", **COMMIT, status=422, body="json")
    made = scheduled(db, settings, ada, (here, there), "apart one", thread=("apart two",))
    mine = [one.id for one in made if one.account_id == here]
    theirs = [one.id for one in made if one.account_id == there]
    await lifetime.run_due(engine, db)
    assert states(db, theirs) == ["published", "published"]
    assert states(db, mine) == ["failed", "ready"]
    first, second = sandbox.ledger.statuses(account="free-there", published=True)
    assert second.in_reply_to_id == first.id
    assert sandbox.ledger.statuses(account="held-here", published=True) == []


async def test_a_thread_that_was_prepared_early_waits_for_its_date_and_goes_out_in_order_when_that_is_now(
    db: psycopg.Connection, engine: Engine, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "threader-later")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    thread = Thread(db, engine, sandbox, ada, account, "threader-later", at=tomorrow)
    for delivery_id in thread.ids:
        await preparing.prepare(engine, delivery_id)
    await lifetime.run_due(engine, db)
    assert thread.states == ["ready"] * 3
    assert thread.requests() == 0
    with db.transaction():
        jobs.publish_later(db, scheduling.publish_now(db, ada, thread.parts[0].post_id, now=datetime.now(UTC)))
    await thread.ends()
    assert thread.is_out_in_order()


def reasons(conn: psycopg.Connection, parts: list[Delivery]) -> list[tuple[str, str]]:
    """State, and what the person is told went wrong."""
    rows = conn.execute(
        "SELECT status, coalesce(error, '') FROM deliveries WHERE id = ANY(%s) ORDER BY id", [[one.id for one in parts]]
    )
    return [(row[0], row[1]) for row in rows.fetchall()]
