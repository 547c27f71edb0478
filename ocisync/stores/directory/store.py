"""A local directory as an object store: what any HTTP server can serve as a static registry.

The key `v2/` is the file `v2/index.html`. Headers are not kept: a server derives them from the layout.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

import structlog
from anyio import CancelScope, CapacityLimiter, to_thread

from ocisync.content.object_store import ObjectHeaders, ObjectInfo
from ocisync.content.openers import INLINE_LIMIT, AdoptableFile, BytesOpener, find_bulk_reader
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.transfer.mover import BULK_FROM, Transfer
from ocisync.content.verify import UploadCheck, batch_chunks
from ocisync.errors import DiskError, NotFound, VerificationError
from ocisync.model.digest import Digest
from ocisync.stores.directory.blocking import BlockingFiles
from ocisync.stores.directory.file_info import walk
from ocisync.stores.directory.paths import disk_errors, split_key
from ocisync.stores.directory.temporary import Temporary

log = structlog.get_logger()

_T = TypeVar("_T")
_READ = 256 * 1024  # bytes
_LISTED = 500  # entries per thread hop
_COMPARED = 5000  # pairs of names per thread hop


class DirectoryStore:
    """An ObjectStore, ServerSideStore (hard links) and LocalFiles below one folder; several processes may share it."""

    def __init__(self, path: Path, *, fsync: bool = True) -> None:
        self.root = path.absolute()
        self._files = BlockingFiles(self.root, fsync=fsync)
        self._threads = CapacityLimiter(8)
        self._walkers = CapacityLimiter(1)  # more only take the interpreter from each other, at every name
        self._is_ready = False

    def __str__(self) -> str:
        return str(self.root)

    async def prepare(self) -> None:
        """Make the folder, and remove the temporaries of writers that are gone."""
        if self._is_ready:
            return
        if count := await self._in_thread("", self._files.prepare):
            log.info("temporaries.removed", path=str(self.root), count=count)
        self._is_ready = True

    async def head(self, key: str) -> ObjectInfo | None:
        """What is stored under a key; the content type is what the layout says."""
        try:
            return await self._in_thread(key, self._files.head, key)
        except FileNotFoundError:
            return None

    @asynccontextmanager
    async def open(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AsyncIterator[tuple[ObjectInfo, ByteStream]]:
        """Read a file, or part of it; what is open stays readable when it is replaced."""
        try:
            info, fd = await self._in_thread(key, self._files.open, key)
        except FileNotFoundError:
            raise NotFound(f"{self.root}/{key}: no such file") from None
        try:
            end = info.size if length is None else min(info.size, start + length)
            yield info, _FileReader(fd, self.root / key, start, end, self._threads)
        finally:
            os.close(fd)

    @asynccontextmanager
    async def open_file(self, key: str) -> AsyncIterator[tuple[ObjectInfo, BinaryIO]]:
        """Open a file for sendfile, found as `open` finds it."""
        try:
            info, fd = await self._in_thread(key, self._files.open, key)
        except FileNotFoundError:
            raise NotFound(f"{self.root}/{key}: no such file") from None
        with os.fdopen(fd, "rb", buffering=0) as file:
            yield info, cast(BinaryIO, file)

    async def put(
        self,
        key: str,
        opener: Opener,
        headers: ObjectHeaders,  # noqa: ARG002 (a directory cannot keep them)
        *,
        size: int,
        digest: Digest | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:
        """Write a temporary file, verify it, make it last, and move it into place.

        What came of a large blob before its source broke off, or the process ended, is taken up by the next call.
        """
        split_key(key)
        await self.prepare()
        if isinstance(opener, AdoptableFile) and digest and if_match is None:
            info = await self._take_over(key, opener, size, digest)
            if info is not None:
                return info
        if size <= INLINE_LIMIT:  # one hop to a thread; hops are most of what a small object costs
            chunks = await _read_small(opener, size)
            return await self._in_thread(key, self._files.write, chunks, size, digest, key, if_match)
        temporary = await self._in_thread(key, self._files.temporary, size, digest)
        is_usable = True
        try:
            if temporary.length < size:
                async with opener(temporary.length) as stream:
                    if (reader := find_bulk_reader(stream)) is not None:
                        writer = _FileWriter(temporary, self.root / key)
                        await Transfer(reader, temporary.check, writer, size - temporary.length, self._threads).run()
                    else:
                        async for chunks in batch_chunks(stream):
                            await self._in_thread(key, temporary.write, chunks)
            return await self._in_thread(key, self._files.commit, temporary, key, if_match)
        except (VerificationError, DiskError):
            is_usable = False
            raise
        finally:
            if temporary.is_open:
                with CancelScope(shield=True):
                    await self._in_thread(key, partial(temporary.discard, keep=is_usable))

    def can_resume_upload(self, size: int) -> bool:
        """What came of a large object is kept, and nothing else is cut off."""
        del size
        return True

    async def _take_over(self, key: str, file: AdoptableFile, size: int, digest: Digest) -> ObjectInfo | None:
        """Move a file that was verified as it was written into place; None where it must be copied."""
        path = self._files.new_path()
        try:
            if await file.link(path, digest, fsync=self._files.fsync):
                return await self._in_thread(key, self._files.take_over, path, key, size)
        finally:
            with CancelScope(shield=True):
                await self._in_thread(key, partial(path.unlink, missing_ok=True))
        return None

    async def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Files below a prefix, sorted by key; what is not a plain file is left out."""
        with closing(walk(self.root, prefix, start_after)) as entries:
            while batch := await self._in_thread(prefix, _take_batch, entries, limiter=self._walkers):
                for info in batch:
                    yield info

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove files."""
        await self._in_thread("", self._files.delete, keys)

    async def copy(self, from_key: str, to_key: str, headers: ObjectHeaders, size: int) -> bool:  # noqa: ARG002
        """Link a file, and date it now: a link is as old as its file."""
        return await self._link(self._files.copy, from_key, to_key) and await self.touch(to_key, headers)

    async def link(self, from_key: str, to_key: str) -> bool:
        """Make a hard link with a date of its own, or a copy where the file system has no links.

        False when there is nothing to link.
        """
        return await self._link(self._files.link_dated, from_key, to_key)

    async def are_links(self, folder: str, names: Mapping[str, str]) -> bool:
        """Whether in one folder each of these names is the same file as the other that it is mapped to."""
        pairs = iter(names.items())
        while some := list(islice(pairs, _COMPARED)):
            if not await self._in_thread(folder, self._files.are_links, folder, some, limiter=self._walkers):
                return False
        return True

    async def _link(self, act: Callable[[str, str], None], from_key: str, to_key: str) -> bool:
        await self.prepare()
        try:
            await self._in_thread(to_key, act, from_key, to_key)
        except FileNotFoundError:
            return False
        return True

    async def touch(self, key: str, headers: ObjectHeaders) -> bool:  # noqa: ARG002
        """Date a file now, and with it every hard link to it; False when it is not there."""
        try:
            await self._in_thread(key, self._files.touch, key)
        except FileNotFoundError:
            return False
        return True

    async def _in_thread(
        self, key: str, act: Callable[..., _T], *args: object, limiter: CapacityLimiter | None = None
    ) -> _T:
        def act_or_explain() -> _T:
            with disk_errors(self.root / key):
                return act(*args)

        return await to_thread.run_sync(act_or_explain, limiter=limiter or self._threads)


@dataclass(slots=True)
class _FileReader:
    """A stretch of an open file in order, for who waits for chunks and for threads (a BulkReader)."""

    fd: int
    path: Path  # for messages
    at: int  # bytes
    end: int
    threads: CapacityLimiter

    @property
    def is_bulk(self) -> bool:
        """Small files cost less without the hops."""
        return self.end - self.at >= BULK_FROM

    def __aiter__(self) -> _FileReader:
        return self

    async def __anext__(self) -> bytes:
        if self.at >= self.end:
            raise StopAsyncIteration
        return await to_thread.run_sync(self._read_chunk, limiter=self.threads)

    async def wait_readable(self) -> None:
        """A file can always be read."""

    def read_into(self, buffer: memoryview) -> int:
        """In a thread: the next bytes; 0 at the end. Raises DiskError: the file cannot be read, or was cut."""
        size = min(len(buffer), self.end - self.at)
        if size <= 0:
            return 0
        with disk_errors(self.path):
            return self._advance(os.preadv(self.fd, [buffer[:size]], self.at))

    def end_turn(self) -> None:
        """Nothing is held."""

    def _read_chunk(self) -> bytes:
        with disk_errors(self.path):
            chunk = os.pread(self.fd, min(_READ, self.end - self.at), self.at)
        self._advance(len(chunk))
        return chunk

    def _advance(self, count: int) -> int:
        if not count:
            raise DiskError(f"{self.path}: the file was cut while it was read")
        self.at += count
        return count


@dataclass(frozen=True, slots=True)
class _FileWriter:
    """A temporary file, as a thread writes it."""

    temporary: Temporary
    path: Path  # that it is written for

    async def wait_writable(self) -> None:
        """A file takes what it is given."""

    def write(self, data: memoryview) -> int:
        """How many bytes were written."""
        with disk_errors(self.path):
            return self.temporary.write_piece(data)


async def _read_small(opener: Opener, size: int) -> list[bytes]:
    """What an opener gives, to be hashed in the thread that writes it. Raises SizeMismatch: more than announced."""
    if isinstance(opener, BytesOpener):
        return [opener.data]
    seen, chunks = UploadCheck(size, None), []
    async with opener(0) as stream:
        async for chunk in stream:
            seen.update(chunk)
            chunks.append(chunk)
    return chunks


def _take_batch(entries: Generator[ObjectInfo, None, None]) -> list[ObjectInfo]:
    return list(islice(entries, _LISTED))
