"""`unpack`: an image's blobs are brought to a layout, its own for the time or a shared one, and unpacked from there."""

from __future__ import annotations

import platform as machine
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from anyio import CancelScope

from ocisync.commands.images.cache import fetch_image, keep_index, remove_damaged
from ocisync.config.models import Config
from ocisync.content.compress import Compression
from ocisync.content.files import FileSection
from ocisync.content.repository import Source
from ocisync.content.threads import run_file
from ocisync.errors import DiskError, NotFound
from ocisync.images.inspect import pick_platform
from ocisync.images.unpack.unpack_image import UnpackOptions, check_free, read_layers, unpack_layers
from ocisync.images.views.cached import CachedView
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.locator import ArchiveLocator, DockerArchiveLocator, Locator
from ocisync.model.platform import Platform, normalize
from ocisync.stores.archive.archive_files import FolderFiles
from ocisync.stores.archive.docker_archive import ConversionOptions
from ocisync.stores.archive.index_json import blob_path
from ocisync.stores.archive.oci_layout_target import LayoutTarget
from ocisync.stores.archive.open_any import open_any
from ocisync.sync.context import Progress
from ocisync.sync.reports import Traffic
from ocisync.wiring.archives import caps_of, tar_limits_of
from ocisync.wiring.session import Session, optional_session


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What was unpacked."""

    digest: Digest
    layers: int
    fetched: Traffic
    warnings: Sequence[str]


async def unpack_image(
    config: Path | Config | None,
    progress: Progress,
    locator: Locator,
    folder: Path,
    platform: str,
    cache: Path | None,
    rootless: bool,
) -> Unpacked:
    """Unpack an image in a session of its own; raises as `unpack_to` does."""
    async with optional_session(config, progress) as session:
        options = unpack_options(session, rootless=rootless)
        return await unpack_to(session, locator, folder, platform, cache, options)


async def unpack_to(
    session: Session, locator: Locator, folder: Path, platform: str, cache: Path | None, options: UnpackOptions
) -> Unpacked:
    """Unpack an image, or the one of an index for a platform (the machine's own when none is named).

    Raises:
        InputError: the folder holds something.
        OcisyncError: the image cannot be read, or is not what it claims to be; nothing is left behind.
    """
    await check_free(folder)
    async with _source(session, locator) as origin, _layout(cache, folder) as root:
        source = origin if cache is None else CachedView(origin, LayoutTarget(cache))
        top = await source.resolve(locator.reference)
        image = await pick_platform(source, top, platform or host_platform())
        layers = await read_layers(source, image)
        if cache is not None:
            await remove_damaged(root, [layer.desc for layer in layers])
        fetched = await fetch_image(session, source, image, root)
        if cache is not None:
            await keep_index(source, top, root)
        warnings = await unpack_layers(layers, partial(_open_layer, FolderFiles(root)), folder, options)
    return Unpacked(image.digest, len(layers), fetched, warnings)


def unpack_options(session: Session, *, rootless: bool) -> UnpackOptions:
    """As asked for, root or not, within the configuration's limits."""
    limits = session.config.archives
    is_rootless = rootless or UnpackOptions().rootless
    return UnpackOptions(rootless=is_rootless, caps=caps_of(limits), limits=tar_limits_of(limits))


def host_platform() -> str:
    """The machine's own platform."""
    name = machine.machine().lower()
    variant = "v7" if name.startswith("armv7") else "v6" if name.startswith("armv6") else ""
    return str(normalize(Platform("linux", "arm" if variant else name, variant)))


@asynccontextmanager
async def _source(session: Session, locator: Locator) -> AsyncIterator[Source]:
    """The image's source; a docker-archive's layers are not compressed only to be uncompressed again."""
    if not isinstance(locator, ArchiveLocator | DockerArchiveLocator):
        async with session.stores.source(locator) as source:
            yield source
        return
    limits = session.config.archives
    options = ConversionOptions("oci", Compression("none"), caps_of(limits), tar_limits_of(limits))
    async with open_any(Path(locator.path), scratch=session.stores.archives.scratch, options=options) as archive:
        yield archive


@asynccontextmanager
async def _layout(cache: Path | None, folder: Path) -> AsyncIterator[Path]:
    """Where the blobs go: the cache, or a folder beside the result for the time of the block."""
    if cache is not None:
        yield cache
        return
    beside = await run_file(partial(_temporary, folder))
    try:
        yield Path(beside.name)
    finally:
        with CancelScope(shield=True):
            await run_file(beside.cleanup)


@asynccontextmanager
async def _open_layer(files: FolderFiles, desc: Descriptor) -> AsyncIterator[FileSection]:
    async with files.open(blob_path(desc.digest)) as region:
        if region is None:
            raise NotFound(f"{files.where}: {desc.digest}: removed while the image was unpacked; try again")
        yield region


def _temporary(folder: Path) -> TemporaryDirectory[str]:
    try:
        return TemporaryDirectory(prefix=f".{folder.name[:100]}.", suffix=".blobs", dir=folder.absolute().parent)
    except OSError as exc:
        raise DiskError(f"{folder}: nothing can be written beside it: {exc.strerror}", errno=exc.errno) from exc
