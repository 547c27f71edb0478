"""OCI layouts as targets: a directory that others may read and write meanwhile, or a tar that appears when it is whole.

Both can be read back while they are written.

Spec: image-spec v1.1, image-layout.md.
"""

from __future__ import annotations

import fcntl
import json
import tarfile
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio

from ocisync.content.files import Region
from ocisync.content.memory import bytes_opener
from ocisync.content.protocols import BlobStore, ByteStream, Opener
from ocisync.content.threads import region_opener, run_file
from ocisync.content.verify import checked_bytes, verified
from ocisync.errors import DiskError, NotFound
from ocisync.spec import media_types
from ocisync.spec.descriptor import Descriptor, descriptor_to_json
from ocisync.spec.digest import Digest, is_digest
from ocisync.spec.manifest import media_type_of
from ocisync.stores.archive.files import FolderFiles, read_small
from ocisync.stores.archive.layout_index import (
    INDEX_FILE,
    LAYOUT_FILE,
    REF_NAME,
    VERSION,
    Entry,
    blob_path,
    parse_index,
)
from ocisync.stores.archive.staged import StagedFile, write_file

_LAYOUT = json.dumps({"imageLayoutVersion": VERSION}).encode()
_LOCK_FILE = ".ocisync.lock"


class LayoutTarget:
    """A Target and Source over a layout directory; index.json is written last, under a lock."""

    names_blobs = True  # index.json may name any content, not only manifests

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files = FolderFiles(root)

    async def exists(self, desc: Descriptor) -> bool:
        """Whether a blob of this digest and size is there."""
        async with self._files.open(blob_path(desc.digest)) as region:
            return region is not None and region.size == desc.size

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store verified content under its digest."""
        path = self._root / blob_path(desc.digest)
        await run_file(partial(_make_folder, path.parent))
        async with _staged(path) as staged, _content(desc, opener)() as stream:
            async for chunk in verified(stream, desc):
                await run_file(partial(staged.write, chunk))
            await run_file(staged.commit)

    @asynccontextmanager
    async def open(self, desc: Descriptor) -> AsyncIterator[ByteStream]:
        """Stream a blob."""
        async with self._files.open(blob_path(desc.digest)) as region:
            if region is None:
                raise NotFound(f"{self._root}: {desc.digest}: not in the layout")
            async with region_opener(region)() as stream:
                yield stream

    async def tags(self) -> Sequence[str]:
        """Every name in index.json."""
        entries = await run_file(partial(_read_index, self._root))
        return sorted({entry.names[0] for entry in entries if entry.names})

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of a name in index.json, or of a manifest by its digest."""
        entries = await run_file(partial(_read_index, self._root))
        for entry in entries:
            if reference in (*entry.names, entry.desc.digest):
                return entry.desc
        raw = await read_small(self._files, blob_path(Digest(reference))) if is_digest(reference) else None
        if raw is None:
            raise NotFound(f"{self._root}: {reference}: not in the layout")
        return Descriptor(media_type_of(raw), Digest(reference), len(raw))

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Store the manifests and point names at them."""
        await _push_manifests(self, tags.values())
        await run_file(partial(_update_index, self._root, tags))


class OciArchiveTarget:
    """A Target and Source over a tar that is being written; blobs go in one after the other, each once."""

    names_blobs = True

    def __init__(self, staged: StagedFile) -> None:
        self._staged = staged
        self._writing = anyio.Lock()
        self._regions: dict[Digest, Region] = {}
        self._manifests: dict[Digest, Descriptor] = {}
        self._tags: dict[str, Descriptor] = {}

    async def exists(self, desc: Descriptor) -> bool:
        """Whether the blob has been written."""
        region = self._regions.get(desc.digest)
        return region is not None and region.size == desc.size

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Append verified content; what turns out wrong is cut off again."""
        content = _content(desc, opener)
        async with self._writing:
            if await self.exists(desc):
                return
            start = self._staged.size
            try:
                region = await self._append(desc, content)
            except BaseException:
                with anyio.CancelScope(shield=True):
                    await run_file(partial(self._staged.cut, start))
                raise
            self._regions[desc.digest] = region
        if desc.is_manifest:
            self._manifests[desc.digest] = desc

    @asynccontextmanager
    async def open(self, desc: Descriptor) -> AsyncIterator[ByteStream]:
        """Stream a blob that was written."""
        if desc.digest not in self._regions:
            raise NotFound(f"{desc.digest}: not in the archive that is being written")
        async with region_opener(self._regions[desc.digest])() as stream:
            yield stream

    async def tags(self) -> Sequence[str]:
        """Every name given so far."""
        return sorted(self._tags)

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of a name or of a manifest that was written."""
        found = self._tags.get(reference) or self._manifests.get(Digest(reference))
        if found is None:
            raise NotFound(f"{reference}: not in the archive that is being written")
        return found

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Store the manifests and name them; the names are written when the archive is closed."""
        await _push_manifests(self, tags.values())
        self._tags.update(tags)

    async def finish(self) -> None:
        """Write what leads to the blobs, and give the archive its name."""
        index = _render_index(_named(tag, desc) for tag, desc in sorted(self._tags.items()))
        for name, data in ((INDEX_FILE, index), (LAYOUT_FILE, _LAYOUT)):
            await run_file(partial(self._staged.write, _header(name, len(data)) + data + _padding(len(data))))
        await run_file(partial(self._staged.write, bytes(2 * tarfile.BLOCKSIZE)))
        await run_file(self._staged.commit)

    async def _append(self, desc: Descriptor, opener: Opener) -> Region:
        await run_file(partial(self._staged.write, _header(blob_path(desc.digest), desc.size)))
        region = Region(self._staged, self._staged.size, desc.size)
        async with opener() as stream:
            async for chunk in verified(stream, desc):
                await run_file(partial(self._staged.write, chunk))
        await run_file(partial(self._staged.write, _padding(desc.size)))
        return region


@asynccontextmanager
async def open_layout_target(directory: Path) -> AsyncIterator[LayoutTarget]:
    """Write to an OCI layout in a directory, which is made when it is missing, and added to when it is there.

    Raises:
        DiskError: it cannot be written.
    """
    await run_file(partial(_make_layout, directory))
    yield LayoutTarget(directory)


@asynccontextmanager
async def open_oci_archive_target(file: Path) -> AsyncIterator[OciArchiveTarget]:
    """Write an oci-archive; the file appears, or is replaced, when the block ends without an error.

    Raises:
        DiskError: it cannot be written.
    """
    async with _staged(file) as staged:
        target = OciArchiveTarget(staged)
        yield target
        await target.finish()


async def _push_manifests(target: BlobStore, manifests: Iterable[Descriptor]) -> None:
    for desc in manifests:
        if not await target.exists(desc):
            await target.push(desc.with_data(desc.data or b""), bytes_opener(b""))


def _content(desc: Descriptor, opener: Opener) -> Opener:
    """Where the bytes come from: the descriptor, when it carries them."""
    return opener if desc.data is None else bytes_opener(checked_bytes(desc.data, desc))


@asynccontextmanager
async def _staged(path: Path) -> AsyncIterator[StagedFile]:
    staged = await run_file(partial(StagedFile, path))
    try:
        yield staged
    finally:
        with anyio.CancelScope(shield=True):
            await run_file(staged.close)


def _make_layout(root: Path) -> None:
    _make_folder(root / "blobs" / "sha256")
    if not (root / LAYOUT_FILE).is_file():
        write_file(root / LAYOUT_FILE, _LAYOUT)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise DiskError(f"{folder}: cannot be made: {exc.strerror}", errno=exc.errno) from exc


def _read_index(root: Path) -> tuple[Entry, ...]:
    try:
        return parse_index((root / INDEX_FILE).read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as exc:
        raise DiskError(f"{root / INDEX_FILE}: cannot be read: {exc.strerror}", errno=exc.errno) from exc


def _update_index(root: Path, tags: Mapping[str, Descriptor]) -> None:
    with _locked(root):
        kept = [entry.desc for entry in _read_index(root) if entry.desc.annotations.get(REF_NAME) not in tags]
        write_file(
            root / INDEX_FILE, _render_index([*kept, *(_named(tag, desc) for tag, desc in sorted(tags.items()))])
        )


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    try:
        lock = (root / _LOCK_FILE).open("a")
    except OSError as exc:
        raise DiskError(f"{root / _LOCK_FILE}: cannot be opened: {exc.strerror}", errno=exc.errno) from exc
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _named(tag: str, desc: Descriptor) -> Descriptor:
    return replace(desc, annotations={**desc.annotations, REF_NAME: tag})


def _render_index(entries: Iterable[Descriptor]) -> bytes:
    listed = [descriptor_to_json(entry) for entry in entries]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": listed}
    return json.dumps(document, separators=(",", ":")).encode()


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)  # time 0, mode 0644; a pax size only from 8 GiB on


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
