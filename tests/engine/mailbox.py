"""A mail server and a webhook's far end, over real sockets, that keep what they get."""

import asyncio
import contextlib
import email
import email.policy
from collections.abc import AsyncIterator, Callable
from email.message import EmailMessage
from typing import NamedTuple


class Mailbox(NamedTuple):
    port: int
    letters: list[EmailMessage]
    said: list[str]  # every command, as it came


class Hook(NamedTuple):
    port: int
    requests: list[tuple[dict[str, str], bytes]]


@contextlib.asynccontextmanager
async def mailbox(refuse: Callable[[str], bool] = lambda command: False) -> AsyncIterator[Mailbox]:
    """Plain SMTP (RFC 5321) with AUTH PLAIN; `refuse` says which commands get a 550."""
    letters, said = list[EmailMessage](), list[str]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode().strip():
            said.append(line)
            verb = line.split(maxsplit=1)[0].upper()
            if refuse(line):
                writer.write(b"550 no\r\n")
            elif verb == "EHLO":
                writer.write(b"250-here\r\n250 AUTH PLAIN\r\n")
            elif verb == "AUTH":
                writer.write(b"235 come in\r\n")
            elif verb == "DATA":
                writer.write(b"354 go on\r\n")
                raw = await reader.readuntil(b"\r\n.\r\n")
                letters.append(email.message_from_bytes(raw[:-5], EmailMessage, policy=email.policy.default))  # type: ignore[arg-type]
                writer.write(b"250 kept\r\n")
            else:
                writer.write(b"221 bye\r\n" if verb == "QUIT" else b"250 fine\r\n")
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Mailbox(server.sockets[0].getsockname()[1], letters, said)


@contextlib.asynccontextmanager
async def hook(status: Callable[[], int] = lambda: 204) -> AsyncIterator[Hook]:
    """Answers every request with what `status` says."""
    requests = list[tuple[dict[str, str], bytes]]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[1:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head)}
        requests.append((headers, await reader.readexactly(int(headers["content-length"]))))
        writer.write(f"HTTP/1.1 {status()} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield Hook(server.sockets[0].getsockname()[1], requests)
