"""What kind of archive a file is, told by its content and not by its name."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Collection, Container, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ocisync.content.threads import run_file
from ocisync.errors import ArchiveError, LimitExceeded
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.manifest import Manifest
from ocisync.stores.archive.archive_files import ArchiveFiles, FolderFiles, is_folder, open_archive_files, read_small
from ocisync.stores.archive.docker_archive import ConversionOptions, DockerArchiveSource, make_docker_source
from ocisync.stores.archive.docker_manifest import ImageEntry, parse_entries
from ocisync.stores.archive.docker_v1 import is_legacy
from ocisync.stores.archive.image_folder import ImageFolderSource, is_image_folder, read_image_folder
from ocisync.stores.archive.index_json import INDEX_FILE, LAYOUT_FILE, VERSION, blob_path, parse_index
from ocisync.stores.archive.oci_layout import LayoutSource, load_manifest, open_oci_layout, read_layout, read_version
from ocisync.stores.archive.other_content import explain_folder
from ocisync.stores.archive.streams import is_stream

_ROOT_FOLDERS = frozenset(
    (
        "bin",
        "boot",
        "dev",
        "etc",
        "home",
        "lib",
        "mnt",
        "opt",
        "proc",
        "root",
        "run",
        "sbin",
        "srv",
        "sys",
        "usr",
        "var",
    )
)
_ENOUGH_ROOT_FOLDERS = 4

ArchiveSource = DockerArchiveSource | LayoutSource | ImageFolderSource


class ArchiveKind(enum.Enum):
    """What an archive holds."""

    DOCKER = "docker-archive"
    LEGACY = "docker-archive from before docker 1.10"
    LAYOUT = "oci-archive"
    HYBRID = "docker-archive with an OCI layout"  # docker 25 and later: the layout wins, digests are kept
    ROOTFS = "root filesystem"
    UNKNOWN = "unknown"


def detect_kind(names: Container[str], top_level: Collection[str]) -> ArchiveKind:
    """Tell by the members' names."""
    is_layout = INDEX_FILE in names and (LAYOUT_FILE in names or "manifest.json" not in names)
    if "manifest.json" in names:
        return ArchiveKind.HYBRID if is_layout else ArchiveKind.DOCKER
    if is_layout:
        return ArchiveKind.LAYOUT
    if is_legacy(names, top_level):
        return ArchiveKind.LEGACY
    enough = len(_ROOT_FOLDERS.intersection(top_level)) >= _ENOUGH_ROOT_FOLDERS
    return ArchiveKind.ROOTFS if enough else ArchiveKind.UNKNOWN


@asynccontextmanager
async def open_any(
    path: Path, *, scratch: Path, options: ConversionOptions | None = None
) -> AsyncIterator[ArchiveSource]:
    """Open a layout directory, or a docker-archive or oci-archive, plain or compressed.

    Raises:
        ArchiveError: it is none of them (a root filesystem is called one), or corrupt.
        LimitExceeded: a decompression bomb, or too many members.
        InputChanged: it was replaced or cut meanwhile.
        InputError: it cannot be opened.
    """
    options = options or ConversionOptions()
    is_piped = options.guard is None and await run_file(partial(is_stream, path))
    if not is_piped and await run_file(partial(is_folder, path, options.guard)):
        async with open_folder(path, options) as source:
            yield source
        return
    async with open_archive_files(path, scratch, options.caps, options.limits, options.guard) as files:
        yield await _make_source(files, scratch, options)


@asynccontextmanager
async def open_folder(path: Path, options: ConversionOptions) -> AsyncIterator[LayoutSource | ImageFolderSource]:
    """Open an OCI layout, or an image as skopeo's `dir:` writes it; raises as `open_any` does."""
    files = FolderFiles(path, options.guard)
    if await run_file(partial(is_folder, path, options.guard)) and await is_image_folder(files):
        yield await read_image_folder(files)
        return
    async with open_oci_layout(path, options.required, options.guard) as layout:
        yield layout


async def _make_source(files: ArchiveFiles, scratch: Path, options: ConversionOptions) -> ArchiveSource:
    kind = detect_kind(files.index, files.index.top_level)
    # A hybrid's layout keeps digests; docker's own files are the way out where the layout cannot be used.
    if kind is ArchiveKind.HYBRID and await _layout_is_usable(files):
        return await _make_hybrid_source(files, scratch, options)
    if kind in (ArchiveKind.HYBRID, ArchiveKind.DOCKER, ArchiveKind.LEGACY):
        return await make_docker_source(files, scratch, options)
    if kind is ArchiveKind.LAYOUT:
        return await read_layout(files, required=options.required)
    told = explain_folder(files.index, files.index.top_level)
    raise ArchiveError(f"{files.where}: {told or _REFUSALS[kind]}")


async def _layout_is_usable(files: ArchiveFiles) -> bool:
    """Whether a hybrid's layout lists anything, in a version we know; else docker's own files are used."""
    index = await read_small(files, INDEX_FILE)
    try:
        return index is not None and bool(parse_index(index)) and await read_version(files) == VERSION
    except ArchiveError:
        return False


async def _make_hybrid_source(files: ArchiveFiles, scratch: Path, options: ConversionOptions) -> ArchiveSource:
    """The layout, unless docker's manifest.json knows more, or the layout's plain layers are to be compressed.

    docker 25 to 28 save layers of the overlay2 store uncompressed, under digests that nobody else has. Compressing them
    changes the digests, so it is done only when the user asked for a compression.
    """
    images = await _read_entries(files)
    manifests = await _load_images(files)
    layers = {blob_path(manifest.config.digest): manifest.layers for manifest in manifests if manifest.config}
    for image in images:
        listed = layers.get(image.config)
        if listed is not None and len(listed) < len(image.layers):  # docker 25.0.0's release candidates
            return await make_docker_source(files, scratch, options)
    if options.recompress and any(_is_plain(layer) for listed in layers.values() for layer in listed):
        return await make_docker_source(files, scratch, options)
    return await read_layout(files, [tag for image in images for tag in image.tags], options.required)


async def _load_images(files: ArchiveFiles) -> list[Manifest]:
    """The manifests that index.json lists itself; images inside indexes come from stores that keep them compressed."""
    entries = {entry.desc.digest: entry.desc for entry in parse_index(await read_small(files, INDEX_FILE) or b"")}
    found = [await load_manifest(files, desc) for desc in entries.values()]
    return [manifest for manifest in found if manifest is not None and not manifest.is_index]


def _is_plain(layer: Descriptor) -> bool:
    return layer.media_type in (media_types.OCI_LAYER, media_types.DOCKER_LAYER)


async def _read_entries(files: ArchiveFiles) -> Sequence[ImageEntry]:
    """The images of a hybrid's manifest.json; none where it cannot be read, for the layout does without."""
    try:
        return parse_entries(await read_small(files, "manifest.json") or b"")
    except (ArchiveError, LimitExceeded):
        return ()


_REFUSALS = {
    ArchiveKind.ROOTFS: (
        "this is a root filesystem (docker export), not an image: use `docker save`, or extract it and make an image "
        "of the folder with `ocisync pack`"
    ),
    ArchiveKind.UNKNOWN: (
        "neither a docker-archive (no manifest.json) nor an oci-archive (no index.json): was it made by `docker save` "
        "or `skopeo copy … oci-archive:…`?"
    ),
}
