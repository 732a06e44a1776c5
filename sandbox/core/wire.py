"""HTTP/1.1 on raw sockets (h11 over asyncio streams), so that an answer can be late, cut short or never
come.

`serve` reads requests from one connection and hands each to `answer`. What comes back is a Response, or
Dropped is raised: then the connection is reset without a byte.
"""

import asyncio
import contextlib
import http
import json
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import h11

READ_BYTES = 64 * 1024
MAX_BODY_BYTES = 320 * 1024 * 1024
JSON_TYPE = "application/json; charset=utf-8"


@dataclass(slots=True)
class Request:
    """One request as it came in. Header names are lower case; `reused` says the connection had served one
    before.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes
    received_ns: int
    reused: bool
    peer: str


@dataclass(slots=True)
class Response:
    """What to answer. `cut` sends the headers and half of the body, then resets the connection."""

    status: int = 200
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: list[tuple[str, str]] = field(default_factory=list)
    cut: bool = False


class Dropped(Exception):
    """The connection is to be reset without any answer."""


class Answer(Exception):
    """Stops a handler at once with the response it carries (a refusal, mostly)."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def as_json(value: Any, status: int = 200, headers: Iterable[tuple[str, str]] = ()) -> Response:
    """A JSON answer."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return Response(status, body, JSON_TYPE, list(headers))


def as_html(page: str, status: int = 200) -> Response:
    """An HTML page."""
    return Response(status, page.encode(), "text/html; charset=utf-8")


def redirect(location: str, status: int = 302) -> Response:
    """A redirect with an empty body."""
    return Response(status, b"", "text/html; charset=utf-8", [("Location", location)])


async def serve(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    answer: Callable[[Request], Awaitable[Response]],
) -> None:
    """Answer requests on this connection until one side ends it."""
    connection = h11.Connection(h11.SERVER)
    reused = False
    try:
        while (request := await _receive(connection, reader, writer, reused)) is not None:
            response = await answer(request)
            if not await _send(connection, writer, request, response):
                return
            reused = True
            connection.start_next_cycle()
    except Dropped:
        _reset(writer)
    except h11.RemoteProtocolError:
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
    except (ConnectionError, h11.LocalProtocolError, asyncio.CancelledError):
        writer.transport.abort()
    finally:
        writer.close()


async def _receive(
    connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, reused: bool
) -> Request | None:
    head: h11.Request | None = None
    received_ns = 0
    chunks: list[bytes] = []
    size = 0
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                writer.write(connection.send(go_on) or b"")
            connection.receive_data(await reader.read(READ_BYTES))
        elif isinstance(event, h11.Request):
            head, received_ns = event, time.time_ns()
        elif isinstance(event, h11.Data):
            size += len(event.data)
            if size > MAX_BODY_BYTES:
                raise ConnectionResetError
            chunks.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _request(head, b"".join(chunks), received_ns, reused, writer)
        else:
            return None


def _request(head: h11.Request, body: bytes, received_ns: int, reused: bool, writer: asyncio.StreamWriter) -> Request:
    path, _, query = head.target.decode("latin-1").partition("?")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
    peer = (writer.get_extra_info("peername") or ("?",))[0]
    return Request(head.method.decode(), path, query, headers, body, received_ns, reused, peer)


async def _send(connection: h11.Connection, writer: asyncio.StreamWriter, request: Request, response: Response) -> bool:
    """Write the answer; False when the connection must not be used again."""
    headers = [
        (name.encode(), value.encode())
        for name, value in (
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(response.body))),
            *response.headers,
        )
    ]
    head = h11.Response(status_code=response.status, reason=_reason(response.status), headers=headers)
    body = b"" if request.method == "HEAD" or response.status in (204, 304) else response.body
    writer.write(connection.send(head) or b"")
    if response.cut:
        writer.write(body[: len(body) // 2])
        await writer.drain()
        await asyncio.sleep(0.02)  # let the half arrive: a reset discards what the peer has not read yet
        raise Dropped
    writer.write((connection.send(h11.Data(data=body)) or b"") + (connection.send(h11.EndOfMessage()) or b""))
    await writer.drain()
    return connection.our_state is h11.DONE and connection.their_state is h11.DONE


def _reason(status: int) -> bytes:
    try:
        return http.HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN, as a dying proxy would."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
