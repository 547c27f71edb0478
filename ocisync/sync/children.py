"""Entries of an index that are of unknown types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from ocisync.errors import ManifestError, UnsupportedManifest
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.manifest import Manifest, may_be_manifest

Read = Callable[[Descriptor], Awaitable[tuple[bytes, Manifest]]]


async def detect_media_type(entry: Descriptor, read: Read) -> Descriptor:
    """An index's entry with its real type: one of an unknown type is a manifest if it can be read as one, else a blob.

    Raises:
        UnsupportedManifest: docker's schema 1.
    """
    if not may_be_manifest(entry):
        return entry
    try:
        _, manifest = await read(entry)
    except UnsupportedManifest:
        if entry.media_type in media_types.SCHEMA_1_TYPES:
            raise
        return entry
    except ManifestError:
        return entry
    return replace(entry, media_type=manifest.media_type)
