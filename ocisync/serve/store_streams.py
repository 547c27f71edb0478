"""Streams from a store that has no files here: a bounded number at a time, in turns while more readers wait."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
from aiohttp import web

from ocisync.content.object_store import ObjectInfo, ObjectStore
from ocisync.content.repository import ByteStream
from ocisync.errors import Truncated
from ocisync.serve.send_file import IDLE, own_socket

MOST_STREAMS = 64  # of one store; one by TLS holds some 300 KiB, of which 256 are the event loop's buffer
_TURN = 2.0  # seconds that a reader keeps a stream while others wait for one
_PATIENCE = 0.05  # seconds without a byte taken, after which it is looked whether others wait
_PIECE = 256 * 1024  # bytes that are asked for while others wait: a little more than what the kernel takes at once


class StoreStreams:
    """The streams that are open on one store.

    Each is a connection to the store, with its buffers and its descriptor, so a thousand slow readers must not hold one
    each. While nobody waits, a reader keeps its stream to the end. While others wait, they take turns in the order in
    which they came: who takes nothing, or had its turn, lets its stream go and asks for the rest later.
    """

    def __init__(self, store: ObjectStore, most: int = MOST_STREAMS) -> None:
        self._store = store
        self._places = anyio.Semaphore(most)

    def others_wait(self) -> bool:
        """Whether a reader waits for a stream."""
        return self._places.statistics().tasks_waiting > 0

    @asynccontextmanager
    async def take_turn(self, key: str, start: int, end: int | None) -> AsyncIterator[tuple[ObjectInfo, ByteStream]]:
        """Read an object from `start` on, as soon as there is a place; a piece of it while others wait."""
        async with self._places:
            length = None if end is None else end - start
            if self.others_wait():
                length = _PIECE if length is None else min(length, _PIECE)
            async with self._store.open(key, start=start, length=length) as opened:
                yield opened

    @asynccontextmanager
    async def open(
        self, request: web.Request, key: str, start: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[ObjectInfo, Sender]]:
        """What is found, and what sends it once the headers of the response are out.

        Raises:
            NotFound: no such key.
            ConnectionError: the client went away.
        """
        end = None if length is None else start + length
        async with own_socket(request) as own, AsyncExitStack() as turn:
            info, stream = await turn.enter_async_context(self.take_turn(key, start, end))
            yield info, Sender(self, own, key, info, start, info.size if end is None else end, stream, turn)


class Sender:
    """Sends a stretch of an object to one reader, by one stream or by several that follow each other."""

    def __init__(
        self,
        streams: StoreStreams,
        own: socket.socket,
        key: str,
        info: ObjectInfo,
        start: int,
        end: int,
        stream: ByteStream,
        turn: AsyncExitStack,
    ) -> None:
        self._streams = streams
        self._own = own
        self._key = key
        self._info = info
        self._at = start  # the next byte
        self._end = end
        self._first = stream
        self._turn = turn  # the first one, which is under way

    async def send(self, request: web.Request) -> None:
        """Send all of it.

        Raises:
            TimeoutError: the client takes nothing any more.
            ConnectionError: it went away.
            Truncated: the store gave fewer bytes, or another object.
        """
        with anyio.fail_after(IDLE):
            await request.writer.drain()  # the headers leave first
        await self._send_from(self._first)
        await self._turn.aclose()
        while self._at < self._end:
            with anyio.fail_after(IDLE):
                await anyio.wait_writable(self._own)
            async with self._streams.take_turn(self._key, self._at, self._end) as (info, stream):
                if (info.size, info.etag) != (self._info.size, self._info.etag):
                    raise Truncated(f"the object was replaced while it was sent, at {self._at} of {self._end} bytes")
                await self._send_from(stream)

    async def _send_from(self, stream: ByteStream) -> None:
        """Send until the stream ends, or until it is another's turn."""
        began, before = time.monotonic(), self._at
        async for chunk in stream:
            left = memoryview(chunk)
            while left:
                try:
                    sent = self._own.send(left)
                except BlockingIOError:
                    if not await self._wait_writable():
                        return
                    continue
                self._at += sent
                left = left[sent:]
            if time.monotonic() - began > _TURN and self._streams.others_wait():
                return
        if self._at == before < self._end:
            raise Truncated(f"the store gave {self._at} bytes instead of {self._end}")

    async def _wait_writable(self) -> bool:
        """Whether the client took something; False when it did not and others wait."""
        with anyio.fail_after(IDLE):
            while True:
                with anyio.move_on_after(_PATIENCE) as quick:
                    await anyio.wait_writable(self._own)
                if not quick.cancelled_caught:
                    return True
                if self._streams.others_wait():
                    return False
