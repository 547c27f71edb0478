"""Foreign layers: those that a source need not have, because they lie elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from ocisync.content.protocols import ByteStream, Fetcher
from ocisync.content.resuming import SourceOpener, opened_from
from ocisync.errors import NotFound, UnsupportedManifest
from ocisync.spec import media_types
from ocisync.spec.descriptor import Descriptor


def is_elsewhere(desc: Descriptor) -> bool:
    """Whether pullers fetch it from its own URLs, so that it need not be copied."""
    return media_types.is_foreign(desc.media_type) and bool(desc.urls)


@dataclass(frozen=True, slots=True)
class ForeignToo:
    """A source whose foreign layers are read from their URLs where it does not have them."""

    source: Fetcher
    external: Fetcher

    def open(self, desc: Descriptor) -> AbstractAsyncContextManager[ByteStream]:
        """Content from its first byte."""
        return self.open_from(desc, 0)

    @asynccontextmanager
    async def open_from(self, desc: Descriptor, start: int) -> AsyncIterator[ByteStream]:
        """Content without its first `start` bytes."""
        async with AsyncExitStack() as stack:
            try:
                stream = await stack.enter_async_context(opened_from(SourceOpener(self.source, desc), start))
            except (NotFound, UnsupportedManifest):
                if not is_elsewhere(desc):
                    raise
                stream = await stack.enter_async_context(opened_from(SourceOpener(self.external, desc), start))
            yield stream
