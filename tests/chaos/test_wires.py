"""Silence on the wire: what was said meanwhile goes through afterwards, also when whoever said it is gone."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from chaos.wires import Wires
from sandbox import Sandbox
from tests.patience import PATIENCE_S


@pytest.fixture
def wires() -> Iterator[Wires]:
    wires = Wires()
    yield wires
    wires.end()


def test_a_request_arrives_after_the_silence_when_its_client_has_gone(wires: Wires, sandbox: Sandbox) -> None:
    account = sandbox.add_account("gotosocial", "silent")
    port = wires.to_port("gotosocial", int(sandbox.url("gotosocial").rpartition(":")[2]))
    url, headers = f"http://127.0.0.1:{port}/api/v1/statuses", {"Authorization": f"Bearer {account.access_token}"}
    assert httpx.post(url, headers=headers, data={"status": "said aloud"}).status_code == 200
    with httpx.Client() as client:
        client.get(f"http://127.0.0.1:{port}/api/v1/instance")
        wires.hold(("gotosocial",))
        with pytest.raises(httpx.ReadTimeout):
            client.post(url, headers=headers, data={"status": "said into silence"}, timeout=0.5)
    assert sandbox.ledger.times_published("said into silence") == 0
    wires.let_go(("gotosocial",))
    until(lambda: sandbox.ledger.times_published("said into silence") == 1)


def test_an_answer_comes_after_the_silence(wires: Wires, sandbox: Sandbox) -> None:
    port = wires.to_port("mastodon", int(sandbox.url("mastodon").rpartition(":")[2]))
    with socket.create_connection(("127.0.0.1", port)) as client:
        wires.hold(("mastodon",))
        client.sendall(b"GET /api/v1/instance HTTP/1.1\r\nHost: here\r\n\r\n")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        wires.let_go()
        client.settimeout(PATIENCE_S)
        assert client.recv(12) == b"HTTP/1.1 200"


def test_a_wire_leads_to_whoever_is_there_when_somebody_comes(wires: Wires, tmp_path: Path) -> None:
    now = ["first"]
    wires.to_socket("stable", tmp_path / "stable", lambda: tmp_path / f"{now[0]}-server")
    for name in ("first", "second"):
        now[0] = name
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(str(tmp_path / f"{name}-server"))
            server.listen()
            client.connect(str(tmp_path / "stable"))
            there, _ = server.accept()
            with there:
                client.sendall(name.encode())
                assert there.recv(100) == name.encode()


def until(is_so: Callable[[], bool]) -> None:
    give_up = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up
        time.sleep(0.02)
