"""gunicorn's threaded worker, but a thread is taken only by a request that has arrived whole.

Its own reads head and body in the thread that answers: eight clients that send a byte every ten seconds hold all eight, and
nobody else gets an answer. Here the loop that accepts connections reads them side by side, large bodies into files, and
gives up on what does not arrive in time; a thread never waits for a client that sends.
"""

import contextlib
import io
import re
import selectors
import socket
import struct
import tempfile
import time
from functools import partial
from typing import IO, Any

from gunicorn import http
from gunicorn.http.unreader import Unreader
from gunicorn.workers import gthread

HEAD_S, MOST_HEAD_BYTES = 10.0, 64 * 1024
#: A body has so long, and a second for each of so many bytes: 100 MB at 16 kB/s take some hundred minutes, so also an end.
BODY_S, BODY_BYTES_S, MOST_BODY_S = 20.0, 16 * 1024, 1800.0
#: More than a form without pictures has. Only whoever shows a session's cookie may send it; files hold it.
LARGE_BYTES = 1024 * 1024
MOST_LARGE = 10
#: Requests of one address that are arriving; beyond that the oldest of its own is given up. Behind a proxy all have one.
MOST_ARRIVING = 250
#: A client that takes nothing of its answer for so long is left.
SEND_S = 20
_IN_MEMORY_BYTES, _RECV_BYTES = 64 * 1024, 256 * 1024
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d{1,15})[ \t]*(?=\r\n)")
_CODED = re.compile(rb"(?i)\r\ntransfer-encoding:")
_EXPECTS = re.compile(rb"(?i)\r\nexpect:[ \t]*100-continue")
_SIGNED_IN = re.compile(rb"(?i)\r\ncookie:[^\r]*\bpostflow=")
#: gunicorn's TConn, which says nothing of its types.
_Conn = Any


class _Refused(Exception):
    """The status and its reason."""


class _Arrived(Unreader):
    """What has arrived, for gunicorn's parser: behind it there is nothing, whatever the head says."""

    def __init__(self) -> None:
        super().__init__()
        self.file: IO[bytes] | None = None

    def chunk(self, size_hint: int | None = None) -> bytes:
        return self.file.read(min(max(size_hint or 0, 8192), _RECV_BYTES)) if self.file else b""

    def let_go(self) -> None:
        """What is left was sent right behind the request: the beginning of the next one."""
        file, self.file = self.file, None
        if file:
            with file:
                self.buf.seek(0, io.SEEK_END)
                self.buf.write(file.read(_RECV_BYTES))


class _Arriving:
    """One request on its way in."""

    def __init__(self, begun: bytes) -> None:
        self.file: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115
        self.head = b""
        self.size = 0  # of what has arrived
        self.whole: int | None = None  # of head and body, once the head is there
        self.expects = False  # to be told to go on before it sends its body
        self.gives_up_at = time.monotonic() + HEAD_S
        if begun:
            self.take(begun)

    @property
    def is_whole(self) -> bool:
        return self.whole is not None and self.size >= self.whole

    @property
    def is_large(self) -> bool:
        return self.whole is not None and self.whole > LARGE_BYTES

    def take(self, data: bytes) -> None:
        """Raises _Refused as soon as the head shows that the rest is not wanted."""
        self.file.write(data)
        self.size += len(data)
        if self.whole is None:
            self.head += data
            self._look_at_the_head()

    def _look_at_the_head(self) -> None:
        head, end, _ = self.head.partition(b"\r\n\r\n")
        if not end:
            if len(self.head) > MOST_HEAD_BYTES:
                raise _Refused(b"431 Request Header Fields Too Large")
            return
        head += b"\r\n"
        lengths = _LENGTH.findall(head)
        if _CODED.search(head):
            raise _Refused(b"411 Length Required")
        body = int(lengths[0]) if lengths else 0
        if body > LARGE_BYTES and not _SIGNED_IN.search(head):
            raise _Refused(b"413 Content Too Large")
        self.whole = len(head) + 2 + body
        self.gives_up_at = time.monotonic() + min(BODY_S + body / BODY_BYTES_S, MOST_BODY_S)
        self.expects = bool(_EXPECTS.search(head))
        self.head = b""


class Worker(gthread.ThreadWorker):
    """`worker_class` for gunicorn. TLS is the business of a proxy in front."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._arriving: dict[_Conn, _Arriving] = {}  # in the order in which they began

    def enqueue_req(self, conn: _Conn) -> None:
        """Called for a new connection, and for a kept one that becomes readable or has sent more than one request."""
        unreader = conn.parser.unreader if conn.parser else None
        if unreader is None:
            conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_S, 0))
            conn.parser = http.get_parser(self.cfg, iter(()), conn.client)
            conn.parser.unreader = unreader = _Arrived()
            conn.initialized = conn.data_ready = True
        begun = unreader.take_buffered()  # pyright: ignore[reportAttributeAccessIssue] newer than its stubs
        conn.sock.setblocking(False)
        self._make_room(conn)
        try:
            self._arriving[conn] = arriving = _Arriving(begun)
        except _Refused as why:
            self._refuse(conn, why)
            return
        if arriving.is_whole:
            self._hand_over(conn)
        else:
            self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._readable, conn))

    def _readable(self, conn: _Conn, _: object) -> None:
        arriving = self._arriving[conn]
        try:
            data = conn.sock.recv(_RECV_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._leave(conn)
            return
        try:
            arriving.take(data)
            if arriving.is_large and sum(one.is_large for one in self._arriving.values()) > MOST_LARGE:
                raise _Refused(b"503 Service Unavailable")
        except _Refused as why:
            self._refuse(conn, why)
            return
        if arriving.is_whole:
            self.poller.unregister(conn.sock)
            self._hand_over(conn)
        elif arriving.expects:
            arriving.expects = False
            with contextlib.suppress(OSError):
                conn.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _hand_over(self, conn: _Conn) -> None:
        arriving = self._arriving.pop(conn)
        arriving.file.seek(0)
        conn.parser.unreader.file = arriving.file
        super().enqueue_req(conn)

    def _make_room(self, conn: _Conn) -> None:
        of_the_same = [one for one in self._arriving if one.client[0] == conn.client[0]] if conn.client else []
        if len(of_the_same) >= MOST_ARRIVING:
            self._leave(of_the_same[0])

    def _refuse(self, conn: _Conn, why: _Refused) -> None:
        """In a line, without a thread: whoever is refused here has not opened a page."""
        said = why.args[0] + b"\n"
        head = b"HTTP/1.1 %s\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
        with contextlib.suppress(OSError):
            conn.sock.send(head % (why.args[0], len(said)) + said)
            conn.sock.shutdown(socket.SHUT_WR)
        self._leave(conn)

    def _leave(self, conn: _Conn) -> None:
        if arriving := self._arriving.pop(conn, None):
            arriving.file.close()
        with contextlib.suppress(OSError, KeyError, ValueError):
            self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def finish_request(self, conn: _Conn, fs: Any) -> None:
        with contextlib.suppress(
            ValueError, OSError
        ):  # it was closed when its request broke; so is its connection then
            conn.parser.unreader.let_go()  # before it may be given the next one's
        super().finish_request(conn, fs)

    def murder_pending(self) -> None:
        """Called every second or more often."""
        super().murder_pending()
        now = time.monotonic()
        for conn, arriving in list(self._arriving.items()):
            if arriving.gives_up_at < now or (not self.alive and not arriving.size):
                self._leave(conn)
