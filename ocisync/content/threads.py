"""Blocking work in threads: each kind with a limiter of its own, long work in steps so that it can be cancelled."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from anyio import CancelScope, CapacityLimiter, to_thread

from ocisync.content.files import READ, FileSection, Spool
from ocisync.content.repository import ByteStream, Opener
from ocisync.model.digest import Digest

T = TypeVar("T")

_MMAP_THRESHOLD = -3  # of <malloc.h>

CPUS = os.cpu_count() or 1
cpu_limiter = CapacityLimiter(CPUS)  # compression, decompression, parsing
file_limiter = CapacityLimiter(8)  # reading and writing local files


def return_memory() -> None:
    """Give the heap's free pages back to the system, where its C library can: after something large was read whole.

    glibc keeps them otherwise, because it takes a large block that was freed once as a sign that more such will come.
    From now on blocks of a MiB and more stand alone, and go back when they are freed.
    """
    import ctypes

    with suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(_MMAP_THRESHOLD, 1 << 20)
        library.malloc_trim(0)


async def run_file(act: Callable[[], T]) -> T:
    """Do blocking file work in a thread; its result is awaited even when the task is cancelled."""
    return await to_thread.run_sync(act, limiter=file_limiter)


async def run_steps(steps: Generator[None, None, T], limiter: CapacityLimiter = cpu_limiter) -> T:
    """Run a generator to its end, one step per hop to a thread; a cancelled task stops between two steps."""

    def step() -> tuple[bool, T | None]:
        try:
            next(steps)
        except StopIteration as done:
            return True, done.value
        return False, None

    try:
        while True:
            finished, value = await to_thread.run_sync(step, limiter=limiter)
            if finished:
                return value  # type: ignore[return-value]
    finally:
        steps.close()


class RegionStream:
    """The bytes of a stretch of a file, in order, for who waits for chunks and for threads (a BulkReader)."""

    is_bulk = True

    def __init__(self, region: FileSection, start: int = 0) -> None:
        self._region = region
        self._at = start  # bytes

    def __aiter__(self) -> RegionStream:
        return self

    async def __anext__(self) -> bytes:
        size = min(READ, self._region.size - self._at)
        if size <= 0:
            raise StopAsyncIteration
        chunk = await run_file(partial(self._region.read_at, self._at, size))
        self._at += size
        return chunk

    async def wait_readable(self) -> None:
        """A file can always be read."""

    def read_into(self, buffer: memoryview) -> int:
        """In a thread: the next bytes; 0 at the end."""
        size = min(len(buffer), self._region.size - self._at)
        if size <= 0:
            return 0
        self._region.read_into(self._at, buffer[:size])
        self._at += size
        return size

    def end_turn(self) -> None:
        """Nothing is held."""


def make_region_opener(region: FileSection) -> Opener:
    """Opens a stretch of a file as often as wanted."""

    @asynccontextmanager
    async def open_region(start: int) -> AsyncIterator[ByteStream]:
        yield RegionStream(region, start)

    return open_region


@dataclass(frozen=True, slots=True)
class SpoolOpener:
    """Opens a spool that is whole, and lets a store take its file over: an AdoptableFile."""

    spool: Spool
    digest: Digest  # of what was written

    def __call__(self, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:
        """From a byte on."""
        return make_region_opener(FileSection(self.spool, 0, self.spool.size))(start)

    async def link(self, path: Path, digest: Digest, *, fsync: bool) -> bool:
        """Give the file a name."""
        return digest == self.digest and await run_file(partial(self.spool.link, path, fsync=fsync))


@asynccontextmanager
async def open_spool(folder: Path) -> AsyncIterator[Spool]:
    """A temporary file for the time of the block."""
    spool = await run_file(partial(Spool, folder))
    try:
        yield spool
    finally:
        with CancelScope(shield=True):
            await run_file(spool.close)
