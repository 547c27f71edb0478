"""OCI layouts, in a directory or a tar, as sources: the digests are kept.

Spec: image-spec v1.1, image-layout.md and annotations.md ("org.opencontainers.image.ref.name").
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import structlog

from ocisync.content.decompress import Caps
from ocisync.content.repository import ByteStream
from ocisync.content.tar.index import TarLimits
from ocisync.content.threads import region_opener, run_file
from ocisync.errors import ArchiveError, Handling, InputError, ManifestError, NotFound, UnsupportedManifest
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest
from ocisync.model.manifest import media_type_of, parse_json_object
from ocisync.stores.archive.archive_files import FolderFiles, MemberFiles, is_folder, open_archive_files, read_small
from ocisync.stores.archive.index_json import (
    INDEX_FILE,
    LAYOUT_FILE,
    VERSION,
    IndexEntry,
    adopt_repo_tags,
    blob_path,
    parse_index,
    pick_entry,
)
from ocisync.stores.archive.layout_types import detect_type, find_referrers, load_manifest
from ocisync.stores.archive.names import best_name, is_publishable

log = structlog.get_logger(__name__)


class LayoutSource:
    """A Source that knows referrers.

    Its references are the names that index.json gives, digests, or empty for the only image.
    """

    brings_referrers = True  # a copy takes them along unasked: they are part of the layout

    def __init__(self, files: MemberFiles, entries: Iterable[IndexEntry]) -> None:
        self._files = files
        self._entries = tuple(entries)
        self._referrers: Mapping[Digest, Sequence[Descriptor]] | None = None  # None: not looked for yet

    def references(self) -> tuple[tuple[str, ...], ...]:
        """The names of each entry, in the order of index.json; referrers and the like have none."""
        return tuple(entry.names for entry in self._entries)

    async def tags(self) -> Sequence[str]:
        """The name of every entry that has one, the full one where it has two, as `resolve` takes it."""
        return sorted({best_name(entry.names) for entry in self._entries if entry.names})

    async def unnamed(self) -> Sequence[str]:
        """`@N` for each image without a name that can be published, when others have one.

        What a named index lists, and what refers to another manifest, needs no name of its own.
        """
        named = {entry.desc.digest for entry in self._entries if any(map(is_publishable, entry.names))}
        rest = [number for number, entry in enumerate(self._entries) if entry.desc.digest not in named]
        if not named or not rest:
            return []
        known = {desc.digest for found in (await self._find_referrers()).values() for desc in found}
        for entry in self._entries:
            if entry.desc.digest in named and (manifest := await load_manifest(self._files, entry.desc)):
                known.update(child.digest for child in manifest.children)
        return [f"@{number}" for number in rest if self._entries[number].desc.digest not in known]

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor that index.json, or for other digests the blob, gives.

        Raises:
            InputError: no such name, or several images and no name (`name.missing`).
            NotFound: no such digest.
        """
        if is_digest(reference):
            return await self._resolve_digest(Digest(reference))
        entries = self._entries if reference else await self._list_images()
        desc = await detect_type(self._files, pick_entry(entries, reference, self._files.where).desc)
        await self._files.check()
        return desc

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """The entries whose subject is this manifest; all of them are looked at once."""
        return (await self._find_referrers()).get(digest, ())

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream a blob; its size and digest are for the consumer to verify.

        Raises:
            NotFound: the layout lacks it; quarantined, for it will not appear by itself.
        """
        async with self._files.open(blob_path(desc.digest)) as region:
            if region is None:
                raise NotFound(
                    f"{self._files.where}: {desc.digest} is named but not in the layout: write it again",
                    handling=Handling.QUARANTINE,
                )
            async with region_opener(region)(start) as stream:
                yield stream

    async def _list_images(self) -> Sequence[IndexEntry]:
        """The entries that do not refer to another."""
        referring = {desc.digest for found in (await self._find_referrers()).values() for desc in found}
        return [entry for entry in self._entries if entry.desc.digest not in referring or entry.names]

    async def _find_referrers(self) -> Mapping[Digest, Sequence[Descriptor]]:
        if self._referrers is None:
            self._referrers = await find_referrers(self._files, (entry.desc for entry in self._entries))
        return self._referrers

    async def _resolve_digest(self, digest: Digest) -> Descriptor:
        for entry in self._entries:
            if entry.desc.digest == digest:
                return await detect_type(self._files, entry.desc)
        raw = await read_small(self._files, blob_path(digest))
        if raw is None:
            raise NotFound(f"{self._files.where}: {digest}: not in the layout")
        try:
            return Descriptor(media_type_of(raw), digest, len(raw))
        except UnsupportedManifest:
            raise
        except ManifestError as exc:
            raise NotFound(f"{self._files.where}: {digest} is in the layout, but is not a manifest") from exc


@asynccontextmanager
async def open_oci_archive(
    path: Path, *, scratch: Path, caps: Caps | None = None, limits: TarLimits | None = None
) -> AsyncIterator[LayoutSource]:
    """Read a tar of an OCI layout, also compressed as a whole; `scratch` holds temporary files.

    Raises:
        ArchiveError: it is no layout, or corrupt.
    """
    async with open_archive_files(path, scratch, caps, limits) as files:
        yield await read_layout(files)


@asynccontextmanager
async def open_oci_layout(directory: Path) -> AsyncIterator[LayoutSource]:
    """Read an OCI layout in a directory.

    Raises:
        ArchiveError: it is no layout.
        InputError: there is no such folder.
    """
    if not await run_file(partial(is_folder, directory)):
        raise InputError(f"{directory}: not a folder; an OCI layout in a file is an oci-archive")
    yield await read_layout(FolderFiles(directory))


async def read_layout(files: MemberFiles, repo_tags: Iterable[str] = ()) -> LayoutSource:
    """The source of a layout that is open already; raises as `open_oci_archive` does.

    `repo_tags`: the names in docker's manifest.json beside it.
    """
    index = await read_small(files, INDEX_FILE)
    if index is None:
        raise ArchiveError(f"{files.where}: no index.json: this is not an OCI layout")
    version = await read_version(files)
    if version != VERSION:
        log.warning("layout.version_unknown", path=files.where, version=version, known=VERSION)
    try:
        return LayoutSource(files, adopt_repo_tags(parse_index(index), repo_tags))
    except ArchiveError as exc:
        raise ArchiveError(f"{files.where}: {exc.message}") from exc


async def read_version(files: MemberFiles) -> str:
    """What the oci-layout file says; empty when it is missing or says nothing."""
    raw = await read_small(files, LAYOUT_FILE)
    try:
        document: Mapping[str, object] = parse_json_object(raw or b"{}")
    except ManifestError:
        return ""
    return str(document.get("imageLayoutVersion", ""))[:40]
