"""Archives as targets: a tar that appears under its name when it is whole, the same for the same content, compressed
as its name says.

What comes is spooled beside it in a file without a name, in any order and side by side; at the end it is put in the
order of the members' names, with times of zero.

Spec: image-spec v1.1, image-layout.md; moby's image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ocisync.content.files import FileSection, Spool
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.threads import make_region_opener, open_spool, run_file
from ocisync.content.verify import read_manifest, verify_stream
from ocisync.errors import ManifestError, NotFound, UnsupportedManifest
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, hex_of
from ocisync.model.manifest import Manifest, parse_manifest
from ocisync.stores.archive.atomic_file import real_path
from ocisync.stores.archive.index_json import INDEX_FILE, LAYOUT_FILE, blob_path
from ocisync.stores.archive.oci_layout import find_referrers
from ocisync.stores.archive.oci_layout_target import choose_opener, push_manifests
from ocisync.stores.archive.render import (
    LAYOUT,
    is_loadable,
    make_named_entry,
    make_referring_entry,
    render_docker_manifest,
    render_index,
)
from ocisync.stores.archive.streams import is_stream
from ocisync.stores.archive.tar_writer import Members, choose_compression, write_members

DOCKER_FILE = "manifest.json"


class ArchiveTarget:
    """A Target and Source over a tar that is being written; each blob goes in once.

    Copies push blobs in any order and side by side, but a tar that is the same for the same content needs one order.
    So blobs are spooled first, and the tar is written at the end from the spool, sorted by name. The spool has no name:
    a killed process leaves nothing behind.
    """

    tags_any_content = True

    def __init__(self, spool: Spool, where: str) -> None:
        self.where = where
        self._spool = spool
        self._regions: dict[Digest, FileSection] = {}
        self._manifests: dict[Digest, Descriptor] = {}
        self._tags: dict[str, Descriptor] = {}

    async def exists(self, desc: Descriptor) -> bool:
        """Whether the blob has been written."""
        region = self._regions.get(desc.digest)
        return region is not None and region.size == desc.size

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Take verified content; what turns out wrong is left out."""
        content = choose_opener(desc, opener)
        if await self.exists(desc):
            return
        region = FileSection(self._spool, self._spool.reserve(desc.size), desc.size)
        position = region.offset
        async with content(0) as stream:
            async for chunk in verify_stream(stream, desc):
                await run_file(partial(self._spool.write_at, position, chunk))
                position += len(chunk)
        self._regions[desc.digest] = region
        if desc.is_manifest:
            self._manifests[desc.digest] = Descriptor(desc.media_type, desc.digest, desc.size)

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream a blob that was written."""
        if desc.digest not in self._regions:
            raise NotFound(f"{self.where}: {desc.digest}: not in the archive that is being written")
        async with make_region_opener(self._regions[desc.digest])(start) as stream:
            yield stream

    async def tags(self) -> Sequence[str]:
        """Every name given so far."""
        return sorted(self._tags)

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of a name or of a manifest that was written."""
        found = self._tags.get(reference) or self._manifests.get(Digest(reference))
        if found is None:
            raise NotFound(f"{self.where}: {reference}: not in the archive that is being written")
        return found

    def can_resume_upload(self, size: int) -> bool:
        """Nothing is cut off on this machine."""
        del size
        return True

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Store the manifests and name them; the names are written when the archive is closed."""
        await push_manifests(self, tags.values())
        self._tags.update(tags)

    async def list_members(self) -> Members:
        """The archive's members by their names; nothing when no image was published."""
        raise NotImplementedError

    async def _find_images(self) -> dict[str, Manifest] | None:
        """The named images as docker can load them; None when one of them is something else."""
        found: dict[str, Manifest] = {}
        for name, desc in self._tags.items():
            manifest = await self._find_image(desc)
            if manifest is None:
                return None
            found[name] = manifest
        return found

    async def _find_image(self, desc: Descriptor) -> Manifest | None:
        """An image that docker can load, or an index's only one beside its attestations."""
        manifest = await self._read_manifest(desc)
        if manifest is not None and manifest.is_index:
            images = [child for child in manifest.children if not child.is_attestation]
            manifest = await self._read_manifest(images[0]) if len(images) == 1 else None
        if manifest is None or not is_loadable(manifest):
            return None
        return manifest if all(child.digest in self._regions for child in manifest.children) else None

    async def _read_manifest(self, desc: Descriptor) -> Manifest | None:
        if not desc.is_manifest:
            return None
        try:
            return parse_manifest(await read_manifest(self, desc), desc.media_type)
        except ManifestError:
            return None


class OciArchiveTarget(ArchiveTarget):
    """An oci-archive; with docker's manifest.json when all its images are for one platform each."""

    async def list_members(self) -> Members:
        """The blobs, and what leads to them."""
        found: dict[str, FileSection | bytes] = {blob_path(digest): region for digest, region in self._regions.items()}
        found |= {INDEX_FILE: render_index(await self._list_entries()), LAYOUT_FILE: LAYOUT}
        images = await self._find_images()
        if images is not None:
            found[DOCKER_FILE] = render_docker_manifest(images, _layout_path, _layout_path)
        return found

    async def _list_entries(self) -> list[Descriptor]:
        named = [make_named_entry(name, desc) for name, desc in sorted(self._tags.items())]
        found = await find_referrers(_WrittenFiles(self.where, self._regions), self._manifests.values())
        known = {entry.digest for entry in named}
        referrers = {desc.digest: desc for listed in found.values() for desc in listed if desc.digest not in known}
        return [*named, *(make_referring_entry(desc) for _, desc in sorted(referrers.items()))]


class DockerArchiveTarget(ArchiveTarget):
    """A docker-archive, as `docker load`, podman and skopeo read it: layers stay compressed as they are."""

    tags_any_content = False

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Name images.

        Raises:
            UnsupportedManifest: an index of several, or something else that docker cannot load.
        """
        await push_manifests(self, tags.values())
        for desc in tags.values():
            if await self._find_image(desc) is None:
                raise UnsupportedManifest(
                    f"{desc.digest}: a docker-archive holds images for one platform with ordinary layers: choose one "
                    "with --platform, or write an oci-archive"
                )
        await super().publish(tags)

    async def list_members(self) -> Members:
        """Configurations, layers and manifest.json."""
        images = await self._find_images() or {}
        found: dict[str, FileSection | bytes] = {DOCKER_FILE: render_docker_manifest(images, _config_path, _layer_path)}
        for manifest in images.values():
            config, *layers = manifest.children
            found[_config_path(config)] = self._regions[config.digest]
            found |= {_layer_path(layer): self._regions[layer.digest] for layer in layers}
        return found


@asynccontextmanager
async def open_oci_archive_target(file: Path) -> AsyncIterator[OciArchiveTarget]:
    """Write an oci-archive; the file appears, or is replaced, when the block ends well and something was published.

    Raises:
        DiskError: it cannot be written.
        ConfigError: its name's ending stands for a compression that is only read.
    """
    choose_compression(file.name)
    async with open_spool(await run_file(partial(_parent_folder, file))) as spool:
        target = OciArchiveTarget(spool, str(file))
        yield target
        await _write(target, file)


@asynccontextmanager
async def open_docker_archive_target(file: Path) -> AsyncIterator[DockerArchiveTarget]:
    """Write a docker-archive, as `open_oci_archive_target` does."""
    choose_compression(file.name)
    async with open_spool(await run_file(partial(_parent_folder, file))) as spool:
        target = DockerArchiveTarget(spool, str(file))
        yield target
        await _write(target, file)


async def _write(target: ArchiveTarget, file: Path) -> None:
    if await target.tags():
        await write_members(file, await target.list_members())


class _WrittenFiles:
    """What was written so far, as a layout's files."""

    def __init__(self, where: str, regions: Mapping[Digest, FileSection]) -> None:
        self.where = where
        self._by_path = {blob_path(digest): region for digest, region in regions.items()}

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[FileSection | None]:
        """Where a blob's content is."""
        yield self._by_path.get(name)

    async def check(self) -> None:
        """Nothing to look at."""


def _parent_folder(file: Path) -> Path:
    """Where the archive goes; the spool is there as well, so that the disk that is filled is the one asked for."""
    return Path(tempfile.gettempdir()) if is_stream(file) else real_path(file).parent


def _layout_path(desc: Descriptor) -> str:
    return blob_path(desc.digest)


def _config_path(desc: Descriptor) -> str:
    return f"{hex_of(desc.digest)}.json"


def _layer_path(desc: Descriptor) -> str:
    return f"{hex_of(desc.digest)}.tar"
