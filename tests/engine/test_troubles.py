"""Each trouble on the way, on each kind of network, held against the table in docs/networks.md."""

import re
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from postflow import config, publishing, reconciling
from postflow.engine import Engine
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled
from tests.engine.test_clocks import Gone, ending
from tests.platforms.networks import BY_NAME

DOCUMENT = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()
COMMIT = {"method": "POST", "path": "/api/v1/statuses$"}
#: What each column of the table does to the first request, and to it alone.
TROUBLES: dict[str, tuple[str, dict[str, object]]] = {
    "answer lost": ("drop_after_commit", {}),
    "request lost": ("drop_before", {}),
    "arrives late": ("held", {}),
    "worker killed": ("", {}),
    "gateway 404": ("status", {"status": 404, "body": "json", "text": "Not Found"}),
    "gateway 502": ("status", {"status": 502, "body": "html"}),
    "server fault": ("status", {"status": 500, "body": "json", "text": "Oops."}),
    "401": ("revoke_token", {}),
    "429": ("rate_limit", {"seconds": 1}),
    "refused": ("status", {"status": 422, "body": "json", "text": "Not this."}),
    "picture gone": ("media_vanishes", {}),
}

WORDS = dict(re.findall(r"\((\d)\) “(.+?)”", DOCUMENT.replace("\n", " ")))


class Cell(NamedTuple):
    network: str
    sent: str
    trouble: str
    says: str


def table() -> list[Cell]:
    """The rows under `<!-- table: troubles -->`."""
    [found] = re.findall(r"<!-- table: troubles -->\n((?:\|.*\n)+)", DOCUMENT)
    lines = [[one.strip() for one in line.strip("|").split("|")] for line in found.splitlines()]
    head, _, *rows = lines
    return [
        Cell(row[0], row[1], trouble, says) for row in rows for trouble, says in zip(head[2:], row[2:], strict=True)
    ]


ROWS = list(dict.fromkeys((cell.network, cell.sent) for cell in table()))


@pytest.mark.parametrize(("network", "sent"), ROWS)
async def test_what_comes_of_each_trouble(
    network: str,
    sent: str,
    db: psycopg.Connection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> None:
    known = BY_NAME[network]
    if network not in sandbox.network.instances:
        sandbox.add_instance(known.software or "mastodon", known.version, name=network)
    said = {}
    for number, trouble in enumerate(TROUBLES):
        if trouble == "picture gone" and sent == "text":
            said[trouble] = "–"
            continue
        handle = f"trouble{number}"
        account = await an_account(db, engine, sandbox, ada, network, handle)
        media = (a_picture(db, ada),) if sent == "picture" else ()
        [delivery] = scheduled(db, settings, ada, (account,), f"trouble {number} on {network}", media=media)
        kind, how = TROUBLES[trouble]
        if kind:
            sandbox.faults.add(kind, account=handle, **COMMIT, **how)
            assert await publishing.publish(engine, delivery.id) is None or trouble == "picture gone"
        else:
            with pytest.raises(Gone):
                await publishing.publish(ending(engine, "sending"), delivery.id)
        if trouble == "arrives late":
            await reconciling.reconcile(engine, delivery.id)
            assert sandbox.let_go() == 1
        said[trouble] = await outcome(db, engine, sandbox, delivery.id, f"trouble {number} on {network}", trouble)
    assert said == {cell.trouble: cell.says for cell in table() if (cell.network, cell.sent) == (network, sent)}


async def outcome(
    conn: psycopg.Connection, engine: Engine, sandbox: Sandbox, delivery_id: int, text: str, trouble: str
) -> str:
    """In the table's words, after everything has come to its end."""
    if trouble != "401":
        await lifetime.to_rest(engine, conn, [delivery_id])
    row = conn.execute(
        "SELECT d.status, d.error_code, d.error, a.state FROM deliveries d JOIN accounts a ON a.id = d.account_id"
        " WHERE d.id = %s",
        [delivery_id],
    ).fetchone()
    assert row
    status, code, why, account = row
    times = sandbox.ledger.times_published(text)
    if (status, times) == ("published", 1):
        return "once, told it is incomplete" if code == "incomplete" else "once"
    if (status, times) == ("attention", 0):
        return f"in doubt ({next(number for number, words in WORDS.items() if words in why)})"
    if (status, times, account) == ("scheduled", 0, "needs_reconnect"):
        return "waits"
    return status if times == 0 else f"{status}, {times} out"
