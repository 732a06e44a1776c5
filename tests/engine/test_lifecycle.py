"""docs/lifecycle.md draws a delivery's life; what the code does to rows in every state is held against it, both ways."""

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from postflow import config
from postflow.engine import Engine
from postflow.models import Delivery, DeliveryStatus, Receipt
from postflow.posts import deliveries
from postflow.publishing import due, rechecking, restoring, transitions
from sandbox import Sandbox
from tests.engine.conftest import an_account, scheduled
from tests.engine.guards import STATES

CHECKOUT = Path(__file__).parents[2]
DOCUMENT = (CHECKOUT / "docs" / "lifecycle.md").read_text()
NOTHING = "nothing"

Arrow = tuple[str, str, str]  # from, to, where


class Row(NamedTuple):
    """One delivery, and what moves it."""

    conn: psycopg.Connection
    aconn: psycopg.AsyncConnection
    delivery: Delivery

    @property
    def id(self) -> int:
        return self.delivery.id

    @property
    def sent(self) -> Delivery:
        """As its sender knows it."""
        return self.delivery.model_copy(update={"attempt_no": 1})


NOW = datetime.now(UTC)
RECEIPT = Receipt(remote_id="1", permalink=None)
GIVEN_BACK: dict[str, Any] = {
    "not_before": None,
    "faults": 1,
    "pauses": 0,
    "restage": False,
    "new_key": False,
    "detail": {},
}
SENT_AGAIN: dict[str, Any] = {"not_before": None, "new_key": True, "restage": True, "settled": True}
FAILED: dict[str, Any] = {"code": "no", "sentence": "It was refused.", "next_step": None, "detail": {}}
#: Every function with a statement that moves a row, as its callers call it.
MOVES: dict[str, list[Callable[[Row], Any]]] = {
    "deliveries.create": [
        lambda row: deliveries.create(row.conn, row.delivery.post_id, [row.delivery.account_id], "Scheduled.")
    ],
    "deliveries.begin_again": [lambda row: deliveries.begin_again(row.conn, row.delivery.post_id, "Edited.")],
    "deliveries.move": [lambda row: deliveries.move(row.conn, [row.delivery.post_id], "Moved.")],
    "deliveries.cancel": [lambda row: deliveries.cancel(row.conn, [row.id], "Cancelled.")],
    "deliveries.ask_again": [lambda row: deliveries.ask_again(row.conn, row.id, NOW, "Again.")],
    "deliveries.settle_published": [lambda row: deliveries.settle_published(row.conn, row.id, "It is there.")],
    "deliveries.settle_absent": [lambda row: deliveries.settle_absent(row.conn, row.id, NOW, "It is not there.")],
    "deliveries.set_aside": [lambda row: deliveries.set_aside(row.conn, row.id, "A post of its own.")],
    "deliveries.acknowledge": [lambda row: deliveries.acknowledge(row.conn, row.id, "Seen.")],
    "transitions.claim_to_prepare": [lambda row: transitions.claim_to_prepare(row.aconn, row.id, "new", 60)],
    "transitions.mark_ready": [lambda row: transitions.mark_ready(row.aconn, row.id, "mine", {})],
    "transitions.give_back": [
        lambda row: transitions.give_back(row.aconn, row.sent, "mine", sentence="Not now.", **GIVEN_BACK),
    ],
    "transitions.restage": [lambda row: transitions.restage(row.aconn, row.id, "Too old.")],
    "transitions.claim_to_send": [
        lambda row: transitions.claim_to_send(row.aconn, row.delivery, "new", 60, "alike", None, pace_s=0)
    ],
    "transitions.mark_published": [
        lambda row: transitions.mark_published(row.aconn, row.sent, RECEIPT, sentence="Published.", lookup=False),
        lambda row: transitions.mark_published(row.aconn, row.sent, RECEIPT, sentence="Found.", lookup=True),
    ],
    "transitions.mark_failed": [
        lambda row: transitions.mark_failed(row.aconn, row.sent, "mine", as_of=row.delivery.status_at, **FAILED),
        lambda row: transitions.mark_failed(row.aconn, row.sent, None, as_of=row.delivery.status_at, **FAILED),
    ],
    "transitions.mark_missed": [
        lambda row: transitions.mark_missed(row.aconn, row.id, "Too late.", "Move it.", as_of=row.delivery.status_at)
    ],
    "transitions.mark_unknown": [
        lambda row: transitions.mark_unknown(row.aconn, row.id, "mine", NOW, code="lost", sentence="Lost.", detail={})
    ],
    "transitions.look_again": [
        lambda row: transitions.look_again(row.aconn, row.id, "mine", NOW, absent=True, sentence="Not there yet.")
    ],
    "transitions.send_again": [
        lambda row: transitions.send_again(row.aconn, row.id, "mine", sentence="Absent.", **SENT_AGAIN)
    ],
    "transitions.mark_attention": [
        lambda row: transitions.mark_attention(
            row.aconn, row.id, "mine", code="?", sentence="Unclear.", next_step="Look."
        )
    ],
    "rechecking.tell": [lambda row: rechecking.tell(row.aconn, row.id, "It is there twice.")],
    "due.drop_preparing": [lambda row: due.drop_preparing(row.aconn, 60)],
    "restoring.doubt": [
        lambda row: restoring.doubt(row.aconn, NOW, long=False),
        lambda row: restoring.doubt(row.aconn, NOW, long=True),
    ],
    "due.lose_sending": [lambda row: due.lose_sending(row.aconn, NOW)],
}


# -- the document ------------------------------------------------------------------------------------------


def table() -> set[Arrow]:
    rows = re.findall(r"^\| ([a-z, ]+) \| (\w+) \| [^|]+ \| [^|]+ \| `([a-z_.]+)` \|$", DOCUMENT, re.MULTILINE)
    return {(one, after, where) for before, after, where in rows for one in before.split(", ")}


def drawing() -> set[tuple[str, str]]:
    [drawn] = re.findall(r"^```mermaid\nstateDiagram-v2\n(.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    found = [re.fullmatch(r"    (\S+) --> (\w+)(: .+)?", line) for line in drawn.splitlines()]
    assert all(found), "a line of the drawing is no arrow"
    pairs = [(arrow[1].replace("[*]", NOTHING), arrow[2]) for arrow in found if arrow]
    assert len(pairs) == len(set(pairs)), "an arrow is drawn twice"
    return set(pairs)


# -- the code ----------------------------------------------------------------------------------------------


def moving_functions() -> Iterator[str]:
    """Whatever in our code sets a delivery's state or tells its story, found in the source."""
    for folder in ("postflow", "worker", "web"):
        for path in (CHECKOUT / folder).rglob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if _moves(node):
                    yield f"{path.stem}.{getattr(node, 'name', '(module)')}"


def _moves(node: ast.AST) -> bool:
    said = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    updates = [re.search(r"UPDATE deliveries\s+SET(.*?)(\bWHERE\b|\bFROM\b|$)", text, re.DOTALL) for text in said]
    called = {getattr(one.func, "id", "") for one in ast.walk(node) if isinstance(one, ast.Call)}
    makes = any("INSERT INTO deliveries " in text for text in said)
    sets = any(found and re.search(r"\bstatus\s*=", found[1]) for found in updates)
    tells = any(updates) and called & {"told", "_told", "_overslept"}
    return makes or sets or bool(tells)


@pytest.fixture
async def row(
    db: psycopg.Connection,
    adb: psycopg.AsyncConnection,
    engine: Engine,
    settings: config.Settings,
    sandbox: Sandbox,
    ada: int,
) -> Row:
    account = await an_account(db, engine, sandbox, ada, "mastodon", "alive")
    [delivery] = scheduled(db, settings, ada, (account,), "a life")
    return Row(db, adb, delivery)


def put(row: Row, state: str) -> None:
    """As if its life had brought it there; with no more of a story than that the claim came through."""
    row.conn.execute("DELETE FROM deliveries")
    if state != NOTHING:
        row.conn.execute(
            "INSERT INTO deliveries (id, post_id, account_id, revision, status_at, wake_at) OVERRIDING SYSTEM VALUE"
            " VALUES (%s, %s, %s, %s, %s, now() - interval '1 minute')",
            [row.id, row.delivery.post_id, row.delivery.account_id, row.delivery.revision, row.delivery.status_at],
        )
        row.conn.execute(f"UPDATE deliveries SET status = '{state}', {STATES[state]}".encode())
        row.conn.execute(
            "INSERT INTO delivery_events (delivery_id, status, sentence, detail)"
            """ VALUES (%s, 'sending', 'Sent.', '{"claim": "mine"}')""",
            [row.id],
        )


def found(row: Row) -> tuple[str, list[tuple[str, str]]]:
    """Its state now, and each line that its story has got: state and sentence."""
    status = row.conn.execute("SELECT status FROM deliveries").fetchone()
    lines = row.conn.execute(
        "SELECT status, sentence FROM delivery_events WHERE sentence <> 'Sent.' ORDER BY id"
    ).fetchall()
    return (status[0] if status else NOTHING), [(line[0], line[1]) for line in lines]


async def moved(row: Row) -> set[Arrow]:
    """Every state, through every function. An arrow is what tells the person something."""
    seen: set[Arrow] = set()
    for where, ways in MOVES.items():
        for way in ways:
            for before in (NOTHING, *STATES):
                put(row, before)
                result = way(row)
                if inspect.isawaitable(result):
                    await result
                after, story = found(row)
                if before != after or story:
                    assert [line[0] for line in story] == [after], f"{where}: {before} → {after} told {story}"
                    assert story[0][1], f"{where} tells nothing"
                    seen.add((before, after, where))
    return seen


# -- held against each other -------------------------------------------------------------------------------


def test_every_function_that_moves_a_row_is_tried_here() -> None:
    assert sorted(moving_functions()) == sorted(MOVES)


def test_every_state_is_tried_and_drawn() -> None:
    every = {str(status) for status in DeliveryStatus}
    assert set(STATES) == every
    assert {state for pair in drawing() for state in pair} == {NOTHING, *every}


def test_the_drawing_and_the_table_have_the_same_arrows() -> None:
    assert drawing() == {(before, after) for before, after, _ in table()}


async def test_rows_move_as_the_table_says_and_each_arrow_tells_the_person_one_line(row: Row) -> None:
    assert await moved(row) == table()
