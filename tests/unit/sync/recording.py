"""A memory repository that writes down what was asked of it, and whose behaviour tests can bend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import anyio

from ocisync.content.memory import MemoryRepository
from ocisync.content.repository import ByteStream, Opener, Source, Target
from ocisync.model.descriptor import Descriptor
from ocisync.model.locator import Locator, StaticLocator, TargetLocator
from ocisync.sync.context import JobContext, Limits
from ocisync.sync.job import Job
from ocisync.sync.select import TagSelection


class Recording(MemoryRepository):
    """Counts opens and pushes, and knows how many blobs travel at once."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.pushed: list[str] = []
        self.events: list[str] = []
        self.now = 0
        self.most = 0

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Count, then stream."""
        self.opened.append(desc.digest)
        async with super().open(desc, start) as stream:
            yield stream

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Count, let others go first, then store."""
        self.now += not desc.is_manifest
        self.most = max(self.most, self.now)
        try:
            await anyio.lowlevel.checkpoint()
            await super().push(desc, opener)
        finally:
            self.now -= not desc.is_manifest
        self.pushed.append(desc.digest)
        self.events.append(f"push {desc.digest}")

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Write down, then publish."""
        await super().publish(tags)
        self.events.extend(f"tag {tag} {desc.digest}" for tag, desc in tags.items())


@dataclass
class MemoryStores:
    """Opens one source and targets by name."""

    from_repository: Source
    to: dict[str, Target] = field(default_factory=dict)

    def source(self, locator: Locator) -> AbstractAsyncContextManager[Source]:
        """The one source."""
        del locator
        return _given(self.from_repository)

    def target(self, locator: TargetLocator) -> AbstractAsyncContextManager[Target]:
        """The target of that repository."""
        return _given_target(self.to[locator.repository])


@asynccontextmanager
async def _given(source: Source) -> AsyncIterator[Source]:
    yield source


@asynccontextmanager
async def _given_target(target: Target) -> AsyncIterator[Target]:
    yield target


def tools_for(source: Source, limits: Limits | None = None, **to: Target) -> JobContext:
    """Tools over memory."""
    return JobContext(MemoryStores(source, dict(to)), limits=limits or Limits())


def job(repository: str = "app", tags: TagSelection | None = None, recheck: float = 3600.0) -> Job:
    """A job into a memory target."""
    source = StaticLocator("memory", "source")
    return Job("rule", source, TargetLocator("here", repository), tags or TagSelection(), recheck)
