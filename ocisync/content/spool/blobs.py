"""Blobs that several targets want, or that a target may want again: read once from the source, kept in bounded space.

Whoever is ahead reads the source and writes the file; the others read the file. So nobody waits for a slow one, memory
holds a few MiB, and what came before a failure is not read from the source again; when the process was killed, at most
a few MiB are.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio import CancelScope

from ocisync.content.repository import ByteStream, Opener
from ocisync.content.spool.files import FAILED, SpoolFile, list_leftovers, measure_room, open_file, remove_file
from ocisync.content.spool.shared import SharedDownload, SharedStream
from ocisync.content.threads import run_file
from ocisync.errors import DiskError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest

log = structlog.get_logger()

_FORGOTTEN = 24 * 3600.0  # seconds after which what nobody came for again is removed


@dataclass(slots=True)
class _Entry:
    """A blob's file that is in the spool, and who has yet to get it; what begins anew is another entry."""

    size: int  # bytes, when it is whole
    waiting: set[str] = field(default_factory=set)  # targets
    served: set[str] = field(default_factory=set)  # those that got it
    used: float = field(default_factory=time.monotonic)
    blob: SharedDownload | None = None  # None: nobody reads it now


@dataclass(slots=True, eq=False)
class BlobSpool:
    """All blobs of a folder, `limit` bytes at most; a blob for which there is no room is read past it.

    A blob that only one target wants should have `worth` bytes: a smaller one is rather read again than written down.
    """

    folder: Path
    limit: int
    worth: int = 0
    entries: dict[Digest, _Entry] = field(default_factory=dict)
    _failed: set[Digest] = field(default_factory=set)
    _settled: dict[str, bool] = field(default_factory=dict)  # target: whether all of its last job went well
    _lock: anyio.Lock = field(default_factory=lambda: anyio.Lock(fast_acquire=True))
    _is_swept: bool = False

    def opener(self, desc: Descriptor, source: Opener, targets: Collection[str]) -> SpooledOpener:
        """Opens a blob for one of the targets that want it."""
        return SpooledOpener(self, desc, source, frozenset(targets))

    async def mark_delivered(self, digest: Digest, target: str) -> None:
        """A target has a blob; it is dropped when that was the last."""
        async with self._lock:
            await self._mark_delivered(digest, target)

    async def finish_target(self, target: str, *, ok: bool) -> None:
        """A target's job has ended; when all went well it wants nothing more of what is here."""
        self._settled[target] = ok
        self._failed.clear()
        async with self._lock:
            for digest in [digest for digest, entry in self.entries.items() if ok and target in entry.waiting]:
                await self._mark_delivered(digest, target)

    async def close(self) -> None:
        """Drop what nobody will come for: targets whose last job failed find theirs at the next start."""
        async with self._lock:
            for digest, entry in list(self.entries.items()):
                for target in [target for target in entry.waiting if self._settled.get(target)]:
                    await self._mark_delivered(digest, target)

    @asynccontextmanager
    async def hold(
        self, desc: Descriptor, targets: Iterable[str]
    ) -> AsyncIterator[tuple[_Entry, SharedDownload] | None]:
        """A blob for the time of the block, and the file it is kept in; None when there is no room for it."""
        async with self._lock:
            entry = await self._find_entry(desc)
            blob = entry.blob if entry else None
            if entry is not None and blob is not None:
                entry.waiting.update(set(targets) - entry.served)
                blob.readers += 1
        if entry is None or blob is None:
            yield None
            return
        try:
            yield entry, blob
        finally:
            with CancelScope(shield=True):
                await self._let_go(desc.digest, entry, blob)

    async def discard(self, digest: Digest, entry: _Entry, blob: SharedDownload) -> None:
        """What a reader got was damaged, or cannot be written: the next reader begins anew.

        Another reader may have opened the same file in the meantime: it is the file that goes, not this opening of it.
        """
        if blob.is_broken:
            self._failed.add(digest)
        async with self._lock:
            if self.entries.get(digest) is entry:
                del self.entries[digest]
                await run_file(partial(blob.file.path.unlink, missing_ok=True))

    async def _mark_delivered(self, digest: Digest, target: str) -> None:
        entry = self.entries.get(digest)
        if entry is not None and target not in entry.served:
            entry.served.add(target)
            entry.waiting.discard(target)
            await self._drop_if_done(digest, entry)

    async def _find_entry(self, desc: Descriptor) -> _Entry | None:
        await self._sweep()
        entry = self.entries.get(desc.digest)
        if entry is not None and entry.blob is not None:
            return entry
        if desc.digest in self._failed or not await self._make_room(desc):
            return None
        found = await run_file(partial(_open_spooled, self.folder, desc))
        if found is None:
            return None
        file, length = found
        entry = self.entries.setdefault(desc.digest, _Entry(desc.size))
        entry.size, entry.used = desc.size, time.monotonic()
        entry.blob = SharedDownload(desc, file, length)
        if entry.blob.length:
            log.info("blob.taken_up", digest=desc.digest, at=entry.blob.length, size=desc.size)
        return entry

    async def _sweep(self) -> None:
        """Look once at what earlier runs left."""
        if self._is_swept:
            return
        self._is_swept = True
        for found in await run_file(partial(list_leftovers, self.folder)):
            if found.age > _FORGOTTEN and await run_file(partial(remove_file, self.folder, found.digest)):
                continue
            self.entries[found.digest] = _Entry(found.size, used=float("-inf"))

    async def _make_room(self, desc: Descriptor) -> bool:
        others = {digest: entry for digest, entry in self.entries.items() if digest != desc.digest}
        missing = sum(entry.size for entry in others.values()) + desc.size - self.limit
        idle = sorted((entry.used, digest) for digest, entry in others.items() if entry.blob is None)
        for _, digest in idle:
            if missing <= 0:
                break
            missing -= self.entries.pop(digest).size
            await run_file(partial(remove_file, self.folder, digest))
        return missing <= 0 and await run_file(partial(measure_room, self.folder)) > desc.size

    async def _let_go(self, digest: Digest, entry: _Entry, blob: SharedDownload) -> None:
        async with self._lock:
            blob.readers -= 1
            if blob.readers:
                return
            await blob.close()
            entry.blob, entry.used = None, time.monotonic()
            if self.entries.get(digest) is entry:
                await self._drop_if_done(digest, entry)

    async def _drop_if_done(self, digest: Digest, entry: _Entry) -> None:
        if not entry.waiting and entry.blob is None and self.entries.pop(digest, None) is not None:
            await run_file(partial(remove_file, self.folder, digest))


class SpooledOpener:
    """Opens a blob through the spool: an Opener."""

    def __init__(self, spools: BlobSpool, desc: Descriptor, source: Opener, targets: frozenset[str]) -> None:
        self._spools = spools
        self._desc = desc
        self._source = source
        self._targets = targets
        self._used: tuple[_Entry, SharedDownload] | None = None

    @asynccontextmanager
    async def __call__(self, start: int = 0) -> AsyncIterator[ByteStream]:
        """From a byte on."""
        async with self._spools.hold(self._desc, self._targets) as held:
            self._used = held
            if held is None:
                async with self._source(start) as stream:
                    yield stream
            else:
                yield SharedStream(held[1], self._source, start)

    async def discard(self) -> None:
        """What was read was not right: read it from the source the next time."""
        if self._used is not None:
            await self._spools.discard(self._desc.digest, *self._used)


def is_spool_failure(error: Exception) -> bool:
    """Whether an error only means that the spool cannot be used."""
    return isinstance(error, DiskError) and error.code == FAILED


def _open_spooled(folder: Path, desc: Descriptor) -> tuple[SpoolFile, int] | None:
    """A blob's file, and how much of it is there; what cannot be a part of it is dropped.

    All in one hop: who was cancelled between two would leave the file locked.
    """
    file = open_file(folder, desc.digest)
    if file is None:
        return None
    try:
        if file.length > desc.size:
            file.cut(0)
    except BaseException:
        file.close()
        raise
    return file, file.length
