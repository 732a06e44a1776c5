"""Worker processes that die where they are told to: `python -m tests.engine.mortal` forks one per line of its input.

in   {"env": {…}, "task": {what `lifetime.to_rest` is given}, "dies_at": n}
out  {"signal": 9 or 0, "exit": …, "steps": ["committed: transitions.claim_to_prepare", …]}

The child runs the real stories of `postflow.publishing.sending` until the deliveries rest. It counts its steps and kills itself
with SIGKILL at the n-th: nothing is tidied up, nothing said to the database or the network. Steps are

    each exchange with the database that may change it, when its answer is there: inside a transaction, or committed
    each request: about to leave, all of it out, the answer in
    each step that the engine itself names

What only reads leaves everything as it was at the step before it.
"""

import asyncio
import dataclasses
import functools
import importlib
import json
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

import httpx
import psycopg
from psycopg.pq import TransactionStatus

import postflow
from postflow import config, db, jobs, platforms
from postflow.engine import Engine
from postflow.http import clients
from tests.engine import lifetime

Step = Callable[[str], None]

_HOME = str(Path(postflow.__file__).parent)
_PARTS = {
    "http11.send_request_body.complete": "all out",
    "http11.receive_response_body.complete": "answer in",
}


#: What the first request would import in every child anew.
_LATE = ("anyio._backends._asyncio", "httpcore._async.http11", "httpcore._async.connection")


def main() -> None:
    for name in _LATE:
        importlib.import_module(name)
    list(platforms.REGISTRY)
    for line in sys.stdin:
        print(json.dumps(_lived(json.loads(line))), flush=True)


def _lived(order: dict[str, Any]) -> dict[str, Any]:
    os.environ.update(order["env"])
    ground = _ground(os.environ["DATABASE_URL"], os.environ.get("POSTFLOW_PUBLIC_URL", ""))
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(told)
        _live(order, ground, tell)
    os.close(tell)
    with open(told) as steps:
        taken = steps.read().splitlines()
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return {"signal": max(-code, 0), "exit": max(code, 0), "steps": taken}


@dataclasses.dataclass(frozen=True)
class Ground:
    """What takes long to make, made before the fork."""

    settings: config.Settings
    http: httpx.AsyncClient
    commit_http: httpx.AsyncClient


@functools.cache
def _ground(*_: str) -> Ground:
    settings = config.load()
    return Ground(settings, clients.client(settings), clients.commit_client(settings))


def _live(order: dict[str, Any], ground: Ground, tell: int) -> None:
    code = 1
    try:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # log lines are no answers
        asyncio.run(_work(order["task"], ground, _counting(tell, order["dies_at"])))
        code = 0
    except BaseException:  # noqa: BLE001 nothing may get back into the loop that forks
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _counting(tell: int, dies_at: int) -> Step:
    taken = 0

    def step(name: str) -> None:
        nonlocal taken
        taken += 1
        os.write(tell, f"{name}\n".encode())
        if taken == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
            signal.pause()

    return step


async def _work(task: dict[str, Any], ground: Ground, step: Step) -> None:
    url = ground.settings.database_url.get_secret_value()
    pool = db.async_pool(url)
    pool.connection_class = _watched_connections(step)
    for client in (ground.http, ground.commit_http):
        client.event_hooks = {"request": [_watching(step)]}
    async with pool, ground.http, ground.commit_http:
        engine = Engine(
            pool=pool,
            settings=ground.settings,
            http=ground.http,
            commit_http=ground.commit_http,
            wake=jobs.wake,
            reached=lambda name: step(f"reached: {name}"),
        )
        with psycopg.connect(url, autocommit=True) as clock:
            await lifetime.to_rest(engine, clock, **task)


# -- the database --------------------------------------------------------------------------------------------


def _watched_connections(step: Step) -> type[psycopg.AsyncConnection]:
    class Cursor(psycopg.AsyncCursor[Any]):
        async def execute(self, query: Any, *args: Any, **options: Any) -> Any:
            cast(Connection, self.connection).said = query
            return await super().execute(query, *args, **options)

    class Connection(psycopg.AsyncConnection[Any]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self.cursor_factory = Cursor
            self.said = ""

        async def wait(self, *args: Any, **options: Any) -> Any:
            alone = self.info.transaction_status is TransactionStatus.IDLE
            answer = await super().wait(*args, **options)
            done, asked, self.said = self.info.transaction_status is TransactionStatus.IDLE, self.said, ""
            if (where := _where(sys._getframe(1))) and not (alone and done and _reads(asked)):
                step(f"{'committed' if done else 'in transaction'}: {where}")
            return answer

    return Connection


def _reads(query: str) -> bool:
    """ "": the end of a block in which nothing was begun, so nothing is asked. A job is deferred by a function."""
    return not query or (query.lstrip().startswith("SELECT") and "procrastinate_" not in query)


def _where(frame: FrameType | None) -> str:
    """The function of ours that asked the database; "" for what the pool does by itself."""
    while frame:
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_name
        if str(path).startswith(_HOME) and path.stem != "db" and name not in ("_one", "_told", "_overslept"):
            return f"{path.stem}.{name}"
        frame = frame.f_back
    return ""


# -- the network ---------------------------------------------------------------------------------------------


def _watching(step: Step) -> Callable[[httpx.Request], Any]:
    async def leaving(request: httpx.Request) -> None:
        name = f"{request.method} {re.sub('/[0-9][0-9A-Z]*', '/…', request.url.path)}"

        async def trace(event: str, _: dict[str, Any]) -> None:
            if part := _PARTS.get(event):
                step(f"{part}: {name}")

        request.extensions["trace"] = trace
        step(f"leaving: {name}")

    return leaving


if __name__ == "__main__":
    main()
