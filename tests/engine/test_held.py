"""Something on the way holds the first request back, and lets it go after a second one was sent or a person was asked."""

import uuid

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.posts import deliveries
from postflow.publishing import rechecking, reconciling, sending, sweeping
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of
from tests.platforms.networks import BY_NAME

#: Beyond what nobody is asked within, in lifetime's strides.
MINUTES = 6


class Lost:
    """A post whose first request was held back, and what PostFlow makes of that."""

    def __init__(self, conn: psycopg.Connection, engine: Engine, sandbox: Sandbox, delivery: Delivery, text: str):
        self.conn, self.engine, self.sandbox, self.delivery, self.text = conn, engine, sandbox, delivery, text

    @property
    def status(self) -> str:
        return status_of(self.conn, self.delivery)

    @property
    def requests(self) -> int:
        sent = self.sandbox.ledger.requests(method="POST", path="/api/v1/statuses")
        return sum(one.params.get("status") == self.text for one in sent)

    def times_out(self) -> int:
        return self.sandbox.ledger.times_published(self.text)

    async def comes_to_rest(self) -> str:
        await lifetime.to_rest(self.engine, self.conn, [self.delivery.id])
        return self.status

    async def a_good_hour_passes(self) -> None:
        """And some minutes, with the sweep and the jobs it defers."""
        for _ in range(15):
            lifetime.pass_time(self.conn, 300)
            await sweeping.sweep(self.engine)
            await lifetime.run_due(self.engine, self.conn)

    def told(self) -> list[str]:
        row = self.conn.execute("SELECT notes FROM deliveries WHERE id = %s", [self.delivery.id]).fetchone()
        assert row
        return [note for note in row[0] if "twice" in note]

    def notices(self) -> list[tuple[str, str]]:
        return self.conn.execute("SELECT kind, body FROM notices WHERE kind = 'delivery-twice'").fetchall()

    def left_to_look(self) -> int:
        row = self.conn.execute("SELECT count(*) FROM rechecks").fetchone()
        assert row
        return row[0]


@pytest.fixture
async def lost(
    network: str,
    pictures: int,
    held: dict[str, object],
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> Lost:
    known = BY_NAME[network]
    if network not in sandbox.network.instances:
        sandbox.add_instance(known.software or "mastodon", known.version, name=network)
    handle = f"h{uuid.uuid4().hex[:8]}"
    account = await an_account(db, engine, sandbox, ada, network, handle)
    text = f"held back {uuid.uuid4().hex}"
    media = tuple(a_picture(db, ada) for _ in range(pictures))
    [delivery] = scheduled(db, settings, ada, (account,), text, media=media)
    sandbox.faults.add("held", account=handle, **held)
    assert await sending.publish(engine, delivery.id) is None
    found = Lost(db, engine, sandbox, delivery, text)
    assert (found.status, found.times_out()) == ("unknown", 0)
    return found


GUARDED = [
    ("mastodon", 0), ("mastodon", 1), ("mastodon-4.1", 0), ("mastodon-4.1", 1), ("mastodon-4.6", 0), ("akkoma", 0),
    ("akkoma", 1), ("pleroma", 0), ("gotosocial", 1), ("pixelfed", 1),
]  # fmt: skip


@pytest.mark.parametrize("held", [{}])
@pytest.mark.parametrize(("network", "pictures"), GUARDED)
async def test_what_is_guarded_goes_again_and_the_first_makes_no_second_post(lost: Lost) -> None:
    """The server knows the key, or refuses uploads that a status has already."""
    assert await lost.comes_to_rest() == "published"
    assert (lost.requests, lost.times_out()) == (2, 1)
    assert lost.sandbox.let_go() == 1
    assert lost.times_out() == 1
    await lost.a_good_hour_passes()
    assert lost.told() == []
    assert lost.left_to_look() == 0


UNGUARDED = [("gotosocial", 0), ("takahe", 0), ("takahe", 1), ("hollo", 0), ("snac", 1), ("unknown", 0)]


@pytest.mark.parametrize("held", [{}])
@pytest.mark.parametrize(("network", "pictures"), UNGUARDED)
async def test_what_nothing_guards_is_left_to_a_person_and_never_sent_again(lost: Lost) -> None:
    assert await lost.comes_to_rest() == "attention"
    assert lost.requests == 1
    assert lost.sandbox.let_go() == 1
    assert lost.times_out() == 1


@pytest.mark.parametrize("held", [{}])
@pytest.mark.parametrize(("network", "pictures"), [("gotosocial", 0), ("takahe", 0), ("snac", 0)])
async def test_what_was_held_for_minutes_is_found_before_anybody_is_asked(lost: Lost) -> None:
    for minute in range(MINUTES):
        await reconciling.reconcile(lost.engine, lost.delivery.id)
        if minute == 3:
            assert lost.status == "unknown", "it may come yet"
            lost.sandbox.let_go()
        lifetime.pass_time(lost.conn, 61)
    assert (lost.status, lost.requests, lost.times_out()) == ("published", 1, 1)


TOGETHER = [("mastodon-4.1", 0), ("glitch", 1), ("gotosocial", 1), ("pleroma", 0)]


@pytest.mark.parametrize("held", [{"with_next": True}])
@pytest.mark.parametrize(("network", "pictures"), TOGETHER)
async def test_two_that_arrived_together_are_seen_and_their_person_is_told_once(lost: Lost, network: str) -> None:
    """Where no lock is on the key, nothing can prevent it."""
    lost.sandbox.configure(network, idempotency_lock=False)
    assert await lost.comes_to_rest() == "published"
    lost.sandbox.wait_until_idle()
    assert lost.times_out() == 2
    await lost.a_good_hour_passes()
    [note] = lost.told()
    both = lost.sandbox.ledger.statuses(text=lost.text)
    assert all(one.url in note for one in both)
    assert note.endswith("Delete one of them there.")
    assert lost.notices() == [("delivery-twice", lost.notices()[0][1])]
    assert note in lost.notices()[0][1]
    assert lost.left_to_look() == 0


@pytest.mark.parametrize("seen_where", [True, False])
@pytest.mark.parametrize("held", [{"with_next": True}])
@pytest.mark.parametrize(("network", "pictures"), [("mastodon-4.1", 0)])
async def test_what_a_person_found_is_looked_at_once_more_too_when_it_was_sent_twice(
    lost: Lost, seen_where: bool
) -> None:
    """Without its address nobody could tell a second one from it."""
    await lost.comes_to_rest()
    lost.sandbox.wait_until_idle()
    assert (lost.requests, lost.times_out()) == (2, 2)
    lost.conn.execute(
        "UPDATE deliveries SET status = 'attention', error = 'Which?', published_at = NULL, remote_id = NULL, permalink = NULL"
    )
    lost.conn.execute("DELETE FROM rechecks")
    one = lost.sandbox.ledger.statuses(text=lost.text)[0]
    where = {"remote_id": one.id, "permalink": one.url} if seen_where else {}
    assert deliveries.settle_published(lost.conn, lost.delivery.id, "Seen there.", **where)
    assert lost.left_to_look() == int(seen_where)
    await lost.a_good_hour_passes()
    assert len(lost.told()) == int(seen_where)


@pytest.mark.parametrize("held", [{"with_next": True}])
@pytest.mark.parametrize(("network", "pictures"), [("mastodon", 0), ("mastodon-4.6", 0)])
async def test_a_lock_on_the_key_makes_one_of_two_that_arrive_together(lost: Lost) -> None:
    assert await lost.comes_to_rest() == "published"
    assert lost.times_out() == 1
    await lost.a_good_hour_passes()
    assert (lost.times_out(), lost.told()) == (1, [])


@pytest.mark.parametrize("held", [{"with_next": True}])
@pytest.mark.parametrize(("network", "pictures"), [("mastodon-4.1", 0)])
async def test_a_server_that_cannot_be_asked_is_asked_again(lost: Lost) -> None:
    await lost.comes_to_rest()
    away = lost.sandbox.faults.add("status", status=502, method="GET", path="/statuses$", times=None)
    lifetime.pass_time(lost.conn, deliveries.FIRST_RECHECK_S)
    await sweeping.sweep(lost.engine)
    await lifetime.run_due(lost.engine, lost.conn)
    assert (lost.told(), lost.left_to_look()) == ([], 1)
    lost.sandbox.faults.clear(away)
    lifetime.pass_time(lost.conn, rechecking.AGAIN_S)
    await sweeping.sweep(lost.engine)
    await lifetime.run_due(lost.engine, lost.conn)
    assert len(lost.told()) == 1


@pytest.mark.parametrize("held", [{}])
@pytest.mark.parametrize(("network", "pictures"), [("mastodon", 0)])
async def test_another_post_with_the_same_words_is_no_double(lost: Lost, ada: int, settings: config.Settings) -> None:
    await lost.comes_to_rest()
    [other] = scheduled(lost.conn, settings, ada, (lost.delivery.account_id,), lost.text)
    await lifetime.to_rest(lost.engine, lost.conn, [other.id])
    assert lost.times_out() == 2
    await lost.a_good_hour_passes()
    assert lost.told() == []


async def test_what_was_sent_once_is_not_looked_at_again(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "once")
    [plain] = scheduled(db, settings, ada, (account,), "sent once")
    await sending.publish(engine, plain.id)
    sandbox.faults.add("rate_limit", account="once", method="POST", path="/statuses$", seconds=0)
    [refused] = scheduled(db, settings, ada, (account,), "refused, and sent again")
    await lifetime.to_rest(engine, db, [refused.id])
    sandbox.faults.add("drop_after_commit", account="once", method="POST", path="/statuses$")
    [found] = scheduled(db, settings, ada, (account,), "found")
    await lifetime.to_rest(engine, db, [found.id])
    assert lifetime.states(db, [plain.id, refused.id, found.id]) == ["published"] * 3
    assert db.execute("SELECT count(*) FROM rechecks").fetchone() == (0,)
