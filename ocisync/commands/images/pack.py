"""`pack`: a folder's image to any place that can be written to, as a job like any other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ocisync.commands.images.names import complete_destination, parse_source
from ocisync.commands.images.unpack import host_platform
from ocisync.config.models import Config
from ocisync.content.repository import Source, Target
from ocisync.images.pack.settings import PackSettings
from ocisync.images.pack.source import PackedSource, Packing, Parent, open_packed
from ocisync.model.digest import is_digest
from ocisync.model.locator import ArchiveLocator, Locator, TargetLocator, parse_locator
from ocisync.sync.context import Progress, Stores
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport
from ocisync.sync.run import run_job
from ocisync.sync.select import TagSelection
from ocisync.wiring.session import Session, optional_session


@dataclass(frozen=True, slots=True)
class Packed:
    """How it went."""

    report: JobReport
    warnings: tuple[str, ...]


def parse_destination(text: str) -> Locator:
    """A locator, or only the name of an archive (`image.tar.gz`), which is an oci-archive; raises InvalidName."""
    return parse_locator(complete_destination(text))


async def pack_folder(
    config: Path | Config | None, progress: Progress, folder: Path, settings: PackSettings, place: Locator, epoch: int
) -> Packed:
    """Pack a folder in a session of its own; raises as `pack_to` does."""
    async with optional_session(config, progress) as session:
        return await pack_to(session, folder, settings, place, epoch)


async def pack_to(session: Session, folder: Path, settings: PackSettings, place: Locator, epoch: int) -> Packed:
    """Pack a folder; `epoch` in seconds. An archive is compressed as its name says.

    Raises:
        ConfigError: nothing can be written to such a place.
        InputError, NotFound: a blob or the parent cannot be read.
    """
    async with AsyncExitStack() as stack:
        parent = await _parent(session, settings.parent, stack) if settings.parent else None
        packing = Packing(folder, settings, host_platform(), epoch, parent)
        source = await stack.enter_async_context(open_packed(packing, session.stores.archives.scratch))
        report = await _copy(session, folder, source, place)
    return Packed(report, tuple(source.warnings))


async def _parent(session: Session, text: str, stack: AsyncExitStack) -> Parent:
    locator = parse_source(text)
    return Parent(await stack.enter_async_context(session.stores.source(locator)), locator.reference)


async def _copy(session: Session, folder: Path, source: PackedSource, place: Locator) -> JobReport:
    tag = "latest" if is_digest(place.reference) or not place.reference else place.reference
    job = Job(
        "pack",
        ArchiveLocator(str(folder)),
        session.stores.as_target(place),
        TagSelection(literal={tag: ""}),
        recheck=0.0,
    )
    return await run_job(job, replace(session.tools, stores=_Instead(session.stores, source)))


@dataclass(frozen=True, slots=True)
class _Instead:
    """Stores whose only source is the one that was opened already."""

    stores: Stores
    opened: Source

    @asynccontextmanager
    async def source(self, locator: Locator) -> AsyncIterator[Source]:  # noqa: ARG002 (there is only one)
        """The source."""
        yield self.opened

    def target(self, locator: TargetLocator) -> AbstractAsyncContextManager[Target]:
        """A target as usual."""
        return self.stores.target(locator)
