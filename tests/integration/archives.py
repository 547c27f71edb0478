"""What archive tests share: a sink that remembers, and tars of odd shapes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path

from ocisync.content.memory import MemoryRepository
from ocisync.content.repository import Opener
from ocisync.content.verify import read_manifest
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.manifest import parse_manifest
from ocisync.stores.archive.docker_archive import DockerArchiveSource
from ocisync.stores.archive.open_any import ArchiveSource

Entry = tuple[str, bytes | None, str]  # name, content or None for a symlink, the link's target


class Sink:
    """A LayerSink into memory; what it has learned it knows."""

    def __init__(self, repository: MemoryRepository | None = None) -> None:
        self.repository = repository or MemoryRepository()
        self.layers: dict[Digest, Descriptor] = {}
        self.pushed: list[Digest] = []

    async def lookup(self, diff_id: Digest) -> Descriptor | None:
        """What was learned."""
        return self.layers.get(diff_id)

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store, verified."""
        self.pushed.append(desc.digest)
        await self.repository.push(desc, opener)

    async def record(self, diff_id: Digest, desc: Descriptor) -> None:
        """Remember; the layer must be there already."""
        assert await self.repository.exists(desc)
        self.layers[diff_id] = desc


async def take(source: ArchiveSource, reference: str = "") -> MemoryRepository:
    """Copy one image whole, every byte verified."""
    sink = Sink()
    if isinstance(source, DockerArchiveSource):
        found = await source.convert(reference, sink)
    else:
        found = await source.resolve(reference)
    await _graph(source, found, sink.repository)
    sink.repository.tagged[reference] = Descriptor(found.media_type, found.digest, found.size)
    return sink.repository


def write_tar(path: Path, entries: Iterable[Entry]) -> Path:
    """A tar with files and links, duplicates and odd names included."""
    with tarfile.open(path, "w") as archive:
        for name, body, link in entries:
            info = tarfile.TarInfo(name)
            if body is None:
                info.type, info.linkname = tarfile.SYMTYPE, link
                archive.addfile(info)
            else:
                info.size = len(body)
                archive.addfile(info, io.BytesIO(body))
    return path


async def _graph(source: ArchiveSource, desc: Descriptor, into: MemoryRepository) -> None:
    if not desc.is_manifest:
        await into.push(desc, lambda start: source.open(desc, start))
        return
    raw = await read_manifest(source, desc)
    for child in parse_manifest(raw, desc.media_type).children:
        await _graph(source, child, into)
    await into.push(desc.with_data(raw), lambda start: source.open(desc, start))
