"""The identity of a docker-archive's content, found without reading its layers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial

from ocisync.content.decompress import MAGIC_LENGTH, detect_compression
from ocisync.content.files import FileSection
from ocisync.content.threads import run_file
from ocisync.stores.archive.archive_files import ArchiveFiles, read_small
from ocisync.stores.archive.docker_manifest import ImageEntry


async def identify_docker_archive(files: ArchiveFiles, entries: Sequence[ImageEntry]) -> str:
    """A digest of all that decides what becomes of an archive; empty where only all of its bytes tell.

    manifest.json and the configurations give every name and the diff ID of every layer, which a conversion proves.
    They do not give the bytes of layers that are compressed already, and archives from before docker 1.10 have neither.

    Raises:
        ArchiveError, LimitExceeded: as reading any of it does.
    """
    raw = await read_small(files, "manifest.json")
    if raw is None or files.is_compressed:
        return ""
    configs = [await read_small(files, entry.config) or b"" for entry in entries]
    layers = [files.find(name) for entry in entries for name in entry.layers]
    if not await run_file(partial(_are_plain, layers)):
        return ""
    parts = [hashlib.sha256(part).hexdigest() for part in (raw, *configs)]
    sizes = [str(layer.size) for layer in layers if layer]
    return "image:sha256:" + hashlib.sha256("\n".join([*parts, *sizes]).encode()).hexdigest()


def _are_plain(layers: Iterable[FileSection | None]) -> bool:
    return all(layer is not None and not detect_compression(layer.head(MAGIC_LENGTH)) for layer in layers)
