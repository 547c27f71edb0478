"""Reading from the source for one target: through the spool where a blob is wanted more than once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import cast

import structlog

from ocisync.content.capabilities import AdoptableFile
from ocisync.content.repository import ByteStream, Fetcher, Opener, Target
from ocisync.content.spool.blobs import BlobSpool, SpooledOpener, is_spool_failure
from ocisync.content.verify import read_manifest
from ocisync.errors import DiskError, NotFound, UnsupportedManifest, VerificationError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.sync.context import Progress

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class SourceReader:
    """A source, and who else reads it."""

    source: Fetcher
    spools: BlobSpool | None = None
    own: str = ""  # this target's lock name
    shares: tuple[str, ...] = ()  # those of all targets that want the same

    def opener(self, desc: Descriptor, target: Target) -> Opener:
        """Opens content for a target."""
        direct = partial(self.source.open, desc)
        if self.spools is None or not (self._is_shared or _is_sent_twice(desc, target, self.spools.worth)):
            return direct
        return self.spools.opener(desc, direct, self.shares or (self.own,))

    async def manifest(self, desc: Descriptor) -> bytes:
        """A manifest's verified bytes; raises as `read_manifest` does."""
        if self.spools is None or not self._is_shared or desc.data is not None:
            return await read_manifest(self.source, desc)
        shared = self.spools.opener(desc, partial(self.source.open, desc), self.shares)
        try:
            return await read_manifest(Opened(shared), desc)
        except DiskError:
            return await read_manifest(self.source, desc)
        except VerificationError:
            await shared.discard()
            raise

    async def mark_delivered(self, digest: Digest) -> None:
        """The target has it."""
        if self.spools is not None:
            await self.spools.mark_delivered(digest, self.own)

    @property
    def _is_shared(self) -> bool:
        return len(self.shares) > 1


@dataclass(frozen=True, slots=True)
class Opened:
    """One content as a Fetcher."""

    opener: Opener

    def open(self, desc: Descriptor, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:
        """The content, whatever is asked for."""
        del desc
        return self.opener(start)


def _is_sent_twice(desc: Descriptor, target: Target, worth: int) -> bool:
    return desc.size >= worth and not target.can_resume_upload(desc.size)


async def push_with_reread(push: Callable[[], Awaitable[None]], opener: Opener) -> None:
    """Bytes may be damaged on their way: what does not verify is read once more before it is given up."""
    try:
        await _or_discarded(push, opener)
    except (VerificationError, DiskError) as exc:
        if isinstance(exc, DiskError) and not is_spool_failure(exc):
            raise
        log.warning("blob.damaged", code=exc.code, error=exc.message)
        await _or_discarded(push, opener)


async def _or_discarded(push: Callable[[], Awaitable[None]], opener: Opener) -> None:
    try:
        await push()
    except (VerificationError, DiskError):
        if isinstance(opener, SpooledOpener):
            await opener.discard()
        raise


def with_progress(opener: Opener, desc: Descriptor, progress: Progress) -> Opener:
    """The same opener, counted for the progress display, where there is one."""
    if type(progress).blob_moved is Progress.blob_moved:
        return opener
    if _is_linkable(type(opener)):  # type: ignore[arg-type]  # classes are hashable
        return ProgressFileOpener(opener, desc, progress, cast("AdoptableFile", opener))
    return ProgressOpener(opener, desc, progress)


@lru_cache
def _is_linkable(kind: type[object]) -> bool:
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

        async def counted(stream: ByteStream) -> AsyncIterator[bytes]:
            nonlocal moved
            async for chunk in stream:
                moved += len(chunk)
                self.progress.blob_moved(self.desc, len(chunk))
                yield chunk

        try:
            async with self.opener(start) as stream:
                yield counted(stream)
        except BaseException:
            self.progress.blob_moved(self.desc, -moved)
            raise


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


def is_elsewhere(desc: Descriptor) -> bool:
    """Whether pullers fetch it from its own URLs, so that it need not be copied."""
    return media_types.is_foreign(desc.media_type) and bool(desc.urls)


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
                if not is_elsewhere(desc):
                    raise
                stream = await stack.enter_async_context(self.external.open(desc, start))
            yield stream
