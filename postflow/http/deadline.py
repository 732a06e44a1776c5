"""The one visible request leaves in time or not at all, and nothing of it arrives once it has been given up.

Whoever sends it says by when (`Departure`). The clocks are asked again right before each write: a process that stood
still in a look-up, a connect or a handshake finds its time over and sends nothing. Until the answer is in, closing the
connection resets it, whether we close it or the kernel does when the process dies: what the kernel still held back is
thrown away. And the kernel gives up what nobody acknowledges as soon as we would. `still_ours_s` adds it all up.
"""

import contextlib
import math
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import httpcore
import httpx

Clock = Callable[[], float]


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


#: The first stands still while a machine is suspended, the wall's may be set back meanwhile, the last does neither.
CLOCKS: tuple[Clock, ...] = (time.monotonic, time.time, *([_since_boot] if hasattr(time, "CLOCK_BOOTTIME") else []))
#: A packet that has left us may be on its way for so long.
ROAD_S = 5.0


#: A late answer still counts for so long after the request's own deadline.
LATE_S = 15.0


def lease_s(request_timeout_s: float) -> float:
    """Its sender has the row for so long."""
    return request_timeout_s + LATE_S


def timeout_s(lease_s: float) -> float:
    """Of whoever took that lease."""
    return lease_s - LATE_S


def still_ours_s(request_timeout_s: float) -> float:
    """So long after its intent was written something of a request may still leave this machine or be on the road: its
    last byte is written within the timeout, and the kernel tries to hand that over for as long again.
    """
    return request_timeout_s + request_timeout_s + ROAD_S


class Departure:
    """By when a request must leave, by every clock there is, and whether any of it has left."""

    def __init__(self, within_s: float, clocks: Sequence[Clock] = CLOCKS) -> None:
        self._ends = [(clock, clock() + within_s) for clock in clocks]
        self.has_left = False

    @property
    def left_s(self) -> float:
        """Seconds, by the clock that leaves the fewest; below 0 once the time is over."""
        return min(end - clock() for clock, end in self._ends)


_departure: ContextVar[Departure | None] = ContextVar("departure", default=None)


@contextlib.contextmanager
def by(departure: Departure) -> Iterator[None]:
    """Requests of the commit client leave by then, or raise TooLate."""
    token = _departure.set(departure)
    try:
        yield
    finally:
        _departure.reset(token)


class TooLate(httpx.ConnectError):
    """The time to leave was over before the request, or the rest of it, had left. The server never saw it whole."""


def socket_options(request_timeout_s: float) -> list[httpcore.SOCKET_OPTION]:
    """For connections that carry the visible request. Linux and a few others can bound what the kernel retransmits."""
    options: list[httpcore.SOCKET_OPTION] = [(socket.SOL_SOCKET, socket.SO_LINGER, _linger(reset=True))]
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        options.append((socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(request_timeout_s * 1000)))
    return options


def _linger(*, reset: bool) -> bytes:
    return struct.pack("ii", int(reset), 0)


class Punctual(httpcore.AsyncNetworkStream):
    """A connection that asks the clocks right before each write."""

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 httpcore's own
        departure = _departure.get()
        if departure and buffer:
            if departure.left_s < 0:
                raise TooLate("the time to leave was over")
            departure.has_left = True
        await self._inner.write(buffer, timeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        return await self._inner.read(max_bytes, timeout)

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return Punctual(await self._inner.start_tls(ssl_context, server_hostname, timeout))

    def answered(self) -> None:
        """The whole answer is in: from here on the connection ends like any other."""
        with contextlib.suppress(OSError):
            self.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _linger(reset=False))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)

    async def aclose(self) -> None:
        await self._inner.aclose()
