"""What becomes of a lost request on each software of the fediverse, through the whole engine: never out twice."""

import uuid
from dataclasses import replace

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.publishing import reconciling, sending
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of
from tests.platforms.networks import BY_NAME

FAMILY = [one for one in BY_NAME.values() if one.platform in ("mastodon", "pixelfed")]
NAMES = [one.name for one in FAMILY]
CERTAIN = [one.name for one in FAMILY if one.proves_absence]
UNSURE = [one.name for one in FAMILY if not one.proves_absence]
COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}


class Sent:
    """One post with a picture on one software, on its way."""

    def __init__(self, conn: psycopg.Connection, engine: Engine, sandbox: Sandbox, text: str) -> None:
        self.conn, self.engine, self.sandbox, self.text = conn, engine, sandbox, text
        self.delivery: Delivery | None = None

    @property
    def id(self) -> int:
        assert self.delivery
        return self.delivery.id

    @property
    def status(self) -> str:
        assert self.delivery
        return status_of(self.conn, self.delivery)

    def times_out(self) -> int:
        return self.sandbox.ledger.times_published(self.text)

    def a_minute_passes(self) -> None:
        """For the looks, which keep their distance; uploads stay young."""
        self.conn.execute(
            """
            UPDATE deliveries SET first_absent_at = first_absent_at - interval '2 minutes',
                   sent_at = sent_at - interval '2 minutes', wake_at = now(), not_before = NULL
             WHERE id = %s AND status = 'unknown'
            """,
            [self.id],
        )

    async def look(self, times: int = 5) -> None:
        for _ in range(times):
            if self.status != "unknown":
                return
            await reconciling.reconcile(self.engine, self.id)
            self.a_minute_passes()


@pytest.fixture
async def sent(
    network: str,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> Sent:
    known = BY_NAME[network]
    if network not in sandbox.network.instances:
        sandbox.add_instance(known.software or "mastodon", known.version, name=network)
    account = await an_account(db, engine, sandbox, ada, network, f"r{uuid.uuid4().hex[:8]}")
    made = Sent(db, engine, sandbox, f"lost and found {uuid.uuid4().hex}")
    [made.delivery] = scheduled(db, settings, ada, (account,), made.text, media=(a_picture(db, ada),))
    return made


@pytest.mark.parametrize("network", NAMES)
async def test_a_lost_answer_is_found_and_nothing_is_sent_again(network: str, sent: Sent) -> None:
    sent.sandbox.faults.add("drop_after_commit", instance=network, **COMMIT)
    assert await sending.publish(sent.engine, sent.id) is None
    assert sent.status == "unknown"
    await sent.look()
    assert (sent.status, sent.times_out()) == ("published", 1)


@pytest.mark.parametrize("network", CERTAIN)
async def test_a_request_that_never_arrived_is_sent_again_once(network: str, sent: Sent) -> None:
    sent.sandbox.faults.add("drop_before", instance=network, **COMMIT)
    assert await sending.publish(sent.engine, sent.id) is None
    await sent.look()
    assert sent.status == "scheduled"
    assert await sending.publish(sent.engine, sent.id)
    assert (sent.status, sent.times_out()) == ("published", 1)


@pytest.mark.parametrize("network", UNSURE)
async def test_where_lists_may_be_incomplete_a_person_decides(network: str, sent: Sent) -> None:
    sent.sandbox.faults.add("drop_before", instance=network, **COMMIT)
    assert await sending.publish(sent.engine, sent.id) is None
    await sent.look()
    assert (sent.status, sent.times_out()) == ("attention", 0)


@pytest.mark.parametrize("network", ["mastodon"])
async def test_a_look_reckons_with_the_time_that_the_sender_gave_its_request(network: str, sent: Sent) -> None:
    """A worker that waits longer than the one that looks may have something on its way for longer."""
    patient = sent.engine.settings.model_copy(update={"request_timeout_s": 60.0})
    sent.sandbox.faults.add("drop_before", instance=network, **COMMIT)
    assert await sending.publish(replace(sent.engine, settings=patient), sent.id) is None
    counted = []
    for _ in range(2):
        lifetime.pass_time(sent.conn, 70)
        await reconciling.reconcile(sent.engine, sent.id)
        counted += sent.conn.execute("SELECT absent_looks FROM deliveries").fetchall()
    assert counted == [(0,), (1,)]


@pytest.mark.parametrize("network", ["mastodon", "snac"])
async def test_a_list_that_cannot_be_leafed_through_proves_nothing_and_is_not_read_over_and_over(
    network: str, sent: Sent, settings: config.Settings
) -> None:
    """The account has one post of today, none before it, and the server ignores max_id."""
    sent.sandbox.configure(network, pages=False)
    sent.sandbox.faults.add("drop_before", instance=network, **COMMIT)
    assert await sending.publish(sent.engine, sent.id) is None
    row = sent.conn.execute("SELECT account_id, user_id FROM deliveries d JOIN posts p ON p.id = post_id").fetchone()
    assert row
    [other] = scheduled(sent.conn, settings, row[1], (row[0],), "another post")
    assert await sending.publish(sent.engine, other.id)
    read = {"instance": network, "method": "GET", "path": "/statuses"}
    before = len(sent.sandbox.ledger.requests(**read))
    await reconciling.reconcile(sent.engine, sent.id)
    assert len(sent.sandbox.ledger.requests(**read)) - before == 2
    sent.a_minute_passes()
    await sent.look()
    assert (sent.status, sent.times_out()) == ("unknown", 0)
    said = sent.conn.execute("SELECT sentence FROM delivery_events WHERE delivery_id = %s ORDER BY id DESC", [sent.id])
    assert said.fetchone() == ("The account's list is not whole right now, so it proves nothing.",)


@pytest.mark.parametrize("network", NAMES)
async def test_two_lost_requests_in_a_row_are_one_post(network: str, sent: Sent) -> None:
    """The first never arrives, the second arrives and its answer is lost."""
    sent.sandbox.faults.add("drop_before", instance=network, **COMMIT)
    sent.sandbox.faults.add("drop_after_commit", instance=network, skip=0, **COMMIT)
    await sending.publish(sent.engine, sent.id)
    await sent.look()
    if network in UNSURE:
        sent.sandbox.faults.clear()
        assert (sent.status, sent.times_out()) == ("attention", 0)
        return
    await sending.publish(sent.engine, sent.id)
    await sent.look()
    assert (sent.status, sent.times_out()) == ("published", 1)
