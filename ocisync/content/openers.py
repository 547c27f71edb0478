"""Openers: bytes at hand, content read whole, what begins in the middle, files to take over, streams for threads."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from ocisync.content.repository import ByteStream, Opener
from ocisync.model.digest import Digest

INLINE_LIMIT = 256 * 1024  # bytes; such a body is read and checked before any of it is sent, and then sent as it is
_CHUNK = 64 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class BytesOpener:
    """An opener of bytes at hand: whoever wants all of them at once takes `data`."""

    data: bytes

    @asynccontextmanager
    async def __call__(self, start: int = 0) -> AsyncIterator[ByteStream]:
        """From a byte on."""
        yield _split(self.data, start)


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
    async with opener(0) as stream:
        async for chunk in stream:
            check.update(chunk)
            chunks.append(chunk)
    check.finish()
    return b"".join(chunks)


async def _split(data: bytes, start: int) -> AsyncIterator[bytes]:
    for at in range(start, len(data), _CHUNK):
        yield data[at : at + _CHUNK]


def skip(opened: AbstractAsyncContextManager[ByteStream], start: int) -> AbstractAsyncContextManager[ByteStream]:
    """A stream without its first `start` bytes, for stores that can open only from the first: they are read over."""
    return _skip(opened, start) if start else opened


@asynccontextmanager
async def _skip(opened: AbstractAsyncContextManager[ByteStream], start: int) -> AsyncIterator[ByteStream]:
    async with opened as stream, aclosing(_drop_first(stream, start)) as rest:
        yield rest


async def _drop_first(stream: ByteStream, start: int) -> AsyncGenerator[bytes, None]:
    async for chunk in stream:
        if start < len(chunk):
            yield chunk[start:]
        start = max(0, start - len(chunk))


@runtime_checkable
class AdoptableFile(Protocol):
    """An opener of a whole file without a name, hashed as it was written, which nobody writes to any more.

    A converted layer is one. A directory gives the file a name instead of copying its bytes; other targets read it.
    """

    def __call__(self, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:
        """Read it from a byte on."""
        ...

    async def link(self, path: Path, digest: Digest, *, fsync: bool) -> bool:
        """Name the file, once, locked and its content on the disk by then; False where that cannot be done."""
        ...


@runtime_checkable
class ThreadReader(Protocol):
    """What a thread can read from by itself. The event loop uses it while it waits, a thread while it reads."""

    async def wait_readable(self) -> None:
        """Return when a thread may read on; a broken transfer is taken up again here.

        Raises:
            OcisyncError: the content cannot be had.
        """
        ...

    def read_into(self, buffer: memoryview) -> int | None:
        """In a thread: how many bytes were read, 0 at the end; None when there is nothing now: wait first."""
        ...

    def end_turn(self) -> None:
        """The thread has stopped for now; called on the event loop after each turn, and after a wait that failed."""
        ...


class BulkReader(ThreadReader, Protocol):
    """A ByteStream that is a ThreadReader as well."""

    @property
    def is_bulk(self) -> bool:
        """Whether that is worth while now: what lies behind is a socket or a file."""
        ...


def find_bulk_reader(stream: ByteStream) -> BulkReader | None:
    """The stream, if a thread can read it by itself."""
    if not _is_thread_reader(type(stream)):
        return None
    reader = cast("BulkReader", stream)
    return reader if reader.is_bulk else None


@lru_cache
def _is_thread_reader(kind: type[object]) -> bool:
    """To look at each stream anew takes longer than all else about a small blob."""
    return issubclass(kind, ThreadReader)
