"""Kills a worker at every single step of a post's path, one after the other, and looks what becomes of the post."""

import asyncio
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import zip_longest
from typing import Any, NamedTuple

import psycopg

from postflow.engine import Engine
from postflow.models import Delivery
from sandbox import Sandbox
from sandbox.core.ledger import StatusEntry
from tests.engine import lifetime

#: Given a text that no other post has, a post of one or more parts; the parts' texts begin with it.
Post = Callable[[str], Awaitable[list[Delivery]]]

#: The states that a part may end in, and how often it is on the network then.
Ends = Mapping[str, int]
PUBLISHED: Ends = {"published": 1}
FAILED: Ends = {"failed": 0}
LEFT_OPEN: Ends = {"attention": 0}

_ENV = ("DATABASE_URL", "POSTFLOW_")


class Life(NamedTuple):
    killed: bool
    steps: list[str]


class Workers:
    """Forked off a process that has everything imported: a hundred of them live and die in seconds."""

    def __init__(self, forge: "subprocess.Popen[str]") -> None:
        self._forge = forge

    async def live(self, task: dict[str, Any], dies_at: int) -> Life:
        env = {name: value for name, value in os.environ.items() if name.startswith(_ENV)}
        line = json.dumps({"env": env, "dies_at": dies_at, "task": task})
        answer = json.loads(await asyncio.to_thread(self._asked, line))
        assert answer["exit"] == 0, "the worker ended by itself, with an error"
        assert answer["signal"] in (0, 9)
        return Life(answer["signal"] == 9, answer["steps"])

    def _asked(self, line: str) -> str:
        assert self._forge.stdin and self._forge.stdout
        self._forge.stdin.write(f"{line}\n")
        self._forge.stdin.flush()
        return self._forge.stdout.readline()


@contextlib.contextmanager
def workers() -> Iterator[Workers]:
    command = [sys.executable, "-m", "tests.engine.mortal"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forge:
        yield Workers(forge)
        assert forge.stdin
        forge.stdin.close()


@dataclasses.dataclass
class Loop:
    """`at_every_step` lets a worker live to the end of the path, and then kills one at its first step, one at its second…"""

    workers: Workers
    conn: psycopg.Connection
    engine: Engine
    sandbox: Sandbox
    stride_s: float = lifetime.STRIDE_S
    clock_moves: bool = False  # the network's, too
    ends: Ends = dataclasses.field(default_factory=lambda: PUBLISHED)
    shows_texts: bool = True  # else a post is told by its account, which has no other

    def __post_init__(self) -> None:
        # No connection is kept: when the last is over, the network has done all it was asked.
        self.engine = dataclasses.replace(self.engine, http=self.engine.commit_http)

    async def at_every_step(self, post: Post, name: str) -> list[str]:
        """The names of all steps. Where a name comes again and again (one look is like the other), a worker dies at the
        first and at the last of them. Raises AssertionError naming each step that was not survived.
        """
        lost = list[str]()
        await self._lived(post, f"{name}, before:", 0, lost)  # an account's very first post goes its own way
        steps = (await self._lived(post, f"{name}, whole:", 0, lost)).steps
        for number in _worth_dying_at(steps):
            life = await self._lived(post, f"{name}, step {number:03}:", number, lost)
            assert life.killed and life.steps[-1] == steps[number - 1], _told_apart(life.steps, steps)
        assert not lost, "\n".join(lost)
        return steps

    async def _lived(self, post: Post, text: str, dies_at: int, lost: list[str]) -> Life:
        deliveries = await post(text)
        life = await self.workers.live(self._task(deliveries), dies_at)
        await asyncio.to_thread(self.sandbox.wait_until_left_alone)
        await lifetime.to_rest(self.engine, self.conn, **self._task(deliveries))
        self.conn.execute("DELETE FROM rechecks")  # a later life has only its own post to look at
        where = life.steps[-1] if life.killed else "the end"
        lost += [f"{dies_at} {where}: {what}" for what in self._wrong(text, deliveries)]
        return life

    def _task(self, deliveries: list[Delivery]) -> dict[str, Any]:
        return {
            "delivery_ids": [one.id for one in deliveries],
            "stride_s": self.stride_s,
            "clock_url": f"{self.sandbox.control_url}/_sandbox/clock" if self.clock_moves else None,
        }

    def _wrong(self, text: str, deliveries: list[Delivery]) -> Iterator[str]:
        """Each part has come to one of the ends it may, once, and is on the network as often as that end says: in its
        order, and the row knows which one it is.
        """
        rows = self.conn.execute(
            "SELECT d.status, d.remote_id, coalesce(d.error, ''), p.content->>'text', ltrim(a.handle, '@'),"
            " array(SELECT e.status FROM delivery_events e WHERE e.delivery_id = d.id ORDER BY e.id)"
            " FROM deliveries d JOIN posts p ON p.id = d.post_id JOIN accounts a ON a.id = d.account_id"
            " WHERE d.id = ANY(%s) ORDER BY d.id",
            [[one.id for one in deliveries]],
        ).fetchall()
        out = self._out(text, {row[4] for row in rows})
        parent = None
        for status, remote_id, error, said, _, told in rows:
            there = [one for one in out if one.text == said or not self.shows_texts]
            if len(there) != self.ends.get(status, -1) or (status == "published" and there[0].id != remote_id):
                yield f"{status} {error!r}, {len(there)} times on the network"
            elif there and there[0].in_reply_to_id != parent:
                yield "it answers to another post than the part before it"
            elif told[-1] != status or told.count(status) != 1:
                yield f"its story is {told}, and it is {status}"
            parent = remote_id
        if len(out) > len(rows):
            yield f"{len(out)} posts for {len(rows)} parts"

    def _out(self, text: str, handles: set[str]) -> list[StatusEntry]:
        if self.shows_texts:
            return self.sandbox.ledger.statuses(text=text, published=True)
        return [one for handle in handles for one in self.sandbox.ledger.statuses(account=handle, published=True)]


def _worth_dying_at(steps: list[str]) -> list[int]:
    """Numbers, the first is 1."""
    where: dict[str, list[int]] = {}
    for number, name in enumerate(steps, 1):
        where.setdefault(name, []).append(number)
    return sorted({number for numbers in where.values() for number in (numbers[0], numbers[-1])})


def _told_apart(died_at: list[str], steps: list[str]) -> str:
    """Where a life went another way than the first: then not every step was tried."""
    pairs = zip_longest(died_at, steps)
    return next(
        f"step {number}: {one!r} and then {other!r}" for number, (one, other) in enumerate(pairs, 1) if one != other
    )
