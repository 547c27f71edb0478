"""OCI layouts, in a directory or a tar, as sources: the digests are kept.

Spec: image-spec v1.1, image-layout.md and annotations.md ("org.opencontainers.image.ref.name").
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import structlog

from ocisync.content.decompress import Caps
from ocisync.content.files import FileGuard
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream
from ocisync.content.tar.index import TarLimits
from ocisync.content.threads import make_region_opener, run_file
from ocisync.errors import ArchiveError, Handling, InputError, LeftOut, ManifestError, NotFound, UnsupportedManifest
from ocisync.model import media_types
from ocisync.model.built_index import build_index
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, digest_of, is_digest
from ocisync.model.manifest import (
    MAX_MANIFEST_SIZE,
    Manifest,
    may_be_manifest,
    media_type_of,
    parse_json,
    parse_json_object,
    parse_manifest,
    retype_entry,
)
from ocisync.model.platform import Platform, is_same_platform, normalize, platform_from_json
from ocisync.stores.archive.archive_files import FolderFiles, MemberFiles, is_folder, open_archive_files, read_small
from ocisync.stores.archive.index_json import (
    CONTAINERD_NAME,
    INDEX_FILE,
    LAYOUT_FILE,
    REF_NAME,
    VERSION,
    IndexEntry,
    adopt_repo_tags,
    blob_path,
    find_entries,
    parse_index,
    pick_entry,
)
from ocisync.stores.archive.names import best_name, is_publishable

log = structlog.get_logger(__name__)


class LayoutSource:
    """A Source that knows referrers.

    Its references are the names that index.json gives, digests, `@N` for its N-th entry, or empty for the only image.
    Entries of one name, or without any, that are for different platforms are one image (image-layout.md, "index.json
    file"); the index above them is made here.

    An archive may name images that it does not hold: docker's containerd store, `ctr export` and kind save the whole
    index with the blobs of the platforms that they have. Opening the manifest of such an image raises LeftOut, and the
    copy leaves it out. That a blob is missing of the only image, or of one that must be there, is damage.
    """

    brings_referrers = True  # a copy takes them along unasked: they are part of the layout

    def __init__(self, files: MemberFiles, entries: Iterable[IndexEntry], required: Sequence[Platform] = ()) -> None:
        self._files = files
        self._entries = tuple(entries)
        self._required = required  # platforms whose images must be there where an index names them
        self._roots = {entry.desc.digest for entry in self._entries}
        self._built: dict[Digest, Descriptor] = {}  # indexes over entries, with their bytes
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
        desc = await self._build_index(reference)
        if desc is None:
            entries = self._entries if reference else await self._list_images()
            desc = await detect_type(self._files, pick_entry(entries, reference, self._files.where).desc)
        await self._files.check()
        return desc

    async def _build_index(self, reference: str) -> Descriptor | None:
        """An index of the entries that a reference means, when these are one image's platforms."""
        found = find_entries(self._entries if reference else await self._list_images(), reference)
        entries = {entry.desc.digest: entry for entry in found}
        if len(entries) < 2 or len({best_name(entry.names) for entry in found}) > 1:
            return None
        children = [await self._with_platform(entry.desc) for entry in entries.values()]
        images = [normalize(child.platform) for child in children if child.platform and not child.is_attestation]
        if any(child.platform is None or not child.is_manifest for child in children) or len(set(images)) < len(images):
            return None
        index = build_index(children)
        self._built[index.digest] = index
        return index

    async def _with_platform(self, desc: Descriptor) -> Descriptor:
        """An image's descriptor with its platform, from its configuration where the entry does not say it."""
        desc = await detect_type(self._files, desc)
        platform = desc.platform
        if platform is None and (manifest := await load_manifest(self._files, desc)) and manifest.config:
            try:
                platform = platform_from_json(parse_json(await self._read_blob(manifest.config.digest)))
            except ManifestError:
                platform = None
        names = (REF_NAME, CONTAINERD_NAME)  # of the whole, not of the part
        annotations = {key: text for key, text in desc.annotations.items() if key not in names}
        return replace(desc, platform=platform, annotations=annotations)

    async def _read_blob(self, digest: Digest) -> bytes:
        return await read_small(self._files, blob_path(digest)) or b""

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """The entries whose subject is this manifest; all of them are looked at once."""
        return (await self._find_referrers()).get(digest, ())

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream a blob; its size and digest are for the consumer to verify.

        Raises:
            NotFound: the layout lacks it; quarantined, for it will not appear by itself.
        """
        if built := self._built.get(desc.digest):
            async with BytesOpener(built.data or b"")(start) as stream:
                yield stream
            return
        if desc.is_manifest and desc.digest not in self._roots:
            await self._check_saved(desc)
        async with self._files.open(blob_path(desc.digest)) as region:
            if region is None:
                raise self._missing(desc)
            async with make_region_opener(region)(start) as stream:
                yield stream

    async def _check_saved(self, desc: Descriptor) -> None:
        """Raise LeftOut when an index's image was not saved, or not with all of its blobs."""
        absent = await self._find_absent(desc)
        if absent is None:
            return
        if desc.platform and any(is_same_platform(desc.platform, platform) for platform in self._required):
            raise self._missing(absent)
        what = f"the image for {desc.platform}" if desc.platform else desc.digest
        raise LeftOut(
            f"{self._files.where}: {what} was not saved with the others: {absent.digest} is not in the layout",
            attestation=desc.is_attestation,  # nobody misses one whose image is missing
        )

    async def _find_absent(self, desc: Descriptor) -> Descriptor | None:
        """What an image lacks: its manifest, or the first of its blobs."""
        async with self._files.open(blob_path(desc.digest)) as region:
            if region is None:
                return desc
        manifest = await load_manifest(self._files, desc)
        if manifest is None or manifest.is_index:  # an inner index is looked at image by image
            return None
        for child in manifest.children:
            async with self._files.open(blob_path(child.digest)) as region:
                if region is None and not child.is_elsewhere:
                    return child
        return None

    def _missing(self, desc: Descriptor) -> NotFound:
        return NotFound(
            f"{self._files.where}: {desc.digest} is named but not in the layout: write it again",
            handling=Handling.QUARANTINE,
        )

    async def _list_images(self) -> Sequence[IndexEntry]:
        """The entries that do not refer to another."""
        referring = {desc.digest for found in (await self._find_referrers()).values() for desc in found}
        return [entry for entry in self._entries if entry.desc.digest not in referring or entry.names]

    async def _find_referrers(self) -> Mapping[Digest, Sequence[Descriptor]]:
        if self._referrers is None:
            self._referrers = await find_referrers(self._files, (entry.desc for entry in self._entries))
        return self._referrers

    async def _resolve_digest(self, digest: Digest) -> Descriptor:
        if digest in self._built:
            return self._built[digest]
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
    path: Path,
    *,
    scratch: Path,
    caps: Caps | None = None,
    limits: TarLimits | None = None,
    required: Sequence[Platform] = (),
) -> AsyncIterator[LayoutSource]:
    """Read a tar of an OCI layout, also compressed as a whole; `scratch` holds temporary files.

    Raises:
        ArchiveError: it is no layout, or corrupt.
    """
    async with open_archive_files(path, scratch, caps, limits) as files:
        yield await read_layout(files, required=required)


@asynccontextmanager
async def open_oci_layout(
    directory: Path, required: Sequence[Platform] = (), guard: FileGuard | None = None
) -> AsyncIterator[LayoutSource]:
    """Read an OCI layout in a directory.

    Raises:
        ArchiveError: it is no layout.
        InputError: there is no such folder.
    """
    if not await run_file(partial(is_folder, directory, guard)):
        raise InputError(f"{directory}: not a folder; an OCI layout in a file is an oci-archive")
    yield await read_layout(FolderFiles(directory, guard), required=required)


async def read_layout(
    files: MemberFiles, repo_tags: Iterable[str] = (), required: Sequence[Platform] = ()
) -> LayoutSource:
    """The source of a layout that is open already; raises as `open_oci_archive` does.

    `repo_tags`: the names in docker's manifest.json beside it. `required`: as LayoutSource has it.
    """
    index = await read_small(files, INDEX_FILE)
    if index is None:
        raise ArchiveError(f"{files.where}: no index.json: this is not an OCI layout")
    version = await read_version(files)
    if version != VERSION:
        log.warning("layout.version_unknown", path=files.where, version=version, known=VERSION)
    try:
        return LayoutSource(files, adopt_repo_tags(parse_index(index), repo_tags), required)
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


async def detect_type(files: MemberFiles, desc: Descriptor) -> Descriptor:
    """The same entry with the type that its content has; one of an unknown type that is no manifest stays a blob.

    Raises:
        UnsupportedManifest: docker's schema 1.
    """
    if not may_be_manifest(desc) or desc.media_type in media_types.SCHEMA_1_TYPES:
        return desc
    return retype_entry(desc, await read_small(files, blob_path(desc.digest)) or b"")


async def find_referrers(files: MemberFiles, entries: Iterable[Descriptor]) -> Mapping[Digest, Sequence[Descriptor]]:
    """What refers to what: a manifest's digest -> those whose `subject` it is, in the order of their digests."""
    found: dict[Digest, dict[Digest, Descriptor]] = {}
    for entry in entries:
        manifest = await load_manifest(files, entry)
        if manifest is None or manifest.subject is None:
            continue
        kind = manifest.artifact_type or (manifest.config.media_type if manifest.config else None)
        told = replace(
            entry,
            media_type=manifest.media_type,
            artifact_type=entry.artifact_type or kind,
            annotations=dict(manifest.annotations or {}),
        )
        found.setdefault(manifest.subject.digest, {})[entry.digest] = told
    return {subject: [told for _, told in sorted(by_digest.items())] for subject, by_digest in found.items()}


async def load_manifest(files: MemberFiles, entry: Descriptor) -> Manifest | None:
    """The manifest of an entry; None for blobs, and for what is missing, damaged or no manifest."""
    if entry.size > MAX_MANIFEST_SIZE:
        return None
    raw = await read_small(files, blob_path(entry.digest))
    if raw is None or len(raw) != entry.size or digest_of(raw, entry.digest) != entry.digest:
        return None
    try:
        return parse_manifest(raw, entry.media_type)
    except (ManifestError, ArchiveError):
        return None
