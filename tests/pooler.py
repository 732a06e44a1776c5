"""A pooler in transaction mode over a real server: each transaction gets whichever session is free, the last used first.

That is what PgBouncer does, and no more of it than a client without prepared statements notices.
"""

import contextlib
import queue
import socket
import struct
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from psycopg import conninfo

_ASKS_FOR_ENCRYPTION = (80877103, 80877104)


class _Session(NamedTuple):
    """One of the server's, and what it said when it was opened."""

    server: socket.socket
    greeting: bytes


@contextlib.contextmanager
def transaction_pooler(database_url: str) -> Iterator[str]:
    """The URL that leads through it to the same database."""
    given = conninfo.conninfo_to_dict(database_url)
    if not str(given.get("host", "")).startswith("/"):
        pytest.skip("the pooler knows no passwords, and only Unix sockets")
    with socket.create_server(("127.0.0.1", 0)) as door:
        free = queue.LifoQueue[_Session]()
        sessions = [_opened(given) for _ in range(4)]
        for session in sessions:
            free.put(session)
        threading.Thread(target=_welcome, args=(door, free), daemon=True).start()
        yield f"postgresql://{given['user']}@127.0.0.1:{door.getsockname()[1]}/{given['dbname']}"
        for session in sessions:
            session.server.close()


def _opened(given: conninfo.ConnDict) -> _Session:
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{given['host']}/.s.PGSQL.{given.get('port') or 5432}")
    words = f"user\0{given['user']}\0database\0{given['dbname']}\0\0".encode()
    server.sendall(struct.pack("!II", 8 + len(words), 196608) + words)
    return _Session(server, b"".join(_until_ready(server)))


def _welcome(door: socket.socket, free: "queue.LifoQueue[_Session]") -> None:
    with contextlib.suppress(OSError):  # closed: over
        while True:
            client, _ = door.accept()
            threading.Thread(target=_serve, args=(client, free), daemon=True).start()


def _serve(client: socket.socket, free: "queue.LifoQueue[_Session]") -> None:
    with client, contextlib.suppress(EOFError, OSError):
        while True:
            (length,) = struct.unpack("!I", _exactly(client, 4))
            if struct.unpack("!I", _exactly(client, length - 4)[:4])[0] not in _ASKS_FOR_ENCRYPTION:
                break
            client.sendall(b"N")
        session = free.get()
        free.put(session)
        client.sendall(session.greeting)
        _transactions(client, free)


def _transactions(client: socket.socket, free: "queue.LifoQueue[_Session]") -> None:
    session: _Session | None = None
    while (message := _message(client))[:1] != b"X":
        session = session or free.get()
        session.server.sendall(message)
        if message[:1] in (b"Q", b"S"):
            for answer in _until_ready(session.server):
                if answer == b"Z\0\0\0\5I":  # between two transactions: whoever hears of it finds the session free
                    free.put(session)
                    session = None
                client.sendall(answer)


def _until_ready(server: socket.socket) -> Iterator[bytes]:
    while True:
        answer = _message(server)
        yield answer
        if answer[:1] == b"Z":
            return


def _message(talker: socket.socket) -> bytes:
    head = _exactly(talker, 5)
    return head + _exactly(talker, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(talker: socket.socket, count: int) -> bytes:
    got = b""
    while len(got) < count:
        if not (piece := talker.recv(count - len(got))):
            raise EOFError
        got += piece
    return got
