"""Reading from a source in special ways: through the spool, counted for a display, from foreign layers' own URLs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import cast

from ocisync.content.openers import AdoptableFile, BulkReader, find_bulk_reader
from ocisync.content.repository import ByteStream, Fetcher, Opener, Target
from ocisync.content.spool.blobs import BlobSpool, SpooledOpener, is_spool_failure
from ocisync.content.verify import read_manifest
from ocisync.errors import DiskError, NotFound, UnsupportedManifest, VerificationError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.context import Progress

__all__ = ["SharedReader", "WithForeignLayers", "count_progress", "discard", "is_spool_failure"]


@dataclass(frozen=True, slots=True)
class SharedReader:
    """A source that is read once for all that want the same of it, and once where an upload may have to begin again.

    A rule with several targets reads each manifest and blob of its source once: the first job that wants it writes it
    to the spool while it reads, the others read there. One target alone uses the spool for a large blob whose upload
    cannot go on where it was cut off.
    """

    source: Fetcher
    spool: BlobSpool
    target: Target
    own: str  # this target's lock name
    shares: tuple[str, ...]  # those of all targets that want the same

    def opener(self, desc: Descriptor) -> Opener:
        """Opens a blob for the target."""
        direct = partial(self.source.open, desc)
        is_sent_twice = desc.size >= self.spool.worth and not self.target.can_resume_upload(desc.size)
        if not (self._is_shared or is_sent_twice):
            return direct
        return self.spool.opener(desc, direct, self.shares or (self.own,))

    async def read_manifest(self, desc: Descriptor) -> bytes:
        """A manifest's verified bytes; raises as `content.verify.read_manifest` does."""
        if not self._is_shared or desc.data is not None:
            return await read_manifest(self.source, desc)
        spooled = self.spool.opener(desc, partial(self.source.open, desc), self.shares)
        try:
            return await read_manifest(_OneContent(spooled), desc)
        except DiskError:
            return await read_manifest(self.source, desc)
        except VerificationError:
            await spooled.discard()
            raise

    async def mark_delivered(self, digest: Digest) -> None:
        """The target has it."""
        await self.spool.mark_delivered(digest, self.own)

    @property
    def _is_shared(self) -> bool:
        return len(self.shares) > 1


@dataclass(frozen=True, slots=True)
class _OneContent:
    opener: Opener

    def open(self, desc: Descriptor, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:
        """The content, whatever is asked for."""
        del desc
        return self.opener(start)


async def discard(opener: Opener) -> None:
    """Drop what the spool keeps of a blob that turned out to be damaged."""
    if isinstance(opener, SpooledOpener):
        await opener.discard()


def count_progress(opener: Opener, desc: Descriptor, progress: Progress) -> Opener:
    """The same opener, counted for the progress display."""
    if _is_adoptable(type(opener)):  # type: ignore[arg-type]  # classes are hashable
        return ProgressFileOpener(opener, desc, progress, cast("AdoptableFile", opener))
    return ProgressOpener(opener, desc, progress)


@lru_cache
def _is_adoptable(kind: type[object]) -> bool:
    """Whether such openers are AdoptableFiles; to look at each takes longer than all else about a small blob."""
    return issubclass(kind, AdoptableFile)


@dataclass(frozen=True, slots=True)
class ProgressOpener:
    """The same streams, counted for the progress display."""

    opener: Opener
    desc: Descriptor
    progress: Progress

    @asynccontextmanager
    async def __call__(self, start: int = 0) -> AsyncIterator[ByteStream]:
        """From a byte on: those before it are there already."""
        moved = start
        self.progress.blob_moved(self.desc, start)

        def count_bulk(size: int) -> None:
            nonlocal moved
            moved += size
            self.progress.blob_moved(self.desc, size)

        async def count(stream: ByteStream) -> AsyncIterator[bytes]:
            nonlocal moved
            async for chunk in stream:
                moved += len(chunk)
                self.progress.blob_moved(self.desc, len(chunk))
                yield chunk

        try:
            async with self.opener(start) as stream:
                if (reader := find_bulk_reader(stream)) is None:
                    yield count(stream)
                else:
                    yield _CountedReader(reader, stream, count_bulk)
        except BaseException:
            self.progress.blob_moved(self.desc, -moved)
            raise


@dataclass(slots=True)
class _CountedReader:
    """What a thread reads, counted; the event loop is told between two turns of the thread."""

    reader: BulkReader
    stream: ByteStream
    count: Callable[[int], None]
    is_bulk = True
    _moved: int = 0  # bytes that were not told yet

    def __aiter__(self) -> _CountedReader:
        return self

    async def __anext__(self) -> bytes:
        chunk = await anext(self.stream)
        self.count(len(chunk))
        return chunk

    async def wait_readable(self) -> None:
        """Return when a thread may read on."""
        await self.reader.wait_readable()

    def read_into(self, buffer: memoryview) -> int | None:
        """In a thread: read."""
        count = self.reader.read_into(buffer)
        self._moved += count or 0
        return count

    def end_turn(self) -> None:
        """Count what was read since the last time."""
        moved, self._moved = self._moved, 0
        if moved:
            self.count(moved)
        self.reader.end_turn()


@dataclass(frozen=True, slots=True)
class ProgressFileOpener(ProgressOpener):
    """The same for a file that a store may take over."""

    file: AdoptableFile

    async def link(self, path: Path, digest: Digest, *, fsync: bool) -> bool:
        """Give the file a name: then all of it has moved."""
        is_linked = await self.file.link(path, digest, fsync=fsync)
        if is_linked:
            self.progress.blob_moved(self.desc, self.desc.size)
        return is_linked


@dataclass(frozen=True, slots=True)
class WithForeignLayers:
    """A source whose foreign layers are read from their URLs where it does not have them."""

    source: Fetcher
    external: Fetcher

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Content without its first `start` bytes."""
        async with AsyncExitStack() as stack:
            try:
                stream = await stack.enter_async_context(self.source.open(desc, start))
            except (NotFound, UnsupportedManifest):
                if not desc.is_elsewhere:
                    raise
                stream = await stack.enter_async_context(self.external.open(desc, start))
            yield stream
