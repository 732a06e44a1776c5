"""A mail server that takes the connection and says nothing holds up nobody but its own mail."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import psycopg
from pydantic import SecretStr

from postflow import config
from postflow.engine import Engine
from postflow.http import clients
from postflow.notifications import sender


async def test_mail_that_is_swallowed_leaves_the_threads_that_look_up_addresses_free(
    db: psycopg.Connection, engine: Engine, settings: config.Settings, ada: int
) -> None:
    connected, over = asyncio.Event(), asyncio.Event()

    async def swallow(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await over.wait()
        writer.close()

    db.execute(
        "INSERT INTO notices (user_id, key, kind, subject, body) VALUES (%s, 'k', 'access-ended', 's', 'b')", [ada]
    )
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with await asyncio.start_server(swallow, "127.0.0.1", 0) as server, clients.client(settings) as http:
        port = server.sockets[0].getsockname()[1]
        mailing = settings.model_copy(
            update={"smtp_url": SecretStr(f"smtp://127.0.0.1:{port}"), "mail_from": "postflow@example.org"}
        )
        told = asyncio.create_task(sender.tell(engine.pool, mailing, http))
        await connected.wait()
        assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        assert not told.done(), "the only thread for addresses was free meanwhile"
        over.set()
        assert await told == 0
