"""OCI layouts in directories as targets; others may read and write them meanwhile.

Spec: image-spec v1.1, image-layout.md.
"""

from __future__ import annotations

import fcntl
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

from anyio import CancelScope

from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Opener, Target
from ocisync.content.threads import make_region_opener, run_file
from ocisync.content.verify import check_bytes, verify_stream
from ocisync.errors import ArchiveError, DiskError, NotFound
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest
from ocisync.model.manifest import media_type_of
from ocisync.stores.archive.archive_files import FolderFiles, read_small
from ocisync.stores.archive.atomic_file import stage_file, write_file
from ocisync.stores.archive.index_json import (
    INDEX_FILE,
    REF_NAME,
    IndexEntry,
    blob_path,
    parse_index,
)
from ocisync.stores.archive.layout_lock import LOCK_FILE, LayoutLock, make_folder, open_lock
from ocisync.stores.archive.oci_layout import find_referrers
from ocisync.stores.archive.render import make_referring_entry, render_index, update_index


class LayoutTarget:
    """A Target, Source, Untagger and Reconciler over a layout directory; index.json is written last, under a lock.

    Blobs appear under their digests one by one, and whoever writes the same blob writes the same bytes, so they need no
    lock. index.json is the only file that writers share: it is read, changed and replaced while `.ocisync.lock` is
    held, so entries of other writers stay.
    """

    tags_any_content = True

    def __init__(self, root: Path) -> None:
        self.added: list[Path] = []  # the blobs that were not there before
        self._root = root
        self._files = FolderFiles(root)
        self._noted: dict[Digest, Descriptor] = {}  # manifests that index.json may have to list

    async def exists(self, desc: Descriptor) -> bool:
        """Whether a blob of this digest and size is there."""
        async with self._files.open(blob_path(desc.digest)) as region:
            found = region is not None and region.size == desc.size
        if found:
            self._note_manifest(desc)
        return found

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store verified content under its digest."""
        path = self._root / blob_path(desc.digest)
        await run_file(partial(make_folder, path.parent))
        async with stage_file(path) as staged, choose_opener(desc, opener)(0) as stream:
            async for chunk in verify_stream(stream, desc):
                await run_file(partial(staged.write, chunk))
            self.added.append(path)
            await run_file(staged.commit)
        self._note_manifest(desc)

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream a blob."""
        async with self._files.open(blob_path(desc.digest)) as region:
            if region is None:
                raise NotFound(f"{self._root}: {desc.digest}: not in the layout")
            async with make_region_opener(region)(start) as stream:
                yield stream

    async def tags(self) -> Sequence[str]:
        """Every name in index.json."""
        entries = await run_file(partial(_read_index, self._root))
        return sorted({entry.desc.annotations.get(REF_NAME) or entry.names[-1] for entry in entries if entry.names})

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

    def can_resume_upload(self, size: int) -> bool:
        """Nothing is cut off on this machine."""
        del size
        return True

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Store the manifests and point names at them; what refers to another manifest is listed without a name."""
        await push_manifests(self, tags.values())
        await self._write_index(tags)

    async def untag(self, tags: Sequence[str]) -> None:
        """Remove names from index.json; what they named stays in the layout."""
        await run_file(partial(_update_index, self._root, {}, (), frozenset(tags)))

    async def reconcile(self) -> None:
        """List what was stored since and refers to another manifest; it needs no name."""
        if self._noted:
            await self._write_index({})

    async def _write_index(self, tags: Mapping[str, Descriptor]) -> None:
        met, self._noted = self._noted, {}
        found = await find_referrers(self._files, met.values())
        referring = [make_referring_entry(one) for told in found.values() for one in told]
        await run_file(partial(_update_index, self._root, tags, referring))

    def _note_manifest(self, desc: Descriptor) -> None:
        if desc.is_manifest:
            self._noted[desc.digest] = Descriptor(desc.media_type, desc.digest, desc.size)


@asynccontextmanager
async def open_layout_target(directory: Path, *, is_cache: bool = False) -> AsyncIterator[LayoutTarget]:
    """Write to an OCI layout in a directory, which is made when it is missing, and added to when it is there.

    When nothing was published at the end, what was brought goes again; but a cache keeps it for the next time.

    Raises:
        DiskError: it cannot be written.
    """
    writing = await run_file(partial(LayoutLock, directory))
    target = LayoutTarget(directory)
    try:
        yield target
    finally:
        with CancelScope(shield=True):
            await run_file(partial(writing.close, None if is_cache else target.added))


async def push_manifests(target: Target, manifests: Iterable[Descriptor]) -> None:
    for desc in manifests:
        if not await target.exists(desc):
            await target.push(desc.with_data(desc.data or b""), BytesOpener(b""))


def choose_opener(desc: Descriptor, opener: Opener) -> Opener:
    """Where the bytes come from: the descriptor, when it carries them."""
    return opener if desc.data is None else BytesOpener(check_bytes(desc.data, desc))


def _read_index(root: Path) -> tuple[IndexEntry, ...]:
    return parse_index(_load_index(root))


def _load_index(root: Path) -> bytes:
    try:
        return (root / INDEX_FILE).read_bytes()
    except FileNotFoundError:
        return render_index(())
    except OSError as exc:
        raise DiskError(f"{root / INDEX_FILE}: cannot be read: {exc.strerror}", errno=exc.errno) from exc


def _update_index(
    root: Path, tags: Mapping[str, Descriptor], referring: Iterable[Descriptor], going: Collection[str] = ()
) -> None:
    with _hold_lock(root):
        try:
            made = update_index(_load_index(root), tags, referring, going)
        except ArchiveError as exc:
            raise exc.at(str(root)) from exc
        write_file(root / INDEX_FILE, made)


@contextmanager
def _hold_lock(root: Path) -> Iterator[None]:
    with open_lock(root / LOCK_FILE) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
