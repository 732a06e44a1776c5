"""What stands before a server speaks for nobody: its errors, in JSON or not, neither publish, nor fail, nor end anything."""

import psycopg
import pytest

from postflow import config, publishing, reconciling
from postflow.engine import Engine
from postflow.models import Delivery
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
    assert await publishing.publish(engine, delivery.id) is None
    await absent(db, engine, delivery)
    where = COMMIT if away == "for posts" else {}
    fault = sandbox.faults.add("status", instance=network, status=404, body="json", text=text, times=None, **where)
    assert await publishing.publish(engine, delivery.id) is None
    assert status_of(db, delivery) in ("scheduled", "unknown")
    assert fault.hits
    sandbox.faults.clear()
    await lifetime.to_rest(engine, db, [delivery.id])
    assert status_of(db, delivery) == "published"
    [status] = sandbox.ledger.statuses(text=said)
    assert db.execute("SELECT remote_id FROM deliveries WHERE id = %s", [delivery.id]).fetchone() == (status.id,)


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
    assert await publishing.publish(engine, delivery.id) is None
    sandbox.faults.clear()
    assert db.execute("SELECT state FROM accounts WHERE id = %s", [account]).fetchone() == ("active",)
    await lifetime.to_rest(engine, db, [delivery.id])
    assert status_of(db, delivery) == "published"
    assert sandbox.ledger.times_published(said) == 1
