"""What stands before a server speaks for nobody: its errors, in JSON or not, neither publish, nor fail, nor end anything."""

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.models import Delivery
from postflow.publishing import reconciling, sending
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of

COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}
NETWORKS = ["mastodon", "mastodon-4.1", "gotosocial", "pixelfed"]
#: Also in the words of Mastodon itself, as long as nothing else shows that the server is there.
AWAY = [("for posts", "Not Found"), ("for all", "Not Found"), ("for all", "Record not found")]


@pytest.mark.parametrize(("away", "text"), AWAY)
@pytest.mark.parametrize("network", NETWORKS)
async def test_a_404_in_answer_to_a_repeat_publishes_nothing(
    network: str,
    away: str,
    text: str,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    """The first request never arrived, and was seen not to; the repeat meets a gateway whose server is away."""
    said = f"behind a gateway {network} {away} {text}"
    account = await an_account(db, engine, sandbox, ada, network, said.replace(" ", "-"))
    [delivery] = scheduled(db, settings, ada, (account,), said, media=(a_picture(db, ada),))
    sandbox.faults.add("drop_before", instance=network, **COMMIT)
    assert await sending.publish(engine, delivery.id) is None
    await absent(db, engine, delivery)
    where = COMMIT if away == "for posts" else {}
    fault = sandbox.faults.add("status", instance=network, status=404, body="json", text=text, times=None, **where)
    assert await sending.publish(engine, delivery.id) is None
    assert status_of(db, delivery) in ("scheduled", "unknown")
    assert fault.hits
    sandbox.faults.clear()
    await lifetime.to_rest(engine, db, [delivery.id])
    assert status_of(db, delivery) == "published"
    [status] = sandbox.ledger.statuses(text=said)
    assert db.execute("SELECT remote_id FROM deliveries WHERE id = %s", [delivery.id]).fetchone() == (status.id,)


@pytest.mark.parametrize("pictures", [0, 1])
@pytest.mark.parametrize("network", ["mastodon", "mastodon-4.1"])
async def test_a_404_to_posts_alone_in_the_servers_very_words_about_a_known_key_leaves_it_to_its_person(
    network: str,
    pictures: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    """Whatever reads is answered by the server itself. Neither published, since nothing is out; nor failed; nor sent for an
    hour, until the server has forgotten the key of a post that was deleted there.
    """
    said = f"in its very words {network} {pictures}"
    account = await an_account(db, engine, sandbox, ada, network, said.replace(" ", "-"))
    media = tuple(a_picture(db, ada) for _ in range(pictures))
    [delivery] = scheduled(db, settings, ada, (account,), said, media=media)
    sandbox.faults.add("drop_before", instance=network, **COMMIT)
    assert await sending.publish(engine, delivery.id) is None
    await absent(db, engine, delivery)
    gate = {"status": 404, "body": "json", "text": "Record not found", "times": None}
    fault = sandbox.faults.add("status", instance=network, **gate, **COMMIT)
    assert await sending.publish(engine, delivery.id) is None
    assert status_of(db, delivery) == "unknown"
    await lifetime.to_rest(engine, db, [delivery.id])
    assert status_of(db, delivery) == "attention"
    assert fault.hits == 1
    told = db.execute("SELECT error FROM deliveries WHERE id = %s", [delivery.id]).fetchone()
    assert told
    assert "the server says that it had been there and is gone" in told[0]


async def absent(conn: psycopg.Connection, engine: Engine, delivery: Delivery) -> None:
    for _ in range(5):
        await reconciling.reconcile(engine, delivery.id)
        lifetime.pass_time(conn, lifetime.STRIDE_S)
        if status_of(conn, delivery) == "scheduled":
            return
    raise AssertionError("it is never held to be absent")


@pytest.mark.parametrize("status", [401, 403, 404])
@pytest.mark.parametrize("network", NETWORKS)
async def test_a_gateway_in_front_of_everything_ends_no_access_and_fails_no_post(
    network: str,
    status: int,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    """For a while each request, whoever asks for what, is turned away in JSON."""
    said = f"turned away {network} {status}"
    account = await an_account(db, engine, sandbox, ada, network, said.replace(" ", "-"))
    [delivery] = scheduled(db, settings, ada, (account,), said, media=(a_picture(db, ada),))
    sandbox.faults.add("status", instance=network, status=status, body="json", text="Unauthorized", times=None)
    assert await sending.publish(engine, delivery.id) is None
    sandbox.faults.clear()
    assert db.execute("SELECT state FROM accounts WHERE id = %s", [account]).fetchone() == ("active",)
    await lifetime.to_rest(engine, db, [delivery.id])
    assert status_of(db, delivery) == "published"
    assert sandbox.ledger.times_published(said) == 1
