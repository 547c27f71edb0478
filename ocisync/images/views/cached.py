"""A source behind a cache: what the cache holds costs no request, and needs no registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from ocisync.content.repository import ByteStream, Source
from ocisync.content.verify import read_manifest
from ocisync.errors import NotFound, OcisyncError, VerificationError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import is_digest
from ocisync.model.manifest import MAX_MANIFEST_SIZE


class CachedView:
    """A Source that reads from a cache first, and asks the other source for what is not there.

    A digest is looked up in the cache, for it means the same everywhere; a tag always at the source. What is small
    is verified before it is used; large layers that went bad are removed before (`commands.images.unpack`).
    """

    def __init__(self, source: Source, cache: Source) -> None:
        self._source = source
        self._cache = cache

    async def tags(self) -> Sequence[str]:
        """The source's tags."""
        return await self._source.tags()

    async def resolve(self, reference: str) -> Descriptor:
        """The cache's descriptor of a digest, else the source's."""
        if is_digest(reference):
            with suppress(OcisyncError):
                found = await self._cache.resolve(reference)
                await read_manifest(self._cache, found)
                return found
        return await self._source.resolve(reference)

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream what the cache holds, else what the source does."""
        async with AsyncExitStack() as stack:
            try:
                if desc.size <= MAX_MANIFEST_SIZE:
                    await read_manifest(self._cache, desc)  # verified: what went bad is read from the source
                stream = await stack.enter_async_context(self._cache.open(desc, start))
            except (NotFound, VerificationError):
                stream = await stack.enter_async_context(self._source.open(desc, start))
            yield stream
