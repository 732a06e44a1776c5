"""Each guard of each transition's SQL is taken out of the statement on its way to the database, once, and its story told
again: what it prevents must happen then. What no story misses is not needed, or must say why it stands there.
"""

import ast
import contextlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import class_row

from postflow.models import Delivery
from postflow.posts.deliveries import COLUMNS
from tests.engine.guards import ACTS, ELSEWHERE, NOT_NEEDED, STORIES, WORLD, Row, Story
from tests.engine.pieces import Piece, pieces

KINDS = ("condition:", "alternative:", "value:", "column:")


class Wire:
    """Sees the first statement that changes or asks something, and takes one piece out of it."""

    def __init__(self) -> None:
        self.is_open, self.without = False, None
        self.seen = ""

    def statement(self, query: Any) -> Any:
        if not self.is_open:
            return query
        self.is_open, self.seen = False, str(query)
        return self.without.out_of(self.seen) if self.without else query

    @contextlib.contextmanager
    def less(self, without: Piece | None) -> Iterator[None]:
        self.is_open, self.without = True, without
        try:
            yield
        finally:
            self.is_open = False


class World:
    def __init__(self, conn: psycopg.Connection, aconn: psycopg.AsyncConnection) -> None:
        self.conn, self.aconn, self.wire = conn, aconn, Wire()
        wire = self.wire

        class Cursor(psycopg.Cursor):
            def execute(self, query: Any, *args: Any, **options: Any) -> Any:
                return super().execute(wire.statement(query), *args, **options)

        class AsyncCursor(psycopg.AsyncCursor):
            async def execute(self, query: Any, *args: Any, **options: Any) -> Any:
                return await super().execute(wire.statement(query), *args, **options)

        conn.cursor_factory, aconn.cursor_factory = Cursor, AsyncCursor

    async def comes_right(self, story: Story, without: Piece | None = None) -> bool:
        """Tells it in a transaction of its own, that is taken back."""
        inside = _Inside(self.conn if story.where.startswith("deliveries.") else self.aconn)
        await inside.execute("BEGIN; SET LOCAL statement_timeout = '1s'")
        try:
            await inside.execute(story.given)
            row = Row(self.conn, self.aconn, await inside.delivery())
            if story.meanwhile:
                await inside.execute(story.meanwhile)
            before = await inside.all()
            try:
                with self.wire.less(without):
                    result = (story.act or ACTS[story.where])(row)
                    if inspect.isawaitable(result):
                        result = await result
            except (psycopg.IntegrityError, psycopg.errors.QueryCanceled):
                if without is None:
                    raise
                return False  # the tables refuse what it would do then, or it would never end
            return await _is_right(inside, story, before, result)
        finally:
            await inside.execute("ROLLBACK")


class _Inside:
    """Both kinds of connection alike."""

    def __init__(self, conn: psycopg.Connection | psycopg.AsyncConnection) -> None:
        self.conn = conn

    async def execute(self, query: str) -> Any:
        done = self.conn.execute(query.encode())
        return await done if inspect.isawaitable(done) else done

    async def rows(self, query: str) -> list[Any]:
        found = (await self.execute(query)).fetchall()
        return await found if inspect.isawaitable(found) else found

    async def delivery(self) -> Delivery:
        with_names = self.conn.cursor(row_factory=class_row(Delivery))
        done = with_names.execute(f"SELECT {COLUMNS} FROM deliveries WHERE id = 5".encode())
        if inspect.isawaitable(done):
            await done
        found = with_names.fetchone()
        found = await found if inspect.isawaitable(found) else found
        assert found
        return found

    async def all(self) -> dict[int, str]:
        return {row[0]: row[1] for row in await self.rows("SELECT id, d::text FROM deliveries d")}


async def _is_right(inside: _Inside, story: Story, before: dict[int, str], result: Any) -> bool:
    if callable(story.right):
        return story.right(result)
    word, _, number = story.right.partition(" ")
    after = await inside.all()
    if word in ("untouched", "changed"):
        return (before[int(number)] == after[int(number)]) is (word == "untouched")
    if story.right == "one row of another":
        return len(after) == len(before) + 1
    [[right]] = await inside.rows(f"SELECT ({story.right}) IS TRUE FROM deliveries d WHERE id = 5")
    return right


def named(reference: str, found: list[Piece]) -> list[Piece]:
    """`kind:text#2`: its kind where the text alone does not tell, `…` for the rest of it, and the how-manieth of several."""
    kind, _, text = reference.rpartition(":") if reference.startswith(KINDS) else ("", "", reference)
    text, _, nth = text.partition("#")
    start = text.removesuffix("…").rstrip()
    meant = [
        piece
        for piece in found
        if piece.kind.startswith(kind) and (piece.text.startswith(start) if text.endswith("…") else piece.text == text)
    ]
    return meant[int(nth) - 1 : int(nth)] if nth else meant


@pytest.fixture
async def world(db: psycopg.Connection, adb: psycopg.AsyncConnection) -> World:
    db.execute(WORLD.encode())
    return World(db, adb)


def changing_functions() -> Iterator[str]:
    """Whatever changes or makes rows of deliveries, or holds an account back, found in the source."""
    for path in sorted((Path(__file__).parents[2] / "postflow").rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            said = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            if any(re.search(r"UPDATE deliveries\s|INSERT INTO deliveries |throttled_until = ", text) for text in said):
                yield f"{path.stem}.{getattr(node, 'name', '(module)')}"


def test_every_function_that_changes_a_row_has_its_stories() -> None:
    assert {*changing_functions()} == {*ACTS, *ELSEWHERE}
    assert {story.where for story in STORIES} == set(ACTS)


@pytest.mark.parametrize("where", ACTS)
async def test_each_guard_prevents_what_its_story_tells(world: World, where: str) -> None:
    stories = [story for story in STORIES if story.where == where]
    for story in stories:
        assert await world.comes_right(story), f"{where}: {story.why}"
    found = pieces(world.wire.seen)
    seen: set[Piece] = set()
    for story in stories:
        for guard in story.guards:
            meant = named(guard, found)
            assert meant, f"{where}: no such part: {guard}"
            for piece in meant:
                assert not await world.comes_right(story, piece), (
                    f"{where}, “{story.why}”: nothing changes without {piece}"
                )
            seen |= set(meant)
    unseen = [piece for piece in found if piece not in seen and not await _is_missed(world, stories, piece)]
    reasons = [piece for one in NOT_NEEDED.get(where, {}) for piece in named(one, found)]
    assert sorted(unseen) == sorted(reasons), "what no story misses must say in NOT_NEEDED why it stands there"


async def _is_missed(world: World, stories: list[Story], piece: Piece) -> bool:
    for story in stories:
        if not await world.comes_right(story, piece):
            return True
    return False
