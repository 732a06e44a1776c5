"""Strangers who send a byte now and then, to a real gunicorn: whoever else asks gets an answer."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest
from cryptography.fernet import Fernet

from tests.conftest import UrlOf, a_database
from tests.patience import PATIENCE_S


@pytest.fixture(scope="module")
def served(postgres: UrlOf, admin: psycopg.Connection, template: str) -> Iterator[tuple[str, int]]:
    """One web process with its eight threads; nothing is stored there."""
    with a_database(admin, f"postflow_slow_{os.getpid()}", template) as name:
        environment = {
            **os.environ, "DATABASE_URL": postgres(name), "POSTFLOW_SECRET_KEY": "k" * 40,
            "POSTFLOW_ENCRYPTION_KEYS": Fernet.generate_key().decode(), "PORT": "0", "WEB_CONCURRENCY": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "gunicorn", "--config", "python:web.gunicorn", "web.app:create_app()"]
        server = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        assert server.stderr
        try:
            while not (found := re.search(r"Listening at: (http://\S+)", server.stderr.readline())):
                pass
            reading = threading.Thread(target=server.stderr.read)
            reading.start()
            yield "127.0.0.1", urlsplit(found[1]).port or 0
        finally:
            server.terminate()
            server.wait(PATIENCE_S)
            reading.join()
            server.stderr.close()


def answered(at: tuple[str, int], sent: bytes, *, piece: int | None = None) -> bytes:
    """All that comes back until the other side closes."""
    with socket.create_connection(at, PATIENCE_S) as line:
        with contextlib.suppress(OSError):  # whoever refuses early may not read the rest
            for start in range(0, len(sent), piece or len(sent)):
                line.sendall(sent[start : start + (piece or len(sent))])
                time.sleep(0.01 if piece else 0)
        return b"".join(iter(lambda: line.recv(65536), b""))


PROBE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
SLOW = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 90"
    b"\r\n\r\nemail=",
)


def test_two_hundred_slow_sockets_keep_nobody_waiting(served: tuple[str, int]) -> None:
    """None of them is done, and each could hold a thread: without a thread for it a probe would wait for ever."""
    answered(served, PROBE)
    with contextlib.ExitStack() as open_lines:
        slow = [open_lines.enter_context(socket.create_connection(served, PATIENCE_S)) for _ in range(200)]
        for number, line in enumerate(slow):
            line.sendall(SLOW[number % 2])
        for _ in range(5):
            for line in slow:
                line.sendall(b"x")
            assert answered(served, PROBE).startswith(b"HTTP/1.1 200")
            assert b"/first-run" in answered(served, PROBE.replace(b"/healthz", b"/sign-in"))
        assert all(_is_open(line) for line in slow), "they were answered or given up, so they proved nothing"


def _is_open(line: socket.socket) -> bool:
    line.setblocking(False)
    try:
        return bool(line.recv(1))
    except BlockingIOError:
        return True


def test_a_head_that_does_not_arrive_in_time_is_given_up(served: tuple[str, int]) -> None:
    assert answered(served, SLOW[0]) == b""


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("POST /media HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000000", b"413"),
        ("POST /media HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked", b"411"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX: " + "x" * 70_000, b"431"),
    ],
)
def test_what_nobody_wants_is_refused_before_it_is_read(served: tuple[str, int], head: str, status: bytes) -> None:
    assert answered(served, f"{head}\r\n\r\n".encode() + b"x" * 1000).startswith(b"HTTP/1.1 " + status)


def test_requests_in_pieces_one_after_another_and_two_at_once_are_answered(served: tuple[str, int]) -> None:
    form = b"email=ada%40example.org&password=wrong"
    head = b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    whole = head + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(form) + form
    assert b"400" in answered(served, whole, piece=7).partition(b"\r\n")[0], "its token is missing: the form was read"
    kept = PROBE.replace(b"Connection: close\r\n", b"")
    assert answered(served, kept + kept + PROBE).count(b"HTTP/1.1 200") == 3
    with socket.create_connection(served, PATIENCE_S) as line:
        for _ in range(3):
            line.sendall(kept)
            answer = b""
            while not answer.endswith(b"}\n"):
                answer += line.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200")
    expecting = (
        head + b"Cookie: postflow=x\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 2000000\r\n\r\n"
    )
    with socket.create_connection(served, PATIENCE_S) as line:
        line.sendall(expecting)
        assert line.recv(100).startswith(b"HTTP/1.1 100")
        line.sendall(b"x" * 2_000_000)
        assert b"HTTP/1.1 4" in b"".join(iter(lambda: line.recv(65536), b""))
