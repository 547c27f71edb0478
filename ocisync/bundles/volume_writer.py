"""Writing volumes: one pass from the sources into the tar, every byte hashed for its blob and for its volume."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio

from ocisync.bundles.recording import Recording, describe
from ocisync.bundles.volume_layout import END, Piece, VolumeContent, padding
from ocisync.content.concurrency import for_each
from ocisync.content.repository import ByteStream, Fetcher
from ocisync.content.threads import make_region_opener, run_file
from ocisync.content.verify import Verifier, read_manifest, update, verify_stream
from ocisync.errors import DiskError, OcisyncError, VerificationError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.stores.archive.atomic_file import StagedFile, stage_file
from ocisync.stores.archive.tar_writer import render_header
from ocisync.sync.context import JobContext, Progress
from ocisync.sync.job import Job
from ocisync.sync.source_reader import WithForeignLayers

_SMALL = 256 * 1024  # bytes; such blobs are fetched side by side before they are written
_AHEAD = 8 * 1024 * 1024  # bytes that are fetched so at a time
_FETCHERS = 16


class UnreadableBlob(OcisyncError):
    """A blob that its source does not give, or not as its digest says."""

    code = "bundle.unreadable"

    def __init__(self, digest: Digest, cause: OcisyncError) -> None:
        super().__init__(cause.message, code=cause.code, handling=cause.handling)
        self.digest = digest
        self.cause = cause


class VolumeFile:
    """A volume that is being written. Its methods but `stream` block."""

    def __init__(self, staged: StagedFile) -> None:
        self._staged = staged
        self._hasher = hashlib.sha256()

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._staged.size

    @property
    def sha256(self) -> str:
        """Of the bytes so far."""
        return self._hasher.hexdigest()

    def write(self, data: bytes) -> None:
        """Append."""
        self._staged.write(data)
        self._hasher.update(data)

    def write_member(self, name: str, content: bytes) -> None:
        """Append a small member."""
        for data in (render_header(name, len(content)), content, bytes(padding(len(content)))):
            self.write(data)

    async def stream(self, chunks: AsyncIterator[bytes]) -> None:
        """Append what comes; all of it is taken back when it ends with an error."""
        size, hasher = self._staged.size, self._hasher.copy()
        try:
            async for chunk in chunks:
                await run_file(partial(self.write, chunk))
        except BaseException:
            self._staged.size, self._hasher = size, hasher
            raise

    def finish(self) -> None:
        """Write the end of the tar, and give the file its name."""
        self.write(END)
        self._staged.commit()


@asynccontextmanager
async def open_volume(path: Path, folder: int) -> AsyncIterator[VolumeFile]:
    """A volume to be written in an open folder; it appears when it is finished."""
    async with stage_file(path, folder) as staged:
        yield VolumeFile(staged)


@dataclass
class BlobReader:
    """Opens blobs at the sources of the jobs that want them; each source is opened once."""

    recording: Recording
    jobs: Sequence[Job]
    context: JobContext
    stack: AsyncExitStack
    _sources: dict[int, Fetcher] = field(default_factory=dict)
    _opening: anyio.Lock = field(default_factory=anyio.Lock)

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Content without its first `start` bytes."""
        if (section := self.recording.section(desc.digest)) is not None:
            async with make_region_opener(section)(start) as stream:
                yield stream
            return
        source = await self._source(self.recording.home(desc.digest))
        async with source.open(desc, start) as stream:
            yield stream

    async def _source(self, number: int) -> Fetcher:
        async with self._opening:
            if number not in self._sources:
                job = self.jobs[number]
                source: Fetcher = await self.stack.enter_async_context(self.context.stores.source(job.source))
                if job.include_external and self.context.external is not None:
                    external = await self.stack.enter_async_context(self.context.external())
                    source = WithForeignLayers(source, external)
                self._sources[number] = source
            return self._sources[number]


@dataclass
class VolumeWriter:
    """Writes the pieces of volumes, one volume after the other."""

    reader: BlobReader
    progress: Progress
    _cut: CutBlob | None = None

    async def write(self, volume: VolumeFile, content: VolumeContent) -> None:
        """Write a volume's blobs.

        Raises:
            UnreadableBlob: a source does not give what it should.
        """
        waiting: list[Piece] = []
        for piece in content.pieces():
            if piece.length > _SMALL or piece.is_cut:
                await self._write_small(volume, waiting)
                waiting = []
                await self._write_large(volume, piece)
                continue
            if sum(one.length for one in waiting) + piece.length > _AHEAD or len(waiting) >= 4 * _FETCHERS:
                await self._write_small(volume, waiting)
                waiting = []
            waiting.append(piece)
        await self._write_small(volume, waiting)

    async def _write_small(self, volume: VolumeFile, pieces: Sequence[Piece]) -> None:
        """Fetch small blobs side by side, then write them in order: requests cost more than bytes."""
        fetched: dict[Digest, bytes] = {}

        async def fetch(piece: Piece) -> None:
            desc = describe(self.reader.recording, piece.digest)
            for is_last in (False, True):
                try:
                    fetched[piece.digest] = await read_manifest(self.reader, desc)
                    break
                except OcisyncError as exc:
                    if is_last or not isinstance(exc, VerificationError):
                        raise _blame(piece, exc) from exc

        await for_each(list(pieces), fetch, _FETCHERS)
        for piece in pieces:
            await run_file(partial(volume.write_member, piece.name, fetched.pop(piece.digest)))

    async def _write_large(self, volume: VolumeFile, piece: Piece) -> None:
        desc = describe(self.reader.recording, piece.digest)
        await run_file(partial(volume.write, render_header(piece.name, piece.length)))
        self.progress.blob_started(desc)
        try:
            for is_last in (False, True):
                try:
                    await self._stream(volume, piece, desc)
                    break
                except OcisyncError as exc:
                    if is_last or piece.is_cut or not isinstance(exc, VerificationError):
                        raise _blame(piece, exc) from exc
        finally:
            self.progress.blob_finished(desc)
        await run_file(partial(volume.write, bytes(padding(piece.length))))

    async def _stream(self, volume: VolumeFile, piece: Piece, desc: Descriptor) -> None:
        if not piece.is_cut:
            async with self.reader.open(desc) as stream:
                await volume.stream(self._count(verify_stream(stream, desc), desc))
            return
        if self._cut is None or self._cut.desc.digest != desc.digest:
            await self.close()
            self._cut = CutBlob(self.reader, desc)
        await volume.stream(self._count(self._cut.read(piece), desc))
        if piece.is_last:
            await self.close()

    async def resume(self, pieces: Sequence[tuple[Piece, Path]], folder: int) -> None:
        """Take note of the parts of a blob that lie in finished volumes: they are hashed again, from the disk."""
        if pieces:
            self._cut = CutBlob(self.reader, describe(self.reader.recording, pieces[0][0].digest))
            for piece, path in pieces:
                await self._cut.adopt(piece, path.name, folder)

    async def close(self) -> None:
        """Let go of a blob that is cut."""
        if self._cut is not None:
            await self._cut.close()
            self._cut = None

    async def _count(self, chunks: AsyncIterator[bytes], desc: Descriptor) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self.progress.blob_moved(desc, len(chunk))
            yield chunk


class CutBlob:
    """A blob that goes into several volumes: its stream stays open from one to the next, so it is read once."""

    def __init__(self, reader: BlobReader, desc: Descriptor) -> None:
        self.desc = desc
        self._reader = reader
        self._check = Verifier(desc.digest, desc.size)
        self._opened: AbstractAsyncContextManager[ByteStream] | None = None
        self._stream: ByteStream | None = None
        self._rest = b""  # of a chunk that reaches into the next volume

    async def read(self, piece: Piece) -> AsyncIterator[bytes]:
        """The bytes of one part, which follows the last.

        Raises:
            SizeMismatch, DigestMismatch: with the last part: the whole is not what it should be.
        """
        if self._stream is None:
            self._opened = self._reader.open(self.desc, piece.start)
            self._stream = await self._opened.__aenter__()
        left = piece.length
        while left:
            chunk = self._rest or await anext(self._stream, b"")
            if not chunk:
                break
            self._rest, chunk = chunk[left:], chunk[:left]
            left -= len(chunk)
            await update(self._check, chunk)
            yield chunk
        if piece.is_last:
            self._check.count(len(self._rest))
        if left or piece.is_last:
            self._check.finish()

    async def adopt(self, piece: Piece, volume: str, folder: int) -> None:
        """Hash a part that is on the disk, in a volume of an open folder."""
        header = len(render_header(piece.name, piece.length))  # it is the first member of its volume
        await run_file(partial(_hash_part, self._check, volume, folder, header, piece.length))

    async def close(self) -> None:
        """Close the stream."""
        opened, self._opened, self._stream = self._opened, None, None
        if opened is not None:
            await opened.__aexit__(None, None, None)


def _blame(piece: Piece, error: OcisyncError) -> OcisyncError:
    """The blob, whose images are then left out; not where the error may pass, for then the bundle is gone on with."""
    return error if error.retryable or isinstance(error, DiskError) else UnreadableBlob(piece.digest, error)


def _hash_part(check: Verifier, volume: str, folder: int, offset: int, length: int) -> None:
    with open(os.open(volume, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), "rb") as file:  # noqa: PTH123
        file.seek(offset)
        while length and (chunk := file.read(min(length, 1 << 20))):
            check.update(chunk)
            length -= len(chunk)
