"""A slow line to a server: each request is held up for a while, and noted. Cheaper by far than a proxy that reads HTTP.

Only for requests without bodies, each of which comes in one piece: what a mirror asks of its source.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from .loop import in_thread


@dataclass(frozen=True, slots=True)
class Passed:
    """A request that went through; times are the monotonic clock's."""

    began: float
    path: str


@dataclass(slots=True)
class SlowLine:
    """A running line; used as an HTTP proxy, so that one name of the source leads through many lines."""

    port: int
    delay: float  # seconds
    url: str = ""
    passed: list[Passed] = field(default_factory=list)
    open: set[asyncio.Transport] = field(default_factory=set)


class _Client(asyncio.Protocol):
    """The client's side. Answers come back at once; pieces of a request are sent on in order, each `delay` later."""

    def __init__(self, line: SlowLine) -> None:
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Transport | None = None
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._line.open.add(transport)
        self._opening = self._loop.create_task(self._open())

    async def _open(self) -> None:
        try:
            made = await self._loop.create_connection(lambda: _Server(self._transport), "127.0.0.1", self._line.port)
        except OSError:
            self._transport.abort()
            return
        self._server = made[0]
        for piece in self._early:
            self._server.write(piece)

    def data_received(self, data: bytes) -> None:
        first = data.split(b" ", 2)
        if len(first) == 3:
            self._line.passed.append(Passed(time.monotonic(), first[1].decode()))
        self._loop.call_later(self._line.delay, self._send, data)

    def _send(self, data: bytes) -> None:
        if self._server is None:
            self._early.append(data)
        else:
            self._server.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.open.discard(self._transport)
        if self._server is not None:
            self._server.abort()


class _Server(asyncio.Protocol):
    def __init__(self, client: asyncio.Transport) -> None:
        self._client = client

    def data_received(self, data: bytes) -> None:
        self._client.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.close()


@contextmanager
def slow_line(port: int, delay: float) -> Iterator[SlowLine]:
    """A line to a port of loopback; `delay` in seconds."""

    @asynccontextmanager
    async def open_line() -> AsyncIterator[SlowLine]:
        line = SlowLine(port, delay)
        server = await asyncio.get_running_loop().create_server(lambda: _Client(line), "127.0.0.1", 0)
        line.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield line
        finally:
            server.close()
            for client in list(line.open):
                client.abort()
            while line.open:  # noqa: ASYNC110 (their ends are told one by one)
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)  # the servers' sides end as well

    with in_thread(open_line) as line:
        yield line
