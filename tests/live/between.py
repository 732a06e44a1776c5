"""A place between PostFlow and a real server where requests can be seen, refused, lost and held.

PostFlow speaks plain http to it on loopback (POSTFLOW_ALLOWED_PRIVATE names it), it speaks to the server as the server
wants to be spoken to: its scheme, its Host. The server needs nothing of ours. Where its answers name itself (nodeinfo,
links, its login document), they name this place instead, or PostFlow would go past it.
"""

import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

COMMIT = ("POST", "/api/v1/statuses")
#: Said by each side of a connection for itself, or no longer true once the body was read and rewritten.
_OWN = {
    "connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length",
    "content-encoding", "strict-transport-security", "date", "server",
}  # fmt: skip
_WORDS = ("json", "text/", "xml", "xrd", "javascript")


@dataclass
class Passing:
    """One commit request as it was seen here, on this machine's clock. `status` is None when the server never got it."""

    body: bytes
    came_at: float
    answered_at: float | None = None
    status: int | None = None


@dataclass
class Trick:
    """What becomes of the next commit request: `loses` it or its `answer`, or `holds` the answer until `let_go`."""

    kind: str
    met: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)


class Between:
    """`url` is what PostFlow calls the server."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url.rstrip("/")
        self.commits: list[Passing] = []
        self._server_host = urlsplit(self.server_url).netloc
        self._trick: Trick | None = None
        self._forwarding = 0
        self._lock = threading.Lock()
        # A server's own proxy may close what it kept open, and nothing here must look like a fault of the server's.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(timeout=httpx.Timeout(330, connect=15), limits=limits, follow_redirects=False)
        self._listener: ThreadingHTTPServer | None = None
        self._port = 0
        self.come_back()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def as_the_server_says(self, url: str) -> str:
        """An address of ours as everybody else knows it: for a person's browser."""
        return url.replace(self.url, self.server_url)

    # -- mishaps ---------------------------------------------------------------------------------------------

    def go_away(self) -> None:
        """Connections are refused from now on."""
        if self._listener:
            self._listener.shutdown()
            self._listener.server_close()
        self._listener = None

    def come_back(self) -> None:
        self._listener = _Listener(("127.0.0.1", self._port), _handler(self))
        self._port = self._listener.server_address[1]
        threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True).start()

    def next_commit(self, kind: str) -> Trick:
        """`loses request`, `loses answer`, `holds answer`"""
        self._trick = Trick(kind)
        return self._trick

    def close(self) -> None:
        """When the server has answered what it was sent, so that nothing arrives there any more."""
        self.go_away()
        give_up = time.monotonic() + 60
        while self._forwarding and time.monotonic() < give_up:
            time.sleep(0.1)

    @property
    def is_away(self) -> bool:
        return self._listener is None

    # -- what passes -----------------------------------------------------------------------------------------

    def passes(self, method: str, target: str, headers: dict[str, str], body: bytes) -> httpx.Response | None:
        """None: the caller gets no answer."""
        if (method, urlsplit(target).path) != COMMIT:
            return self._forwarded(method, target, headers, body)
        seen = Passing(body=body, came_at=time.time())
        with self._lock:
            self.commits.append(seen)
            trick, self._trick = self._trick, None
        if trick and trick.kind == "loses request":
            trick.met.set()
            return None
        answer = self._forwarded(method, target, headers, body)
        seen.answered_at, seen.status = time.time(), answer.status_code
        if trick:
            trick.met.set()
        if trick and trick.kind == "holds answer":
            trick.let_go.wait(300)
        return None if trick else answer

    def _forwarded(self, method: str, target: str, headers: dict[str, str], body: bytes) -> httpx.Response:
        for ours, theirs in ((self.host, self._server_host), (quote(self.host), quote(self._server_host))):
            target = target.replace(ours, theirs)  # webfinger asks for people of this host
        sent = {name: value for name, value in headers.items() if name.lower() not in _OWN}
        with self._lock:
            self._forwarding += 1
        try:
            return self._http.request(method, self.server_url + target, headers=sent, content=body)
        finally:
            with self._lock:
                self._forwarding -= 1

    def rewritten(self, answer: httpx.Response) -> tuple[list[tuple[str, str]], bytes]:
        """Headers and body with this place's address for the server's."""
        kept = [(name, value) for name, value in answer.headers.multi_items() if name.lower() not in _OWN]
        headers = [(name, self._renamed(value) if name.lower() == "location" else value) for name, value in kept]
        if not any(word in answer.headers.get("content-type", "") for word in _WORDS):
            return headers, answer.content
        body = self._renamed(answer.content.decode("utf-8", "surrogateescape"))
        return headers, body.encode("utf-8", "surrogateescape")

    def _renamed(self, text: str) -> str:
        """`https://it/…`, with slashes as PHP writes them in JSON, too."""
        found = re.compile(r"https?:(//|\\/\\/)" + re.escape(self._server_host) + r"(?![\w.:-])")
        return found.sub(lambda name: f"http:{name[1]}{self.host}", text)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what some cases are about."""


def _handler(between: Between) -> Callable[..., BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self._pass
            raise AttributeError(name)

        def _pass(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = None
            if not between.is_away:  # a connection kept open from before
                try:
                    answer = between.passes(self.command, self.path, dict(self.headers.items()), body)
                except httpx.HTTPError:
                    answer = None  # the real server gives none either
            if answer is None:
                self._hang_up()
                return
            headers, content = between.rewritten(answer)
            self.send_response_only(answer.status_code)
            for name, value in headers:
                self.send_header(name, value)
            if answer.status_code not in (204, 304):
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def _hang_up(self) -> None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    return Handler
