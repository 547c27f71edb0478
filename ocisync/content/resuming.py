"""Openers that can begin in the middle: what has arrived once is not read again."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass

from ocisync.content.protocols import ByteStream, Fetcher, Opener, RangeFetcher, Seekable
from ocisync.spec.descriptor import Descriptor


@dataclass(frozen=True, slots=True)
class SourceOpener:
    """Content of a source, from its start or from a later byte."""

    source: Fetcher
    desc: Descriptor

    def __call__(self) -> AbstractAsyncContextManager[ByteStream]:
        """All of it."""
        return self.source.open(self.desc)

    def from_byte(self, start: int) -> AbstractAsyncContextManager[ByteStream]:
        """What follows the first `start` bytes; they are not read again where the source can leave them out."""
        if isinstance(self.source, RangeFetcher):
            return self.source.open_from(self.desc, start)
        return _skipped(self, start)


def opened_from(opener: Opener, start: int) -> AbstractAsyncContextManager[ByteStream]:
    """A stream that begins after `start` bytes, whatever the opener."""
    if not start:
        return opener()
    return opener.from_byte(start) if isinstance(opener, Seekable) else _skipped(opener, start)


@asynccontextmanager
async def _skipped(opener: Opener, start: int) -> AsyncIterator[ByteStream]:
    async with opener() as stream, aclosing(_after(stream, start)) as rest:
        yield rest


async def _after(stream: ByteStream, start: int) -> AsyncGenerator[bytes, None]:
    async for chunk in stream:
        if start < len(chunk):
            yield chunk[start:]
        start = max(0, start - len(chunk))
