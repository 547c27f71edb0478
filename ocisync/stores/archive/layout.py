"""OCI layouts, in a directory or a tar, as sources: the digests are kept.

Spec: image-spec v1.1, image-layout.md and annotations.md ("org.opencontainers.image.ref.name").
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from ocisync.content.decompress import Caps
from ocisync.content.protocols import ByteStream
from ocisync.content.tar_index import TarLimits
from ocisync.content.threads import region_opener, run_file
from ocisync.errors import ArchiveError, Handling, InputError, InvalidName, ManifestError, NotFound, UnsupportedManifest
from ocisync.spec.descriptor import Descriptor, descriptor_from_json
from ocisync.spec.digest import Digest, algorithm, hex_of, is_digest
from ocisync.spec.manifest import media_type_of, parse_json_object
from ocisync.spec.reference import parse_image_name
from ocisync.stores.archive.files import Files, FolderFiles, open_archive_files, read_small

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
VERSION = "1.0.0"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One manifest that index.json lists."""

    desc: Descriptor

    @property
    def names(self) -> tuple[str, ...]:
        """Every name it has: the full one first where a builder wrote one."""
        found = (self.desc.annotations.get(CONTAINERD_NAME), self.desc.annotations.get(REF_NAME))
        return tuple(dict.fromkeys(name for name in found if name))


def blob_path(digest: Digest) -> str:
    """Where a layout keeps content."""
    return f"blobs/{algorithm(digest)}/{hex_of(digest)}"


def parse_index(raw: bytes) -> tuple[Entry, ...]:
    """The entries of index.json; `manifests: null`, as some builders write it, is an empty list.

    Raises:
        ArchiveError: it is not an index.
    """
    try:
        manifests = parse_json_object(raw).get("manifests") or []
        if isinstance(manifests, list):
            return tuple(Entry(descriptor_from_json(item)) for item in manifests)
    except (ManifestError, InvalidName) as exc:
        raise ArchiveError(f"index.json: {exc.message}") from exc
    raise ArchiveError("index.json: `manifests` is not a list")


class LayoutSource:
    """A Source. Its references are the names that index.json gives, digests, or empty for the only image."""

    def __init__(self, files: Files, entries: Iterable[Entry]) -> None:
        self._files = files
        self._entries = tuple(entries)

    def references(self) -> tuple[tuple[str, ...], ...]:
        """The names of each entry, in the order of index.json; referrers and the like have none."""
        return tuple(entry.names for entry in self._entries)

    async def tags(self) -> Sequence[str]:
        """The name of every entry that has one, the full one where it has two, as `resolve` takes it."""
        return sorted({entry.names[0] for entry in self._entries if entry.names})

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor that index.json, or for other digests the blob, gives.

        Raises:
            InputError: no such name, or several images and no name (`name.missing`).
            NotFound: no such digest.
        """
        if is_digest(reference):
            return await self._by_digest(Digest(reference))
        desc = pick_entry(self._entries, reference, self._files.where).desc
        await self._files.check()
        return desc

    @asynccontextmanager
    async def open(self, desc: Descriptor) -> AsyncIterator[ByteStream]:
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
            async with region_opener(region)() as stream:
                yield stream

    async def _by_digest(self, digest: Digest) -> Descriptor:
        for entry in self._entries:
            if entry.desc.digest == digest:
                return entry.desc
        raw = await read_small(self._files, blob_path(digest))
        if raw is None:
            raise NotFound(f"{self._files.where}: {digest}: not in the layout")
        try:
            return Descriptor(media_type_of(raw), digest, len(raw))
        except UnsupportedManifest:
            raise
        except ManifestError as exc:
            raise NotFound(f"{self._files.where}: {digest} is in the layout, but is not a manifest") from exc


def pick_entry(entries: Sequence[Entry], reference: str, where: str) -> Entry:
    """The entry that a reference means; an exact name wins over the same image written otherwise.

    Raises:
        InputError: none, or several with different digests (`name.missing`).
    """
    if reference:
        exact = [entry for entry in entries if reference in entry.names]
        found = exact or [entry for entry in entries if any(_means(name, reference) for name in entry.names)]
    else:
        found = [entry for entry in entries if entry.names] or list(entries)
    if len({entry.desc.digest for entry in found}) == 1:
        return found[0]
    names = ", ".join(name for entry in entries for name in entry.names)[:500] or "none has a name"
    wanted = f"{len(found)} images are" if found else "no image is"
    raise InputError(
        f"{where}: {wanted} called {reference[:200]!r} in the layout; choose one of: {names}"
        if reference
        else f"{where}: the layout holds {len(entries)} images; choose one of: {names}",
        code="name.missing",
    )


@asynccontextmanager
async def open_oci_archive(
    path: Path, *, scratch: Path, caps: Caps | None = None, limits: TarLimits | None = None
) -> AsyncIterator[LayoutSource]:
    """Read a tar of an OCI layout, also compressed as a whole; `scratch` holds temporary files.

    Raises:
        ArchiveError: it is no layout, or corrupt.
    """
    async with open_archive_files(path, scratch, caps, limits) as files:
        yield await layout_source(files)


@asynccontextmanager
async def open_oci_layout(directory: Path) -> AsyncIterator[LayoutSource]:
    """Read an OCI layout in a directory.

    Raises:
        ArchiveError: it is no layout.
        InputError: there is no such directory.
    """
    if not await run_file(partial(Path.is_dir, directory)):
        raise InputError(f"{directory}: no such directory")
    yield await layout_source(FolderFiles(directory))


async def layout_source(files: Files) -> LayoutSource:
    """The source of a layout that is open already; raises as `open_oci_archive` does."""
    index = await read_small(files, INDEX_FILE)
    if index is None:
        raise ArchiveError(f"{files.where}: no index.json: this is not an OCI layout")
    version = await layout_version(files)
    if version != VERSION:
        log.warning("layout.version_unknown", path=files.where, version=version, known=VERSION)
    try:
        return LayoutSource(files, parse_index(index))
    except ArchiveError as exc:
        raise ArchiveError(f"{files.where}: {exc.message}") from exc


async def layout_version(files: Files) -> str:
    """What the oci-layout file says; empty when it is missing or says nothing."""
    raw = await read_small(files, LAYOUT_FILE)
    try:
        document: Mapping[str, object] = parse_json_object(raw or b"{}")
    except ManifestError:
        return ""
    return str(document.get("imageLayoutVersion", ""))[:40]


def _means(name: str, reference: str) -> bool:
    """Whether a name in the layout and a reference are two spellings: a full name, or only its tag."""
    if name.rpartition(":")[2] == reference and "/" not in reference:
        return True
    try:
        one, other = parse_image_name(name), parse_image_name(reference)
    except InvalidName:
        return False
    return (one.host, one.repository, one.reference) == (other.host, other.repository, other.reference)
