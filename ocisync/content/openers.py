"""Content that is small enough to be held whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from ocisync.content.repository import ByteStream, Fetcher, Opener, RangeFetcher, Seekable
from ocisync.model.descriptor import Descriptor

INLINE_LIMIT = 256 * 1024  # bytes; such a body is read and checked before any of it is sent, and then sent as it is
_CHUNK = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class BytesOpener:
    """An opener of bytes at hand: whoever wants all of them at once takes `data`."""

    data: bytes

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[ByteStream]:
        """From the first byte."""
        yield _chunks(self.data)


class ContentCheck(Protocol):
    """What takes content bit by bit, and checks the whole."""

    def update(self, chunk: bytes, /) -> None: ...
    def finish(self) -> None: ...


async def read_whole(opener: Opener, check: ContentCheck) -> bytes:
    """Small content, checked; it is hashed at once, for a hop to a thread would take longer.

    Raises:
        SizeMismatch, DigestMismatch: as `check` does.
    """
    if isinstance(opener, BytesOpener):
        check.update(opener.data)
        check.finish()
        return opener.data
    chunks = []
    async with opener() as stream:
        async for chunk in stream:
            check.update(chunk)
            chunks.append(chunk)
    check.finish()
    return b"".join(chunks)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


@dataclass(frozen=True, slots=True)
class SourceOpener:
    """Content of a source, from its start or from a later byte."""

    source: Fetcher
    desc: Descriptor

    def __call__(self) -> AbstractAsyncContextManager[ByteStream]:
        """All of it."""
        return self.source.open(self.desc)

    def from_byte(self, start: int) -> AbstractAsyncContextManager[ByteStream]:
        """What follows the first `start` bytes; they are not read again where the source can leave them out."""
        if isinstance(self.source, RangeFetcher):
            return self.source.open_from(self.desc, start)
        return _skipped(self, start)


def open_at(opener: Opener, start: int) -> AbstractAsyncContextManager[ByteStream]:
    """A stream that begins after `start` bytes, whatever the opener."""
    if not start:
        return opener()
    return opener.from_byte(start) if isinstance(opener, Seekable) else _skipped(opener, start)


@asynccontextmanager
async def _skipped(opener: Opener, start: int) -> AsyncIterator[ByteStream]:
    async with opener() as stream, aclosing(_after(stream, start)) as rest:
        yield rest


async def _after(stream: ByteStream, start: int) -> AsyncGenerator[bytes, None]:
    async for chunk in stream:
        if start < len(chunk):
            yield chunk[start:]
        start = max(0, start - len(chunk))
