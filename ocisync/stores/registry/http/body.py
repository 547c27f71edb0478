"""The body of one upload: whole, or while it is read and sent."""

from __future__ import annotations

import asyncio
import math
from contextvars import ContextVar

import anyio
from aiohttp import BytesPayload

from ocisync.content.repository import ByteStream
from ocisync.stores.registry.http.host_limiter import Throttle


class SentOnce(BytesPayload):
    """The body of an upload, at hand: after a lost reply it is looked for before aiohttp may send it again."""

    @property
    def length(self) -> int:
        """Bytes."""
        return self.size or 0

    @property
    def consumed(self) -> bool:
        """Not to be sent anew."""
        return True


class PacedBody:
    """The body of one upload: a stall of the receiver is noticed, the sender's own pauses are not counted."""

    def __init__(self, stream: ByteStream, length: int, idle_timeout: float) -> None:
        self.length = length  # bytes
        self.failure: Exception | None = None  # what the stream itself raised
        self.scope = anyio.CancelScope()
        self.transport: asyncio.Transport | None = None
        self.is_sent = False
        self.throttle: Throttle | None = None
        self._stream = stream
        self._chunk, self._at = b"", 0  # what the throttle holds back, and the byte it stands at
        self._idle = idle_timeout
        self._turn = anyio.Lock(fast_acquire=True)
        self._closed = False

    def __aiter__(self) -> PacedBody:
        return self

    async def __anext__(self) -> bytes:
        uploading.set(None)  # what the stream opens is no connection of the upload; the caller is a task of its own
        async with self._turn:
            if self._closed:
                raise StopAsyncIteration
            self.scope.deadline = math.inf
            try:
                chunk = await self._next(self.throttle)
            except StopAsyncIteration:
                self.is_sent = True
                raise
            except Exception as exc:
                self.failure = exc
                raise
            self.scope.deadline = anyio.current_time() + self._idle
            return chunk

    async def _next(self, throttle: Throttle | None) -> bytes:
        if throttle is None:
            return await anext(self._stream)
        if self._at >= len(self._chunk):
            self._chunk, self._at = await anext(self._stream), 0
        piece = self._chunk[self._at : self._at + throttle.piece]
        self._at += len(piece)
        await throttle.passed(len(piece))
        return piece

    async def close(self) -> None:
        """Return once nobody reads the stream any more."""
        with anyio.move_on_after(10, shield=True):
            async with self._turn:
                self._closed = True

    def abort(self) -> None:
        """Drop the connection with all that has not left yet."""
        if self.transport is not None:
            self.transport.abort()


uploading: ContextVar[PacedBody | None] = ContextVar("uploading", default=None)
"""The body of the request that this task is sending."""
