"""The visible request leaves in time or not at all, and what was given up never arrives: at real sockets."""

import asyncio
import datetime
import ipaddress
import json
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from postflow import config
from postflow.http import clients, deadline
from postflow.platforms import answers

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
#: More than the small window of a `Peer` takes, less than what a kernel holds for a socket.
BIG = {"status": "x" * 60_000}

#: Of a connection that is reset before its handshake, Python's server side leaves the socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"
)


def settings(**changed: Any) -> config.Settings:
    given = {
        "database_url": "postgresql://nobody@localhost/nothing",
        "secret_key": "s" * 32,
        "encryption_keys": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        "allowed_private": "127.0.0.1",
        "request_timeout_s": 5,
    }
    return config.Settings.model_validate({**given, **changed})


class Peer:
    """Takes one connection, by a kernel that holds little; reads only once it is told to, and says how it ended."""

    def __init__(self, *, small: bool = False, answers: bytes | None = None) -> None:
        self._listener = socket.socket()
        if small:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self._answers, self.reads = answers, threading.Event()
        self.connected, self.over = threading.Event(), threading.Event()
        self.got, self.was_reset = b"", False
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/api/v1/statuses"

    @property
    def got_all(self) -> bool:
        head, _, body = self.got.partition(b"\r\n\r\n")
        said = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        return bool(said) and len(body) >= int(said[0].split(b":")[1])

    def goes_on(self) -> None:
        self.reads.set()
        assert self.over.wait(20)

    def _serve(self) -> None:
        with self._listener, self._listener.accept()[0] as there:
            self.connected.set()
            self.reads.wait(30)
            try:
                while piece := there.recv(65536):
                    self.got += piece
                    if self._answers and self.got_all:
                        there.sendall(self._answers)
            except ConnectionResetError:
                self.was_reset = True
        self.over.set()


# -- by when ---------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("moves", [(31, 31, 31), (0, 31, 31), (0, -3600, 31), (0, 31, 0), (31, 31, -3600)])
def test_time_is_over_when_any_clock_says_so(moves: tuple[float, ...]) -> None:
    """A suspended machine, one whose clock was set back as well, a paused guest that was told the time."""
    clocks = [Clock(), Clock(), Clock()]
    departure = deadline.Departure(30, clocks)
    for clock in clocks:
        clock.now += 29
    assert departure.left_s == 1
    for clock, moved in zip(clocks, moves, strict=True):
        clock.now += moved - 29
    assert departure.left_s == -1


def test_every_clock_of_this_machine_is_asked() -> None:
    assert {time.monotonic, time.time} <= set(deadline.CLOCKS)
    assert len(deadline.CLOCKS) == 2 + hasattr(time, "CLOCK_BOOTTIME")


@pytest.mark.parametrize(("timeout_s", "ours_s"), [(30, 65), (3, 11)])
def test_a_request_is_ours_for_twice_its_timeout_and_the_road(timeout_s: float, ours_s: float) -> None:
    """Looks that come earlier prove nothing; docs/lifecycle.md says 65 seconds, as shipped."""
    assert deadline.still_ours_s(timeout_s) == ours_s


@pytest.mark.parametrize("timeout_s", [0.5, 30])
def test_a_lease_outlasts_its_request_and_tells_how_long_that_may_take(timeout_s: float) -> None:
    """Who looks for it knows only the lease, and reckons with the time that its sender had."""
    assert deadline.lease_s(timeout_s) == timeout_s + deadline.LATE_S
    assert deadline.timeout_s(deadline.lease_s(timeout_s)) == timeout_s


# -- in time or not at all -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate and its key for 127.0.0.1, in one file."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "leaving.example")])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(here, critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = tmp_path_factory.mktemp("certified") / "both.pem"
    sealed = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + sealed)
    return path


@contextmanager
def behind_tls(certified: Path) -> Iterator[tuple[int, list[bytes]]]:
    """(port, what arrived in the clear): answers each connection's first request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certified)
    arrived: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            try:
                while True:
                    there, _ = listener.accept()
                    try:
                        with context.wrap_socket(there, server_side=True) as clear:
                            while piece := clear.recv(65536):
                                arrived.append(piece)
                                if b"".join(arrived).endswith(b"}"):
                                    clear.sendall(OK)
                    except OSError:
                        continue
            except OSError:
                return

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1], arrived
        listener.shutdown(socket.SHUT_RDWR)


STEPS = [
    "connection.connect_tcp.started",
    "connection.connect_tcp.complete",
    "connection.start_tls.started",
    "connection.start_tls.complete",
    "http11.send_request_headers.started",
    "http11.send_request_body.started",
]


def stalling_at(step: str) -> Callable[[str, dict[str, Any]], Any]:
    async def trace(event: str, _: dict[str, Any]) -> None:
        if event == step:
            time.sleep(0.5)  # the whole process stands still  # noqa: ASYNC251

    return trace


async def posted(port: int, *, resolve: Any = None, step: str = "") -> httpx.Response:
    async with clients.commit_client(settings(), resolve=resolve) as http:
        with deadline.by(deadline.Departure(0.4)):
            return await answers.ask(
                http, "POST", f"https://127.0.0.1:{port}/", commit=True, json={"a": 1},
                extensions={"trace": stalling_at(step)},
            )  # fmt: skip


@pytest.fixture
def port(certified: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, list[bytes]]]:
    monkeypatch.setenv("SSL_CERT_FILE", str(certified))
    clients.trusted.cache_clear()
    with behind_tls(certified) as served:
        yield served
    clients.trusted.cache_clear()


@pytest.mark.parametrize("step", STEPS)
async def test_what_stood_still_on_the_way_sends_no_whole_request(step: str, port: tuple[int, list[bytes]]) -> None:
    with pytest.raises(answers.Retry) as caught:
        await posted(port[0], step=step)
    assert caught.value.code == "worker_stalled"
    await asyncio.sleep(0.1)
    said = b"".join(port[1])
    assert said == b"" or (step == STEPS[-1] and b"{" not in said)


async def test_a_look_up_that_took_too_long_sends_nothing(port: tuple[int, list[bytes]]) -> None:
    async def resolve(host: str, port: int) -> list[str]:
        time.sleep(0.5)  # noqa: ASYNC251
        return ["127.0.0.1"]

    async with clients.commit_client(settings(allowed_private="late.example"), resolve=resolve) as http:
        with deadline.by(deadline.Departure(0.4)), pytest.raises(deadline.TooLate):
            await http.post(f"http://late.example:{port[0]}/", json={})
    assert port[1] == []


async def test_what_leaves_in_time_is_answered(port: tuple[int, list[bytes]]) -> None:
    assert (await posted(port[0])).status_code == 200


async def test_whether_anything_has_left_is_known(port: tuple[int, list[bytes]]) -> None:
    """What has not need not be looked for."""
    unreachable, sent = deadline.Departure(5), deadline.Departure(5)
    async with clients.commit_client(settings()) as http:
        with deadline.by(unreachable), socket.create_server(("127.0.0.1", 0)) as closed:
            address = closed.getsockname()[1]
            closed.close()
            with pytest.raises(httpx.ConnectError):
                await http.post(f"https://127.0.0.1:{address}/", json={"a": 1})
        with deadline.by(sent):
            await http.post(f"https://127.0.0.1:{port[0]}/", json={"a": 1})
    assert (unreachable.has_left, sent.has_left) == (False, True)


async def test_what_follows_a_departure_is_not_bound_by_it(port: tuple[int, list[bytes]]) -> None:
    with deadline.by(deadline.Departure(-1)):
        pass
    async with clients.commit_client(settings()) as http:
        assert (await http.post(f"https://127.0.0.1:{port[0]}/", json={"a": 1})).status_code == 200


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system cannot bound what its kernel holds")
@pytest.mark.parametrize(("timeout_s", "kernel_ms"), [(5, 5000), (0.3334, 334)])
async def test_the_kernel_gives_up_when_we_do_and_keeps_nothing_of_what_we_give_up(
    timeout_s: float, kernel_ms: int, port: tuple[int, list[bytes]]
) -> None:
    async with (
        clients.commit_client(settings(request_timeout_s=timeout_s)) as http,
        http.stream("POST", f"https://127.0.0.1:{port[0]}/", json={"a": 1}) as answer,
    ):
        kept = answer.extensions["network_stream"].get_extra_info("socket")
        assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == kernel_ms
        assert struct.unpack("ii", kept.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8)) == (1, 0)


# -- nothing arrives after it was given up -------------------------------------------------------------------------


async def test_after_an_answer_the_connection_ends_like_any_other() -> None:
    peer = Peer(answers=OK)
    peer.reads.set()
    async with clients.commit_client(settings()) as http:
        await http.post(peer.url, json={"a": 1})
        assert await asyncio.to_thread(peer.over.wait, 10)
    assert not peer.was_reset


@pytest.mark.parametrize("how", ["timeout", "cancelled"])
async def test_what_the_kernel_still_held_is_thrown_away_with_the_request(how: str) -> None:
    """The other side takes nothing for a while: silence on the wire, and the rest of the request lies in our kernel."""
    peer = Peer(small=True)
    async with clients.commit_client(settings(request_timeout_s=5 if how == "cancelled" else 0.3)) as http:
        with pytest.raises((httpx.TimeoutException, TimeoutError)):
            async with asyncio.timeout(0.3 if how == "cancelled" else None):
                await http.post(peer.url, json=BIG)
        await asyncio.to_thread(peer.goes_on)
    assert peer.was_reset
    assert not peer.got_all


SENDER = """
import asyncio, json, os, sys
from postflow import config
from postflow.http import clients
async def main():
    settings = config.Settings.model_validate(json.loads(sys.argv[1]))
    async with clients.commit_client(settings) as http:
        async def trace(event, _):
            if event == "http11.send_request_body.complete":
                print("sent", flush=True)
        await http.post(sys.argv[2], content=b"x" * 60000, extensions={"trace": trace})
asyncio.run(main())
"""


@contextmanager
def a_sender(url: str, timeout_s: float) -> Iterator[int]:
    """A process that has just handed its request to its kernel and waits for the answer."""
    given = settings().model_dump(mode="json", exclude_unset=True) | {"request_timeout_s": timeout_s}
    given |= {"secret_key": "s" * 32, "encryption_keys": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}
    given |= {"database_url": "postgresql://nobody@localhost/nothing", "allowed_private": "127.0.0.1"}
    command = [sys.executable, "-c", SENDER, json.dumps(given), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as sender:
        try:
            assert sender.stdout
            assert sender.stdout.readline() == "sent\n"
            yield sender.pid
        finally:
            sender.kill()


def test_a_killed_process_leaves_nothing_to_its_kernel() -> None:
    peer = Peer(small=True)
    with a_sender(peer.url, 20) as pid:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        peer.goes_on()
    assert not peer.got_all


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system cannot bound what its kernel holds")
def test_a_frozen_process_s_kernel_gives_up_when_the_process_would_have() -> None:
    peer = Peer(small=True)
    with a_sender(peer.url, 1) as pid:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(2.5)
        peer.goes_on()
    assert not peer.got_all
