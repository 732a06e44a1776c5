"""Each trouble on the way, on each kind of network, held against the table in docs/networks.md.

A network's name there may be followed by what POSTFLOW_INSTAGRAM_REPUBLISH is set to; else it is as shipped.
"""

import re
from pathlib import Path
from typing import NamedTuple, cast

import psycopg
import pytest

from postflow import config, platforms
from postflow.engine import Engine
from postflow.models import utc_now
from postflow.platforms.instagram import Instagram
from postflow.posts import deliveries
from postflow.publishing import reconciling, sending
from sandbox import Sandbox
from tests.engine import lifetime
from tests.engine.conftest import a_picture, an_account, scheduled
from tests.engine.test_clocks import Gone, ending
from tests.engine.test_instagram import Flavour, connected, settings
from tests.engine.test_kills_instagram import STORY
from tests.platforms.networks import BY_NAME

__all__ = ["settings"]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "networks.md").read_text()

Troubles = dict[str, tuple[str, dict[str, object]]]
#: What each column of the table does to the first request, and to it alone.
TROUBLES: Troubles = {
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
#: Meta's own words for them.
GRAPH_TROUBLES: Troubles = TROUBLES | {
    "server fault": ("graph_error", {"code": 2, "status": 500, "transient": True}),
    "429": ("rate_limit", {"style": "instagram", "seconds": 1}),
    "refused": ("graph_error", {"code": 368, "text": "The action attempted has been deemed abusive."}),
}

PICTURES = {"text": 0, "picture": 1, "carousel": 2, "story": 1}

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
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, _, republish = network.partition(", ")
    known = BY_NAME[name]
    if known.graph:
        sandbox.configure("instagram", **known.options)
        chosen = settings.model_copy(update={"instagram_republish": republish or "ask"})
        monkeypatch.setitem(platforms.REGISTRY, "instagram", Instagram(chosen))
    elif name not in sandbox.network.instances:
        sandbox.add_instance(known.software or "mastodon", known.version, name=name)
    said = {}
    for number, (trouble, (kind, how)) in enumerate((GRAPH_TROUBLES if known.graph else TROUBLES).items()):
        if trouble == "picture gone" and sent == "text":
            said[trouble] = "–"
            continue
        handle = f"trouble{number}"
        if known.graph:
            account = await connected(db, engine, sandbox, ada, handle, cast(Flavour, known.flavour))
        else:
            account = await an_account(db, engine, sandbox, ada, name, handle)
        media = tuple(a_picture(db, ada) for _ in range(PICTURES[sent]))
        text, options = (f"trouble {number} on {name}", None) if sent != "story" else ("", STORY)
        [delivery] = scheduled(db, settings, ada, (account,), text, media=media, options=options)
        if kind:
            sandbox.faults.add(kind, account=handle, method="POST", path=known.commit, **how)
            assert await sending.publish(engine, delivery.id) is None or trouble == "picture gone"
        else:
            with pytest.raises(Gone):
                await sending.publish(ending(engine, "sending"), delivery.id)
        if trouble == "arrives late":
            await reconciling.reconcile(engine, delivery.id)
            assert sandbox.let_go() == 1
        said[trouble] = await outcome(db, engine, sandbox, delivery.id, handle, trouble)
    assert said == {cell.trouble: cell.says for cell in table() if (cell.network, cell.sent) == (network, sent)}


async def outcome(
    conn: psycopg.Connection, engine: Engine, sandbox: Sandbox, delivery_id: int, handle: str, trouble: str
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
    times = len(sandbox.ledger.statuses(account=handle, published=True))
    if (status, times) == ("published", 1):
        return "once, told it is incomplete" if code == "incomplete" else "once"
    if (status, times) == ("attention", 0):
        deliveries.settle_absent(conn, delivery_id, utc_now(), "It is not there.")
        await lifetime.to_rest(engine, conn, [delivery_id])
        assert len(sandbox.ledger.statuses(account=handle, published=True)) == 1
        return f"in doubt ({next((number for number, words in WORDS.items() if words in why), why)})"
    if (status, times, account) == ("scheduled", 0, "needs_reconnect"):
        return "waits"
    return status if times == 0 else f"{status}, {times} out"
