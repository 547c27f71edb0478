"""The seam below a static registry: named objects, in a bucket or in a directory.

A static registry is keys and bytes (`stores.static.layout`), so all that it needs of its storage is here. A new kind of
storage implements `ObjectStore` and passes tests/contract/object_store_contract.py.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, Protocol, runtime_checkable

from ocisync.content.repository import ByteStream, Opener
from ocisync.model.digest import Digest


class ObjectInfo(NamedTuple):
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

    def can_resume_upload(self, size: int) -> bool:
        """Whether an upload of so many bytes that is cut off goes on where it stopped, or cannot be cut off at all."""
        ...


@runtime_checkable
class ServerSideStore(Protocol):
    """An object store that can work on an object without its bytes passing through here: buckets and directories.

    It lets a static registry mount blobs across repositories, and make old content young before a garbage collector
    takes it. Without it blobs are sent once per repository, and nothing can be made young.
    """

    async def copy(self, from_key: str, to_key: str, headers: ObjectHeaders, size: int) -> bool:
        """Whether `to_key` now holds the bytes of `from_key`, so many as were seen; False when there are none."""
        ...

    async def touch(self, key: str, headers: ObjectHeaders) -> bool:
        """Make an object as young as if it had been written now; whether it is there, and young."""
        ...


@runtime_checkable
class LocalFiles(Protocol):
    """An object store whose objects are files that a server may send without copying them through its memory.

    Directories have it: `ocisync serve` then answers with sendfile. Other stores are read and passed on in chunks.
    """

    def open_file(self, key: str) -> AbstractAsyncContextManager[tuple[ObjectInfo, BinaryIO]]:
        """Open an object as an unbuffered file of the operating system, for sendfile.

        Raises:
            NotFound: no such key.
        """
        ...


class ObjectKind(enum.Enum):
    """What an object of a repository is."""

    TAG = "tag"
    MANIFEST = "manifest"
    BLOB = "blob"
    REFERRERS = "referrers"
    TAGS_LIST = "tags list"
    REGISTRY = "registry"  # an object that belongs to no repository
    OMITTED = "omissions"  # of an index: `model.missing_images`


@dataclass(frozen=True, slots=True)
class ObjectEntry:
    """One object of a repository."""

    kind: ObjectKind
    reference: str  # a tag or a digest
    size: int  # bytes
    etag: str = ""
    modified: float = 0.0  # seconds since the epoch, by the store's clock
    content_type: str = ""  # known from a look, not from a listing


@dataclass(frozen=True, slots=True)
class Abandoned:
    """What writers left that were killed."""

    uploads: int = 0  # in parts, never ended
    scratch: int = 0  # objects that were to be removed at once
