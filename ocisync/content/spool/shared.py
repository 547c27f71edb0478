"""One blob that several readers want, on its way from its source through a file.

Whoever is ahead reads the source and writes the file, and the others read there. Readers are tasks, which wait for
chunks, or threads (`content.transfer`), which read into buffers of their own; in either case only the leader, who holds
the turn, touches the source.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from functools import partial

import anyio

from ocisync.content.openers import BulkReader, find_bulk_reader
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.spool.files import SpoolFile
from ocisync.content.threads import run_file
from ocisync.content.transfer.mover import BULK_FROM
from ocisync.errors import DiskError, SizeMismatch
from ocisync.model.descriptor import Descriptor

_READ = 1024 * 1024  # bytes
_GATHERED = 2 * 1024 * 1024  # bytes that are written at a time: what a killed process has to read again


class SharedDownload:
    """One blob on its way to several readers."""

    def __init__(self, desc: Descriptor, file: SpoolFile, length: int) -> None:
        self.readers = 0
        self.is_broken = False
        self._desc = desc
        self.file = file
        self.length = length  # bytes that have arrived
        self._turn = anyio.Lock(fast_acquire=True)
        self._source = AsyncExitStack()
        self._stream: ByteStream | None = None
        self._reader: BulkReader | None = None  # the same, where a thread can read it
        self._written = length  # bytes that are in the file
        self._recent: list[bytes] = []  # what arrived last; all that is not written is among it

    async def close(self) -> None:
        """Let go of the source and of the file."""
        await self._close_source()
        if not self.is_broken:
            with suppress(DiskError):
                await self._write()
        await run_file(self.file.close)

    async def next(self, source: Opener, at: int) -> bytes:
        """The bytes from one on that has come, or that the source is asked for; at least one.

        Raises:
            SizeMismatch: the source has more or fewer than the descriptor says.
            DiskError: `spool.failed`: try again without a spool.
        """
        if at >= self.length:
            async with self._turn:
                if at >= self.length:
                    return await self._receive(source)
        start = self.length - sum(map(len, self._recent))
        if at >= start:
            return _chunk_at(self._recent, at - start)
        try:
            return await run_file(partial(self.file.read_at, at, min(_READ, start - at)))
        except DiskError:
            self.is_broken = True
            raise

    async def lead(self) -> None:
        """Become the one who reads the source; `follow` ends that."""
        await self._turn.acquire()

    def follow(self) -> None:
        """Let another read the source."""
        self._turn.release()

    async def wait_for_source(self, source: Opener) -> None:
        """For the leader: return when a thread may read the source, or bytes have come; raises as `next` does."""
        try:
            if self._stream is None:
                self._stream = await self._source.enter_async_context(source(self.length))
            self._reader = find_bulk_reader(self._stream)
            if self._reader is not None:
                await self._write()
                await self._reader.wait_readable()
        except BaseException:
            await self._close_source()
            raise
        if self._reader is None:
            await self._receive(source)

    async def finish(self) -> None:
        """For the leader: let go of the source, of which all has come; raises SizeMismatch when it has more."""
        if not self.is_source_idle:
            return
        count: int | None = 0
        try:
            if self._reader is not None:
                while (count := await run_file(partial(self._reader.read_into, memoryview(bytearray(1))))) is None:
                    await self._reader.wait_readable()
        finally:
            await self._close_source()
        if count:
            raise SizeMismatch(f"{self._desc.digest}: more than its {self._desc.size} bytes arrived")

    @property
    def is_source_idle(self) -> bool:
        """Whether all has come, and the source is still open."""
        return self.length == self._desc.size and self._stream is not None

    def read_into(self, at: int, buffer: memoryview, *, is_leader: bool) -> int | None:
        """In a thread: bytes from one on, from the file or, for the leader, from the source into it; None: wait."""
        try:
            if at < self._written:
                return self.file.read_into(at, buffer[: self._written - at])
            if not is_leader or self._reader is None or at < self.length:
                return None
            if (count := self._reader.read_into(buffer)) is None:
                return None
            if not count or at + count > self._desc.size:
                raise SizeMismatch(f"{self._desc.digest}: {at + count} bytes arrived instead of {self._desc.size}")
            self.file.write_at(at, [buffer[:count]])
        except DiskError:
            self.is_broken = True
            raise
        self._recent = []
        self._written = self.length = at + count  # in this order: who follows reads what is written
        return count

    async def _receive(self, source: Opener) -> bytes:
        try:
            chunk = await self._read(source)
            self._keep(chunk)
            if self.length - self._written >= _GATHERED or self.length == self._desc.size:
                await self._write()
        except BaseException as exc:
            self.is_broken |= isinstance(exc, DiskError)
            await self._close_source()
            raise
        if self.length == self._desc.size:
            await self._close_source()
        return chunk

    def _keep(self, chunk: bytes) -> None:
        if self._written == self.length:
            self._recent = []
        self._recent.append(chunk)
        self.length += len(chunk)

    def peek(self, at: int) -> bytes:
        """What has come from a byte on, and is not in the file yet."""
        return _chunk_at(self._recent, at - (self.length - sum(map(len, self._recent)))) if at >= self._written else b""

    @property
    def size(self) -> int:
        """Bytes, when it is whole."""
        return self._desc.size

    async def _write(self) -> None:
        if self._written < self.length:
            await run_file(partial(self.file.write_at, self._written, self._recent))
            self._written = self.length

    async def _read(self, source: Opener) -> bytes:
        if self._stream is None:
            self._stream = await self._source.enter_async_context(source(self.length))
        chunk = await anext(self._stream, b"")
        found = self.length + len(chunk)
        if chunk and found == self._desc.size:
            found += len(await anext(self._stream, b""))
        if not chunk or found > self._desc.size:
            raise SizeMismatch(f"{self._desc.digest}: {found} bytes arrived instead of {self._desc.size}")
        return chunk

    async def _close_source(self) -> None:
        self._stream = self._reader = None
        with anyio.move_on_after(10, shield=True):
            await self._source.aclose()


class SharedStream:
    """One reader's stream of a blob that several want: whoever is ahead leads, and reads the source for all."""

    def __init__(self, blob: SharedDownload, source: Opener, start: int) -> None:
        self.is_bulk = blob.size >= BULK_FROM
        self._blob = blob
        self._source = source
        self._at = start
        self._is_leader = False
        self._chunk = memoryview(b"")  # what has come and is not in the file yet

    def __aiter__(self) -> SharedStream:
        return self

    async def __anext__(self) -> bytes:
        if self._at >= self._blob.size:
            raise StopAsyncIteration
        chunk = await self._blob.next(self._source, self._at)
        self._at += len(chunk)
        return chunk

    async def wait_readable(self) -> None:
        """Return when a thread may read on, from the source or from the file."""
        is_over = self._at >= self._blob.size
        if self._blob.is_source_idle if is_over else self._at >= self._blob.length:
            await self._blob.lead()
            self._is_leader = True
            if is_over:
                await self._blob.finish()
            elif self._at >= self._blob.length:
                await self._blob.wait_for_source(self._source)
        self._chunk = memoryview(self._blob.peek(self._at))

    def read_into(self, buffer: memoryview) -> int | None:
        """In a thread: the next bytes."""
        if self._at >= self._blob.size:
            return None if self._blob.is_source_idle else 0
        if self._chunk:
            count = min(len(buffer), len(self._chunk))
            buffer[:count], self._chunk = self._chunk[:count], self._chunk[count:]
            self._at += count
            return count
        count = self._blob.read_into(self._at, buffer, is_leader=self._is_leader) or 0
        self._at += count
        return count or None

    def end_turn(self) -> None:
        """Let another lead, who may be ahead by now."""
        if self._is_leader:
            self._is_leader = False
            self._blob.follow()


def _chunk_at(chunks: Iterable[bytes], at: int) -> bytes:
    """What one of the chunks holds from a byte on, which is counted from the first."""
    for chunk in chunks:
        if at < len(chunk):
            return chunk[at:]
        at -= len(chunk)
    return b""
