"""Addresses typed by people reach the internet and nothing else; answers are capped; nothing is sent twice."""
# ruff: noqa: SIM117  the server stands outside the client that asks it

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import httpcore
import httpx
import pytest
from cryptography.fernet import Fernet

from postflow import config, errors
from postflow.http import addresses, clients

PRIVATE = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "127.0.0.1.", "0.0.0.0", "0",
    "017700000001", "0x7f.0.0.0x1",
    "10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "169.254.169.254", "2852039166", "0xa9fea9fe",
    "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "[::1]", "[::]", "[fe80::1]", "[fc00::1]", "[fd00:ec2::254]", "[ff02::1]", "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]", "[::127.0.0.1]", "[2002:7f00:1::]", "[2002:a00:1::1]", "[64:ff9b::7f00:1]",
    "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a00:1]", "[2001:0:4136:e378:8000:63bf:80ff:fffe]", "[fec0::1]",
]  # fmt: skip


def settings(**changed: object) -> config.Settings:
    return config.Settings.model_validate(
        {
            "database_url": "postgresql://nobody@localhost/nothing",
            "secret_key": "s" * 32,
            "encryption_keys": Fernet.generate_key().decode(),
            "public_url": "https://postflow.example",
            "request_timeout_s": 5,
            **changed,
        }
    )


class Server:
    """Answers every connection with the given bytes and remembers what it was sent."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()


@asynccontextmanager
async def serving(*answer: bytes, stay: bool = False, pause_s: float = 0) -> AsyncIterator[Server]:
    """A real socket. With `stay` the connection is left open after the answer, for the next request or for ever."""
    server = Server()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.tasks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                server.heads.append(head.decode())
                for part in answer:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause_s)
                if not stay:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(handle, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        for task in server.tasks:
            task.cancel()
        await asyncio.gather(*server.tasks, return_exceptions=True)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def answering(*answers: Sequence[str]) -> Callable[[str, int], object]:
    """A resolver that gives the first answer once, then the second, and so on, and counts how often it is asked."""
    left = list(answers)

    async def resolve(host: str, port: int) -> Sequence[str]:
        resolve.asked += 1  # type: ignore[attr-defined]
        return left.pop(0) if len(left) > 1 else left[0]

    resolve.asked = 0  # type: ignore[attr-defined]
    return resolve


# -- what may be reached -------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", PRIVATE)
async def test_it_refuses_a_private_address_in_any_notation(host: str) -> None:
    async with clients.client(settings()) as http:
        with pytest.raises(httpx.ConnectError, match="private address"):
            await http.get(f"https://{host}/")


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "64:ff9b::5db8:d822"])
def test_it_lets_public_addresses_pass(address: str) -> None:
    assert addresses.is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("found", [["10.0.0.7"], ["93.184.216.34", "127.0.0.1"], ["fe80::1%eth0"], ["::ffff:10.0.0.1"]])
async def test_it_refuses_a_name_when_any_of_its_addresses_is_private(found: list[str]) -> None:
    async with clients.client(settings(), resolve=answering(found)) as http:  # type: ignore[arg-type]
        with pytest.raises(httpx.ConnectError, match="private address"):
            await http.get("https://rebound.example/")


async def test_it_connects_to_the_address_it_vetted_and_never_asks_again() -> None:
    async with serving(OK) as server:
        resolve = answering(["127.0.0.1"], ["10.9.9.9"])
        allowed = settings(allowed_private=f"shown.example:{server.port}")
        async with clients.client(allowed, resolve=resolve) as http:  # type: ignore[arg-type]
            answer = await http.get(f"http://shown.example:{server.port}/x")
    assert answer.status_code == 200
    assert resolve.asked == 1  # type: ignore[attr-defined]
    assert f"Host: shown.example:{server.port}" in server.heads[0]


async def test_a_name_that_turns_private_between_two_requests_is_refused_the_second_time() -> None:
    resolve = answering(["192.0.2.1"], ["127.0.0.1"])
    async with serving(OK) as server:
        allowed = settings(allowed_private="192.0.2.0/24", request_timeout_s=0.2)
        async with clients.client(allowed, resolve=resolve) as http:  # type: ignore[arg-type]
            with pytest.raises(httpx.HTTPError):
                await http.get(f"https://turning.example:{server.port}/")
            with pytest.raises(httpx.ConnectError, match="private address"):
                await http.get(f"https://turning.example:{server.port}/")
    assert server.connections == 0


async def test_an_allowed_network_may_be_reached_and_its_neighbour_may_not() -> None:
    async with serving(OK) as server:
        async with clients.client(settings(allowed_private="127.0.0.0/8")) as http:
            assert (await http.get(f"http://127.0.0.1:{server.port}/")).json() == {}
            with pytest.raises(httpx.ConnectError):
                await http.get(f"https://[::1]:{server.port}/")


async def test_an_allowed_port_does_not_open_the_host_s_other_ports() -> None:
    async with serving(OK) as server:
        async with clients.client(settings(allowed_private=f"127.0.0.1:{server.port + 1}")) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(f"http://127.0.0.1:{server.port}/")
    assert server.connections == 0


async def test_it_does_not_send_anything_without_encryption_to_the_internet() -> None:
    async with clients.client(settings(), resolve=answering(["93.184.216.34"])) as http:  # type: ignore[arg-type]
        with pytest.raises(httpx.ConnectError, match="without encryption"):
            await http.get("http://mastodon.example/")


async def test_a_name_that_does_not_exist_is_a_connect_error() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        raise OSError(-2, "Name or service not known")

    async with clients.client(settings(), resolve=resolve) as http:
        with pytest.raises(httpx.ConnectError, match="cannot be found"):
            await http.get("https://nowhere.example/")


async def test_it_does_not_follow_a_redirect() -> None:
    async with serving(
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    ) as server:
        async with clients.client(settings(allowed_private=f"127.0.0.1:{server.port}")) as http:
            answer = await http.get(f"http://127.0.0.1:{server.port}/")
    assert answer.status_code == 302
    assert len(server.heads) == 1


# -- caps ----------------------------------------------------------------------------------------------------


async def test_a_huge_answer_is_cut_off() -> None:
    big = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (1 << 20, b"x" * (1 << 20))
    async with serving(big, *[chunk] * 64, b"0\r\n\r\n") as server:
        async with clients.client(settings(allowed_private="127.0.0.1")) as http:
            with pytest.raises(clients.AnswerTooLarge):
                await http.get(f"http://127.0.0.1:{server.port}/")


async def test_an_answer_that_drips_runs_into_the_deadline() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"
    async with serving(head, *[b"x"] * 1000, pause_s=0.02) as server:  # always sooner than the pause a read may take
        async with clients.client(settings(allowed_private="127.0.0.1", request_timeout_s=0.3)) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.get(f"http://127.0.0.1:{server.port}/")


async def test_a_head_that_drips_runs_into_the_deadline_as_well() -> None:
    drops = [f"X-{number}: x\r\n".encode() for number in range(1000)]
    async with serving(b"HTTP/1.1 200 OK\r\n", *drops, pause_s=0.02) as server:
        async with clients.client(settings(allowed_private="127.0.0.1", request_timeout_s=0.2)) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.get(f"http://127.0.0.1:{server.port}/")


async def test_a_body_that_breaks_off_is_told_in_httpx_s_words() -> None:
    async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") as server:
        async with clients.client(settings(allowed_private="127.0.0.1")) as http:
            with pytest.raises(httpx.RemoteProtocolError):
                await http.get(f"http://127.0.0.1:{server.port}/")


def test_every_error_of_the_layer_below_has_a_name_in_the_layer_above() -> None:
    below = {one for one in vars(httpcore).values() if isinstance(one, type) and issubclass(one, Exception)}
    leaves = {one for one in below if not any(other is not one and issubclass(other, one) for other in below)}
    assert set(clients.TOLD_AS) == leaves - {httpcore.ConnectionNotAvailable}  # that one never leaves the pool
    assert {theirs.__name__ for theirs in clients.TOLD_AS.values()} == {ours.__name__ for ours in clients.TOLD_AS}


async def test_a_body_is_sent_as_it_is_and_a_query_kept() -> None:
    async with serving(OK, stay=True) as server:
        async with clients.client(settings(allowed_private="127.0.0.1")) as http:
            answer = await http.get(f"http://127.0.0.1:{server.port}/a%20b?x=1&y=%C3%BC")
    assert answer.url.query == b"x=1&y=%C3%BC"
    assert server.heads[0].startswith("GET /a%20b?x=1&y=%C3%BC HTTP/1.1")


async def test_it_asks_for_json_plain_and_says_who_it_is() -> None:
    async with serving(OK) as server:
        async with clients.client(settings(allowed_private="127.0.0.1")) as http:
            await http.get(f"http://127.0.0.1:{server.port}/")
    head = server.heads[0].lower()
    assert "user-agent: postflow/" in head
    assert "(+https://postflow.example)" in head
    assert "accept: application/json" in head
    assert "accept-encoding: identity" in head


# -- connections ---------------------------------------------------------------------------------------------


async def test_reading_keeps_its_connection_and_committing_never_does() -> None:
    async with serving(OK, stay=True) as server:
        async with clients.client(settings(allowed_private="127.0.0.1")) as http:
            for _ in range(3):
                await http.get(f"http://127.0.0.1:{server.port}/")
        assert server.connections == 1
        async with clients.commit_client(settings(allowed_private="127.0.0.1")) as http:
            for _ in range(3):
                await http.post(f"http://127.0.0.1:{server.port}/", json={})
        assert server.connections == 4


async def test_a_connection_lost_after_sending_is_told_and_nothing_is_sent_again() -> None:
    async with serving() as server:  # takes the request, closes without an answer
        async with clients.commit_client(settings(allowed_private="127.0.0.1")) as http:
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await http.post(f"http://127.0.0.1:{server.port}/", json={})
    assert len(server.heads) == 1


# -- what people type ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("mastodon.social", "https://mastodon.social"),
        ("  Mastodon.Social ", "https://mastodon.social"),
        ("@me@mastodon.social", "https://mastodon.social"),
        ("me@mastodon.social", "https://mastodon.social"),
        ("https://mastodon.social/@me/1?x=y", "https://mastodon.social"),
        ("mastodon.social/about", "https://mastodon.social"),
        ("mastodon.social/@me", "https://mastodon.social"),
        ("http://mastodon.social", "https://mastodon.social"),
        ("mastodon.social.", "https://mastodon.social"),
        ("https://mastodon.social:443/", "https://mastodon.social"),
        ("müller.example", "https://xn--mller-kva.example"),
    ],
)
def test_it_understands_how_people_write_their_server(typed: str, url: str) -> None:
    assert addresses.instance_url(typed) == url


@pytest.mark.parametrize(
    "typed",
    ["", "   ", "mastodon", "localhost", "ftp://mastodon.social", "javascript:alert(1)", "https://me:pw@host.example/",
     "https://host.example:8443", "127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "[::1]",
     "https://[fe80::1%25eth0]/", "a b.example",
     "host..example", "-a.example", "https://", "https://host.example:99999", "x" * 300 + ".example", "a\nb.example",
     "host.example\\@evil.example", "@", "@@", "https://[", "１２７.0.0.1", "http://127.1/"],
)  # fmt: skip
def test_it_refuses_what_is_no_server_with_a_sentence(typed: str) -> None:
    with pytest.raises(errors.Invalid) as refused:
        addresses.instance_url(typed)
    [sentence] = refused.value.fields["instance"]
    assert sentence.endswith(".")


def test_it_takes_http_and_ports_only_for_what_the_operator_allows() -> None:
    assert addresses.instance_url("http://127.0.0.1:9999/x", ["127.0.0.1:9999"]) == "http://127.0.0.1:9999"
    assert addresses.instance_url("127.0.0.1:9999", ["127.0.0.0/8"]) == "https://127.0.0.1:9999"
    assert addresses.instance_url("[::1]:9999", ["::1"]) == "https://[::1]:9999"
    assert addresses.instance_url("https://gts.lan:8443", ["gts.lan"]) == "https://gts.lan:8443"
    with pytest.raises(errors.Invalid):
        addresses.instance_url("http://127.0.0.1:9998", ["127.0.0.1:9999"])


def test_http_is_a_second_guess_for_what_was_typed_without_a_scheme_and_is_allowed() -> None:
    assert addresses.plain_url("@me@gts.lan:8080/about", ["gts.lan"]) == "http://gts.lan:8080"
    assert addresses.plain_url("localhost:8443", ["localhost:8443"]) == "http://localhost:8443"
    assert addresses.plain_url("https://gts.lan:8080", ["gts.lan"]) is None
    assert addresses.plain_url("mastodon.social", ["gts.lan"]) is None
