"""What the entries of a layout are when index.json does not say it: their manifests' types and subjects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ocisync.errors import ArchiveError, ManifestError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, digest_of
from ocisync.model.manifest import MAX_MANIFEST_SIZE, Manifest, may_be_manifest, parse_manifest, retype_entry
from ocisync.stores.archive.archive_files import MemberFiles, read_small
from ocisync.stores.archive.index_json import blob_path


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
