"""The seam: what a source and a target must be able to do.

Everything is a copy from a `Source` to a `Target`, each of them *one repository*. Powers that only some stores have are
protocols of their own, found at run time with isinstance.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest

ByteStream = AsyncIterator[bytes]
"""Chunks of at most a few MiB, in order. The consumer closes the context manager it came from, also half-way."""

Opener = Callable[[], AbstractAsyncContextManager[ByteStream]]
"""Opens the same bytes from the start, as often as a retry needs them."""


@runtime_checkable
class Fetcher(Protocol):
    """Where content can be read from."""

    def open(self, desc: Descriptor) -> AbstractAsyncContextManager[ByteStream]:
        """Open content (manifest or blob) by its digest, from its first byte; a broken transfer is resumed inside.

        The stream is as the store has it: whoever makes it visible verifies it (`content.verify`).

        Raises:
            NotFound: the store does not have it.
        """
        ...


@runtime_checkable
class Seekable(Protocol):
    """An opener that can leave out what is not wanted again."""

    def __call__(self) -> AbstractAsyncContextManager[ByteStream]:
        """Open from the start."""
        ...

    def from_byte(self, start: int) -> AbstractAsyncContextManager[ByteStream]:
        """Open what follows the first `start` bytes."""
        ...


@runtime_checkable
class AdoptableFile(Protocol):
    """An opener of a whole file without a name, hashed as it was written, which nobody writes to any more."""

    def __call__(self) -> AbstractAsyncContextManager[ByteStream]:
        """Read it."""
        ...

    async def link(self, path: Path, digest: Digest, *, fsync: bool) -> bool:
        """Name the file, once, locked and its content on the disk by then; False where that cannot be done."""
        ...


@runtime_checkable
class RangeFetcher(Protocol):
    """A source that can begin in the middle of content."""

    def open_from(self, desc: Descriptor, start: int) -> AbstractAsyncContextManager[ByteStream]:
        """As `Fetcher.open`, without the first `start` bytes."""
        ...


@runtime_checkable
class Restarting(Protocol):
    """A target that must be sent all of a blob again when its upload was cut off."""

    def restarts(self, desc: Descriptor) -> bool:
        """Whether that is so for a blob like this."""
        ...


@runtime_checkable
class Resolver(Protocol):
    """Where a tag or digest can be looked up."""

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of a tag's or digest's manifest, without its body where the store can.

        Raises:
            NotFound: no such tag or digest.
        """
        ...


@runtime_checkable
class RemoteResolver(Resolver, Protocol):
    """Where each look-up costs a request, and whoever says why it is made may be answered at less cost."""

    async def revalidate(self, reference: str, known: Descriptor) -> Descriptor:
        """As `resolve`, for a tag that pointed at a known manifest when it was last seen."""
        ...

    async def resolve_with_manifest(self, reference: str) -> Descriptor:
        """As `resolve`, for a tag whose manifest is wanted: with its bytes, unless that would be counted as a pull."""
        ...


@runtime_checkable
class Source(Fetcher, Resolver, Protocol):
    """One repository to copy from."""

    async def tags(self) -> Sequence[str]:
        """Every tag, each once, in lexical order; empty when the repository is empty.

        Raises:
            NotFound: there is no such repository.
        """
        ...


@runtime_checkable
class BlobStore(Protocol):
    """Where content can be put under its digest."""

    async def exists(self, desc: Descriptor) -> bool:
        """Whether content of this digest *and size* is there (a probe: absent is False, not an error)."""
        ...

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store content under its digest, verified; nothing is visible before it is whole. Stored twice is harmless.

        `desc.is_manifest` tells manifests from blobs. `desc.data`, when given, are the bytes.

        Raises:
            DigestMismatch, SizeMismatch: the bytes are not desc; nothing became visible.
        """
        ...


@runtime_checkable
class Target(BlobStore, Resolver, Protocol):
    """One repository to copy to."""

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Point tags at manifests whose whole graph below them is stored; then bring the list of tags up to date.

        Each descriptor carries its bytes in `data`. The manifest itself is stored first where it is not yet.
        """
        ...


@runtime_checkable
class EmptinessProbe(Protocol):
    """A target that can tell cheaply whether a repository is new."""

    async def is_empty(self) -> bool:
        """Whether no tag is there, by one request."""
        ...


@runtime_checkable
class Mounter(Protocol):
    """A target that can take a blob from another repository of its own without the bytes being sent again."""

    async def mount(self, desc: Descriptor, from_repository: str) -> bool:
        """Whether the blob is now here; False means: push it."""
        ...


OUTDATED = "store.outdated"  # the code of a publication that came so late that its content must be looked at again


@runtime_checkable
class Refresher(Protocol):
    """A target from which content that no tag reaches is removed when it is old.

    Its `publish` raises a StoreError of the code OUTDATED when a root was staged more than `stale_after` ago.
    """

    @property
    def stale_after(self) -> float:
        """Seconds after which content must be made young again before it is relied on; infinite: never."""
        ...

    async def push_manifests(self, roots: Sequence[Descriptor]) -> None:
        """Store manifests, which carry their bytes, under their digests: young, they keep all that is below them."""
        ...

    async def touch(self, digest: Digest) -> bool:
        """Make content young again; False when it is not there any more."""
        ...


@runtime_checkable
class ManifestValidator(Protocol):
    """A target that may not take a manifest of which it lacks a part."""

    async def rejects_missing_blobs(self) -> bool:
        """Whether that was seen, so that a manifest that is there shows that all below it was there with it."""
        ...


@runtime_checkable
class Untagger(Protocol):
    """A target that can remove tags."""

    async def untag(self, tags: Sequence[str]) -> None:
        """Remove tags and nothing else: an image's other tags stay whole. Absent tags are no error."""
        ...


@runtime_checkable
class MissingImageRecorder(Protocol):
    """A target that keeps an index as it is when some of its images were left out on purpose, and knows which."""

    async def record_missing_images(self, index: Digest, omitted: Sequence[Digest]) -> None:
        """Remember which of an index's images were left out, in place of what was remembered before."""
        ...


@runtime_checkable
class Reconciler(Protocol):
    """A target that keeps things which follow from its tags, such as their list."""

    async def reconcile(self) -> None:
        """Bring them up to date; what is right is left alone."""
        ...


@dataclass(frozen=True, slots=True)
class RepositoryListing:
    """What a listing of a repository shows."""

    tags: Mapping[str, Digest | None]  # None: the tag is there, what it points at is not known from a listing
    sizes: Mapping[Digest, int] = field(default_factory=dict)  # bytes; every manifest and blob that the listing shows
    modified: Mapping[Digest, float] = field(default_factory=dict)  # seconds since the epoch, where the listing tells
    is_collected: bool = False  # a garbage collector is removing content: what is listed may go


@runtime_checkable
class Inventory(Protocol):
    """A target that can tell everything a repository holds at the cost of listings."""

    async def list_manifests(self) -> RepositoryListing:
        """Tags with what they point at, and every manifest's digest with its size; empty for an absent repository."""
        ...

    async def list_all(self, outline: RepositoryListing | None = None) -> RepositoryListing:
        """The blobs as well; what `outline` told just now is not asked again."""
        ...

    async def delete(self, digests: Sequence[Digest]) -> None:
        """Remove content; absent content is no error."""
        ...


class LayerSink(Protocol):
    """Takes the layers of an image that is being converted, as they become known."""

    async def lookup(self, diff_id: Digest) -> Descriptor | None:
        """A layer already in the target that holds this uncompressed content."""
        ...

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store one finished layer."""
        ...

    async def record(self, diff_id: Digest, desc: Descriptor) -> None:
        """Remember which layer holds this uncompressed content; called once it is in the target."""
        ...


@runtime_checkable
class Converter(Protocol):
    """A source whose digests are known only once its content has been converted (a docker-archive's layers)."""

    @property
    def variant(self) -> str:
        """Which conversion it is (format, compressor and level): layers are reused only among equal ones."""
        ...

    async def convert(self, reference: str, sink: LayerSink) -> Descriptor:
        """Convert an image, handing over each layer as soon as it is whole, and return the image's descriptor.

        Afterwards `open` knows the image's manifest and configuration, and its layers too (converted again if need be).
        """
        ...


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One stored object."""

    key: str
    size: int  # bytes
    etag: str = ""  # as the store gives it, quotes included
    modified: float = 0.0  # seconds since the epoch
    content_type: str = ""  # empty when the store did not say (listings do not)


@dataclass(frozen=True, slots=True)
class ObjectHeaders:
    """What is kept beside an object's bytes."""

    content_type: str
    cache_control: str = ""


class ObjectStore(Protocol):
    """Named bytes: what a static registry needs of S3 or of a directory. Keys have no leading slash."""

    async def head(self, key: str) -> ObjectInfo | None:
        """What is stored under a key, or None."""
        ...

    def open(
        self, key: str, *, start: int = 0, length: int | None = None
    ) -> AbstractAsyncContextManager[tuple[ObjectInfo, ByteStream]]:
        """Read an object, or `length` bytes of it from `start` on.

        Raises:
            NotFound: no such key.
        """
        ...

    async def put(
        self,
        key: str,
        opener: Opener,
        headers: ObjectHeaders,
        *,
        size: int,
        digest: Digest | None = None,
        if_match: str | None = None,
    ) -> ObjectInfo:
        """Write an object whole or not at all, verified against its size and, when given, its digest.

        `if_match`: an ETag, or "" for "only when absent"; None overwrites.

        Raises:
            DigestMismatch, SizeMismatch: other bytes came; nothing became visible.
            PreconditionFailed: `if_match` did not hold.
        """
        ...

    def list(self, prefix: str, *, start_after: str = "") -> AsyncIterator[ObjectInfo]:
        """Objects below a prefix, sorted by key (as bytes)."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; absent keys are no error."""
        ...


@runtime_checkable
class ServerSideCopy(Protocol):
    """An object store that can copy or link an object without the bytes passing through here."""

    async def copy(self, from_key: str, to_key: str, headers: ObjectHeaders, size: int) -> bool:
        """Whether `to_key` now holds the bytes of `from_key`, so many as were seen; False when there are none."""
        ...


@runtime_checkable
class Forgetful(Protocol):
    """An object store far away, of which an upload that was cut off leaves nothing to go on with."""

    def forgets(self, size: int) -> bool:
        """Whether that is so for an object of so many bytes."""
        ...


@runtime_checkable
class Toucher(Protocol):
    """An object store that can make an object as young as if it had been written now."""

    async def touch(self, key: str, headers: ObjectHeaders) -> bool:
        """Whether the object is there, and young."""
        ...


@runtime_checkable
class LocalFiles(Protocol):
    """An object store whose objects are files that a server may send without copying them through its memory."""

    def open_file(self, key: str) -> AbstractAsyncContextManager[tuple[ObjectInfo, BinaryIO]]:
        """Open an object as an unbuffered file of the operating system, for sendfile.

        Raises:
            NotFound: no such key.
        """
        ...


@runtime_checkable
class ReferrerLister(Protocol):
    """A source that knows which of its manifests refer to another."""

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """Manifests whose `subject` is this one, in the order of their digests; none for what is not there."""
        ...


@runtime_checkable
class ReferrerAdder(Protocol):
    """A target where a writer must see to it that what refers to a manifest can be found."""

    async def add_referrers(self, subject: Digest, referrers: Sequence[Descriptor]) -> None:
        """See that manifests, which are stored here, are told as what refers to another; it need not be here yet."""
        ...
