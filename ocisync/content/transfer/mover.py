"""Moving large content: a thread reads, hashes and writes through one buffer, and the event loop does the waiting.

asyncio copies every byte several times and does so on one core. A thread takes it from a socket straight into a buffer,
hashes it there and sends it from there, and lets go of the interpreter's lock in each of the three. A thread works for
a fraction of a second, and goes back when a side has nothing to give or takes nothing for a moment: the event loop then
waits for that side. So a few threads serve any number of slow transfers, and a cancelled transfer ends within a turn.
Turn and moment are longer while no other transfer wants a thread: a hop to the event loop costs half a millisecond.
docs/adr/0029-large-blobs-through-threads.md.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from anyio import CapacityLimiter, to_thread

from ocisync.content.openers import BulkReader, find_bulk_reader
from ocisync.content.repository import ByteStream
from ocisync.content.threads import CPUS

T = TypeVar("T")

BULK_FROM = 1 << 20  # bytes; what is smaller costs less without the hops to threads and back
BUFFER = 512 * 1024  # bytes; half as much costs a twentieth more CPU time, twice as much saves nothing
_TURN = 0.2  # seconds that one transfer may keep a thread while others want one
PATIENCE = 0.005  # seconds that a thread waits for a socket while others want a thread
_FREE_PATIENCE = 0.2  # seconds, while none does: a cancelled transfer ends within a second
_FREE_TURN = 0.5  # seconds, while none does
_MOST_IDLE = 16  # buffers that are kept for the next transfers

movers = CapacityLimiter(max(8, CPUS))  # threads that move bytes at a time
_wanting: set[object] = set()  # who waits for a thread; each operation on a set is atomic, so threads may look


async def run_mover(act: Callable[[], T], limiter: CapacityLimiter = movers) -> T:
    """Work of a transfer in a thread."""
    ticket = object()
    _wanting.add(ticket)

    def begin() -> T:
        _wanting.discard(ticket)
        return act()

    try:
        return await to_thread.run_sync(begin, limiter=limiter)
    finally:
        _wanting.discard(ticket)


def may_wait() -> float:
    """How many seconds a thread may wait for a socket now."""
    return PATIENCE if _wanting else _FREE_PATIENCE


def find_turn() -> float:
    """How many seconds a thread may work for one transfer now."""
    return _TURN if _wanting else _FREE_TURN


class BulkWriter(Protocol):
    """Where a thread can write by itself."""

    async def wait_writable(self) -> None:
        """Return when a thread may write on."""
        ...

    def write(self, data: memoryview) -> int:
        """In a thread: how many bytes were taken; 0 when nothing is taken now: wait first."""
        ...


class BulkCheck(Protocol):
    """What counts and hashes content, and checks the whole: its size too."""

    def update(self, chunk: bytes | bytearray | memoryview, /) -> None: ...
    def finish(self) -> None: ...


def make_bulk_reader(stream: ByteStream) -> BulkReader:
    """The same for any stream."""
    return find_bulk_reader(stream) or ChunkReader(stream)


class ChunkReader:
    """Any stream as a thread reads it: the event loop fetches a chunk, the thread copies it."""

    is_bulk = False

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._chunk = memoryview(b"")
        self._is_over = False

    async def wait_readable(self) -> None:
        """Fetch a chunk."""
        if not self._chunk and not self._is_over:
            chunk = await anext(self._stream, b"")
            self._chunk, self._is_over = memoryview(chunk), not chunk

    def read_into(self, buffer: memoryview) -> int | None:
        """In a thread: a piece of it."""
        if not self._chunk:
            return 0 if self._is_over else None
        count = min(len(buffer), len(self._chunk))
        buffer[:count], self._chunk = self._chunk[:count], self._chunk[count:]
        return count

    def end_turn(self) -> None:
        """Nothing is held."""


class _Next(enum.Enum):
    READER = enum.auto()
    WRITER = enum.auto()
    NOTHING = enum.auto()


class Transfer:
    """One content on its way. Its last piece is handed on only when all of it was checked."""

    def __init__(
        self, reader: BulkReader, check: BulkCheck, writer: BulkWriter, size: int, limiter: CapacityLimiter = movers
    ) -> None:
        self.failure: Exception | None = None  # what the source or the check raised, and not the other side
        self._reader = reader
        self._check = check
        self._writer = writer
        self._left = size  # bytes to read
        self._limiter = limiter
        self._buffer = memoryview(b"")
        self._held = memoryview(b"")  # what was read last
        self._rest = memoryview(b"")  # what of it is still to be written
        self._is_over = False  # whether all was read, and was right

    async def run(self) -> None:
        """Move all of it.

        Raises:
            SizeMismatch, DigestMismatch: it is not what it should be; the last of it was not written.
            OSError: the other side failed.
        """
        buffer = _spare.pop() if _spare else bytearray(BUFFER)
        self._buffer = memoryview(buffer)
        try:
            following = _Next.READER
            while following is not _Next.NOTHING:
                if following is _Next.WRITER:
                    await self._writer.wait_writable()
                else:
                    await self._wait_readable()
                following = await run_mover(self._move, self._limiter)
                self._reader.end_turn()
        finally:
            self._reader.end_turn()
            self._buffer = self._held = self._rest = memoryview(b"")
            if len(_spare) < _MOST_IDLE:
                _spare.append(buffer)

    async def _wait_readable(self) -> None:
        try:
            await self._reader.wait_readable()
        except Exception as exc:
            self.failure = exc
            raise

    def _move(self) -> _Next:
        """Move bytes until a side must be waited for, or for one turn; which side that is."""
        began = time.monotonic()
        while True:
            while self._rest:
                if not (count := self._writer.write(self._rest)):
                    return _Next.WRITER
                self._rest = self._rest[count:]
            if self._is_over:
                return _Next.NOTHING
            if time.monotonic() - began >= find_turn():
                return _Next.READER
            try:
                if not (self._read_piece() if self._left else self._check_end()):
                    return _Next.READER
            except Exception as exc:
                self.failure = exc
                raise

    def _read_piece(self) -> bool:
        """Read and hash a piece, and let it be written unless it is the last; False: nothing came."""
        if (count := self._reader.read_into(self._buffer)) is None:
            return False
        self._check.update(self._buffer[:count])
        self._left -= count
        if not count:
            self._check.finish()  # it raises: the end came too early
        self._held = self._buffer[:count]
        if self._left:
            self._rest = self._held
        return True

    def _check_end(self) -> bool:
        """Let the last piece be written, now that nothing follows it and all is right; False: that is not known yet."""
        surplus = bytearray(1)
        if (count := self._reader.read_into(memoryview(surplus))) is None:
            return False
        if count:
            self._check.update(surplus)
        self._check.finish()
        self._rest, self._is_over = self._held, True
        return True


_spare: list[bytearray] = []
