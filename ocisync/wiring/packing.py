"""`pack`: a folder's image to any place that can be written to, as a job like any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from anyio import CancelScope

from ocisync.content.compress import BLOCK, Buffer, Compression, compress
from ocisync.content.files import InputFile
from ocisync.content.protocols import Source, Target
from ocisync.content.threads import run_file
from ocisync.images.pack import PackedSource, Packing, Parent, open_packed
from ocisync.images.pack_settings import PackSettings
from ocisync.spec.digest import is_digest
from ocisync.spec.locator import ArchiveLocator, Locator, OciArchiveLocator, TargetLocator, parse_locator
from ocisync.stores.archive.staged import StagedFile
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport
from ocisync.sync.run import run_job
from ocisync.sync.select import TagSelection
from ocisync.sync.stores import Progress, Stores
from ocisync.wiring.image_names import parse_source
from ocisync.wiring.session import Session
from ocisync.wiring.unpacking import host_platform

_COMPRESSED = {".tar.gz": Compression("gzip"), ".tgz": Compression("gzip"), ".tar.zst": Compression("zstd")}
_BARE = (*_COMPRESSED, ".tar")


@dataclass(frozen=True, slots=True)
class Packed:
    """How it went."""

    report: JobReport
    warnings: tuple[str, ...]


def parse_destination(text: str) -> Locator:
    """A locator, or only the name of an archive (`image.tar.gz`), which is an oci-archive; raises InvalidName."""
    path, _, tag = text.partition(":")
    return OciArchiveLocator(path, tag) if path.endswith(_BARE) else parse_locator(text)


async def pack_to(session: Session, folder: Path, settings: PackSettings, place: Locator, epoch: int) -> Packed:
    """Pack a folder; `epoch` in seconds. An archive whose name ends with .tar.gz, .tgz or .tar.zst is compressed.

    Raises:
        ConfigError: nothing can be written to such a place.
        InputError, NotFound: a blob or the parent cannot be read.
    """
    async with AsyncExitStack() as stack:
        parent = await _parent(session, settings.parent, stack) if settings.parent else None
        packing = Packing(folder, settings, host_platform(), epoch, parent)
        source = await stack.enter_async_context(open_packed(packing, session.stores.archives.scratch))
        report = await _run(session, folder, source, place)
    return Packed(report, tuple(source.warnings))


async def _parent(session: Session, text: str, stack: AsyncExitStack) -> Parent:
    locator = parse_source(text)
    return Parent(await stack.enter_async_context(session.stores.source(locator)), locator.reference)


async def _run(session: Session, folder: Path, source: PackedSource, place: Locator) -> JobReport:
    compression = _compression_of(place)
    if not isinstance(place, OciArchiveLocator) or compression is None:
        return await _copy(session, folder, source, place)
    plain = session.stores.archives.scratch / "packed.tar"
    session = replace(
        session, tools=replace(session.tools, progress=Progress())
    )  # the plain archive is nobody's concern
    report = await _copy(session, folder, source, OciArchiveLocator(str(plain), place.reference))
    if report.ok:
        await _compress(plain, Path(place.path), compression)
    return report


async def _copy(session: Session, folder: Path, source: PackedSource, place: Locator) -> JobReport:
    tag = "latest" if is_digest(place.reference) or not place.reference else place.reference
    job = Job(
        "pack",
        ArchiveLocator(str(folder)),
        session.stores.address(place),
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


def _compression_of(place: Locator) -> Compression | None:
    if not isinstance(place, OciArchiveLocator):
        return None
    return next((found for ending, found in _COMPRESSED.items() if place.path.endswith(ending)), None)


async def _compress(plain: Path, into: Path, compression: Compression) -> None:
    """Compress an archive to its place, where it appears when it is whole."""
    async with _input(plain) as file, _staged(into) as staged:

        def write(data: Buffer) -> None:
            staged.write(bytes(data))

        await compress(_blocks(file), write, compression)
        await run_file(staged.commit)


@asynccontextmanager
async def _input(path: Path) -> AsyncIterator[InputFile]:
    file = await run_file(partial(InputFile, path))
    try:
        yield file
    finally:
        with CancelScope(shield=True):
            await run_file(file.close)


@asynccontextmanager
async def _staged(path: Path) -> AsyncIterator[StagedFile]:
    staged = await run_file(partial(StagedFile, path))
    try:
        yield staged
    finally:
        with CancelScope(shield=True):
            await run_file(staged.close)


def _blocks(file: InputFile) -> Iterator[bytes]:
    for offset in range(0, file.size, BLOCK):
        yield file.read_at(offset, min(BLOCK, file.size - offset))
