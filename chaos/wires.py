"""Silence on the wire: proxies between the workers and all that they speak to, each of which can hold still and go on.

While a wire is silent, whatever either side says stays in it, and connections are taken and lead nowhere. Then all of it goes
through in order: a request arrives long after its client has gone, an answer long after it was waited for.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connects = Callable[[], Awaitable[Streams]]
_PIECE_BYTES = 1 << 16


class Wire:
    """One way. Lives on the loop of `Wires`."""

    def __init__(self, connects: Connects) -> None:
        self._connects = connects
        self._open = asyncio.Event()
        self._open.set()
        self.busy = 0  # connections

    def hold(self) -> None:
        self._open.clear()

    def let_go(self) -> None:
        self._open.set()

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its first byte to its last."""
        self.busy += 1
        try:
            await self._open.wait()
            there_reader, there_writer = await self._connects()
        except OSError:
            writer.transport.abort()
            self.busy -= 1
            return
        try:
            await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        finally:
            self.busy -= 1

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What was taken is handed over, also when whoever said it is gone by then."""
        is_cut = False
        try:
            while said := await reader.read(_PIECE_BYTES):
                await self._open.wait()
                writer.write(said)
                await writer.drain()
        except OSError:
            is_cut = True
        await self._open.wait()
        with contextlib.suppress(OSError):
            writer.transport.abort() if is_cut else writer.close()


class Wires:
    """Every wire of a run, on a thread and a loop of their own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)
        self._thread.start()
        self._servers: list[asyncio.Server] = []
        self._wires: dict[str, Wire] = {}

    def to_port(self, name: str, port: int) -> int:
        """The port from which it leads to that other one."""

        async def opened() -> int:
            server = await asyncio.start_server(
                self._new(name, lambda: asyncio.open_connection("127.0.0.1", port)),
                "127.0.0.1",
                0,
                family=socket.AF_INET,
            )
            self._servers.append(server)
            return server.sockets[0].getsockname()[1]

        return self._wait(opened())

    def to_socket(self, name: str, at: Path, target: Callable[[], Path]) -> None:
        """From a Unix socket to whatever `target` names when somebody connects."""

        async def opened() -> None:
            connects = self._new(name, lambda: asyncio.open_unix_connection(target()))
            self._servers.append(await asyncio.start_unix_server(connects, at))

        self._wait(opened())

    def hold(self, names: tuple[str, ...]) -> None:
        for name in names:
            self._loop.call_soon_threadsafe(self._wires[name].hold)

    def let_go(self, names: tuple[str, ...] | None = None) -> None:
        """All of them unless some are named."""
        for name in self._wires if names is None else names:
            self._loop.call_soon_threadsafe(self._wires[name].let_go)

    def end(self) -> None:
        """Whatever is still on a wire is handed over first, as long as both sides are there to take it."""

        async def ended() -> None:
            for server in self._servers:
                server.close()
            for _ in range(500):
                if not any(wire.busy for wire in self._wires.values()):
                    break
                await asyncio.sleep(0.02)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        if self._thread.is_alive():
            self.let_go()
            self._wait(ended())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    def _new(self, name: str, connects: Connects) -> Callable[..., Coroutine[Any, Any, None]]:
        wire = self._wires[name] = Wire(connects)
        return wire.carry

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)
