"""Content that is small enough to be held whole."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from ocisync.content.protocols import ByteStream, Opener

AT_HAND = 256 * 1024  # bytes; such a body is read and checked before any of it is sent, and then sent as it is
_CHUNK = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class BytesOpener:
    """An opener of bytes at hand: whoever wants all of them at once takes `data`."""

    data: bytes

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[ByteStream]:
        """From the first byte."""
        yield _chunks(self.data)


class Checking(Protocol):
    """What takes content bit by bit, and checks the whole."""

    def update(self, chunk: bytes, /) -> None: ...
    def finish(self) -> None: ...


async def read_whole(opener: Opener, check: Checking) -> bytes:
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
