"""Readers of a bucket's objects share its streams: each gets its bytes, and who takes nothing keeps nobody waiting."""

import random
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import cast

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web
from anyio.to_thread import run_sync

from ocisync.content.object_store import ObjectInfo, ObjectStore
from ocisync.content.repository import ByteStream
from ocisync.errors import Truncated
from ocisync.serve.server import ServerLimits, serve
from ocisync.serve.store_streams import StoreStreams
from tests.integration.serving import drain

MIB = 1 << 20
DATA = random.Random(1).randbytes(3 * MIB)
LIMITS = ServerLimits(grace=0.1)


class Objects:
    """A store of one object, which counts its streams; `etags` are those of the streams to come."""

    def __init__(self, etags: list[str] | None = None, most_given: int = len(DATA)) -> None:
        self.etags = etags or []
        self.most_given = most_given
        self.opened, self.live, self.most_live = 0, 0, 0

    @asynccontextmanager
    async def open(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[ObjectInfo, ByteStream]]:
        self.opened, self.live = self.opened + 1, self.live + 1
        self.most_live = max(self.most_live, self.live)
        etag = self.etags.pop(0) if self.etags else "x"
        try:
            yield ObjectInfo(key, len(DATA), etag), self._chunks(start, len(DATA) if length is None else start + length)
        finally:
            self.live -= 1

    async def _chunks(self, start: int, end: int) -> ByteStream:
        for at in range(start, min(end, self.most_given), 12_000):
            await anyio.lowlevel.checkpoint()
            yield DATA[at : min(at + 12_000, end, self.most_given)]


@asynccontextmanager
async def serve_objects(store: Objects, most: int, found: list[Exception]) -> AsyncIterator[int]:
    """Serve a store's object, and its last 100 bytes; the port. Errors are kept."""
    streams = StoreStreams(cast("ObjectStore", store), most)

    async def answer(request: web.Request) -> web.StreamResponse:
        start = len(DATA) - 100 if request.path == "/end" else 0
        try:
            async with streams.open(request, "key", start, len(DATA) - start if start else None) as (info, sender):
                response = web.StreamResponse(headers={"Content-Length": str(info.size - start)})
                await response.prepare(request)
                await sender.send(request)
                return response
        except (Truncated, TimeoutError) as exc:
            found.append(exc)
            assert request.transport is not None
            request.transport.abort()
            raise

    app = web.Application()
    app.router.add_get("/{any:.*}", answer)
    async with serve(app, "127.0.0.1", 0, LIMITS) as url:
        yield int(url.rpartition(":")[2])


def ask(port: int, path: str) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.settimeout(20)
    made.connect(("127.0.0.1", port))
    made.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    return made


def read(one: socket.socket) -> bytes:
    """The body."""
    with one:
        return drain(one).partition(b"\r\n\r\n")[2]


async def read_all(readers: Iterable[socket.socket]) -> list[bytes]:
    """The bodies of readers that read at the same time."""
    bodies: list[bytes] = []

    async def finish(one: socket.socket) -> None:
        bodies.append(await run_sync(read, one))

    async with anyio.create_task_group() as tasks:
        for one in readers:
            tasks.start_soon(finish, one)
    return bodies


async def test_stalled_readers_let_others_pass_and_lose_no_byte() -> None:
    store, found = Objects(), list[Exception]()
    async with serve_objects(store, 2, found) as port:
        stalled = [await run_sync(ask, port, "/whole") for _ in range(8)]
        for path, expected in (("/end", DATA[-100:]), ("/whole", DATA), ("/end", DATA[-100:])):
            with anyio.fail_after(20):
                assert await run_sync(read, await run_sync(ask, port, path)) == expected
        bodies = await read_all(stalled)
    assert bodies == [DATA] * 8
    assert store.most_live == 2
    assert not found


async def test_a_reader_alone_keeps_its_stream() -> None:
    store = Objects()
    async with serve_objects(store, 2, []) as port:
        one = await run_sync(ask, port, "/whole")
        await anyio.sleep(0.3)
        assert await run_sync(read, one) == DATA
    assert store.opened == 1


async def test_readers_that_leave_leave_their_places() -> None:
    store = Objects()
    async with serve_objects(store, 1, []) as port:
        for one in [await run_sync(ask, port, "/whole") for _ in range(6)]:
            one.close()
        with anyio.fail_after(20):
            assert await run_sync(read, await run_sync(ask, port, "/whole")) == DATA
    assert store.live == 0


@pytest.mark.parametrize(
    ("store", "says"),
    [(Objects(etags=["x", "x", "y", "y", "y"]), "replaced"), (Objects(most_given=MIB), "gave 1048576 bytes")],
    ids=["replaced", "short"],
)
async def test_what_cannot_be_whole_breaks_the_connection(store: Objects, says: str) -> None:
    found: list[Exception] = []
    async with serve_objects(store, 1, found) as port:
        readers = [await run_sync(ask, port, "/whole") for _ in range(3)]
        await anyio.sleep(0.3)
        bodies = await read_all(readers)
    assert any(says in str(exc) for exc in found), found
    assert all(body == DATA[: len(body)] for body in bodies)
    assert any(len(body) < len(DATA) for body in bodies)
