"""The body of one upload: whole, or while it is read and sent."""

from __future__ import annotations

import asyncio
import math
from contextvars import ContextVar, Token
from types import TracebackType

import anyio
from aiohttp import BytesPayload

from ocisync.content.repository import ByteStream
from ocisync.errors import OcisyncError
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
    """The body of one upload, sent inside its own context (`async with`).

    A stall of the receiver is noticed and the sender's own pauses are not counted: the deadline runs only while a chunk
    has been handed over and the next one has not been asked for. What the stream itself raises is kept apart from what
    goes wrong on the way, because only the latter is worth another try.
    """

    def __init__(self, stream: ByteStream, length: int, idle_timeout: float) -> None:
        self.length = length  # bytes
        self.failure: Exception | None = None  # what the stream itself raised
        self._scope = anyio.CancelScope()
        self._token: Token[PacedBody | None] | None = None
        self.transport: asyncio.Transport | None = None
        self.is_sent = False
        self.throttle: Throttle | None = None
        self._stream = stream
        self._chunk, self._at = b"", 0  # what the throttle holds back, and the byte it stands at
        self._idle = idle_timeout
        self._turn = anyio.Lock(fast_acquire=True)
        self._closed = False

    async def __aenter__(self) -> None:
        self._token = uploading.set(self)
        self._scope.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop reading the stream. Raises what the stream raised, or TimeoutError when the receiver stood still."""
        is_stalled = self._scope.__exit__(kind, exc, trace)
        if self._token is not None:
            uploading.reset(self._token)
        if exc is not None:
            self.abort()
        await self._close()
        if self.failure is not None and (is_stalled or isinstance(exc, OcisyncError)):
            raise self.failure from None
        if is_stalled:
            raise TimeoutError

    def __aiter__(self) -> PacedBody:
        return self

    async def __anext__(self) -> bytes:
        uploading.set(None)  # what the stream opens is no connection of the upload; the caller is a task of its own
        async with self._turn:
            if self._closed:
                raise StopAsyncIteration
            self._scope.deadline = math.inf
            try:
                chunk = await self._next(self.throttle)
            except StopAsyncIteration:
                self.is_sent = True
                raise
            except Exception as exc:
                self.failure = exc
                raise
            self._scope.deadline = anyio.current_time() + self._idle
            return chunk

    async def _next(self, throttle: Throttle | None) -> bytes:
        if throttle is None:
            return await anext(self._stream)
        if self._at >= len(self._chunk):
            self._chunk, self._at = await anext(self._stream), 0
        piece = self._chunk[self._at : self._at + throttle.piece]
        self._at += len(piece)
        await throttle.wait(len(piece))
        return piece

    async def _close(self) -> None:
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
