"""A worker that is gone at any of the steps that the engine names: somebody else goes on, and it goes out once.

What the process does besides (`tests/engine/test_kills.py` ends real ones) is told here in a moment.
"""

import dataclasses

import psycopg
import pytest

from postflow import config, publishing
from postflow.engine import Engine
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled, status_of

#: In the order in which they are reached, and what the row is then.
STEPS = {
    "preparing": "preparing",
    "checkpoint": "preparing",
    "staged": "preparing",
    "ready": "ready",
    "sending": "sending",
    "answered": "sending",
    "published": "published",
}


class Gone(BaseException):
    """Nothing that is still in its way may catch it."""


@pytest.mark.parametrize("last", STEPS)
async def test_what_a_worker_leaves_behind_goes_out_once(
    last: str, db: psycopg.Connection, engine: Engine, settings: config.Settings, sandbox: Sandbox, ada: int
) -> None:
    account = await an_account(db, engine, sandbox, ada, "mastodon", f"gone-{last}")
    text = f"its worker was gone at: {last}"
    [delivery] = scheduled(db, settings, ada, (account,), text, media=(a_picture(db, ada),))
    reached = list[str]()

    def ends_there(step: str) -> None:
        reached.append(step)
        if step == last:
            raise Gone

    with pytest.raises(Gone):
        await publishing.publish(dataclasses.replace(engine, reached=ends_there), delivery.id)
    assert list(dict.fromkeys(reached)) == list(STEPS)[: len(set(reached))]
    assert status_of(db, delivery) == STEPS[last]
    await lifetime.to_rest(engine, db, [delivery.id])
    assert (status_of(db, delivery), sandbox.ledger.times_published(text)) == ("published", 1)
    uploads = sandbox.ledger.requests(account=f"gone-{last}", method="POST", path="/media")
    assert len(uploads) == 1, "what was uploaded is not uploaded again"
