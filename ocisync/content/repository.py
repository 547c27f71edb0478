"""The seam: what every source and every target can do. Optional roles are in `content.capabilities`.

Everything that ocisync does with images is a copy from a `Source` to a `Target`. Each of them is *one repository*: of
a registry, of a static registry, of an archive, or a view that changes what another source says. The engine (`sync`)
knows these protocols and nothing else of a store, so a new kind of store needs no change there. What only some stores
can do is a role of its own, found with isinstance (docs/adr/0003): a store without it stays short.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from ocisync.model.descriptor import Descriptor

ByteStream = AsyncIterator[bytes]
"""Chunks of at most a few MiB, in order. The consumer closes the context manager it came from, also half-way."""

Opener = Callable[[int], AbstractAsyncContextManager[ByteStream]]
"""Opens the same bytes from a byte on (0: all of them), as often as an upload and its retries need them.

An upload takes an opener and not a stream, because a stream can be read only once: after a broken connection the store
opens again, and begins where the other side stopped.
"""


@runtime_checkable
class Fetcher(Protocol):
    """Where content can be read by its digest."""

    def open(self, desc: Descriptor, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:
        """Open a manifest or blob, without its first `start` bytes; a broken transfer is resumed inside.

        The stream is as the store has it: whoever makes it visible verifies it (`content.verify`). A store that cannot
        begin in the middle reads over what is not wanted (`content.openers.skip`).

        Raises:
            NotFound: the store does not have it.
        """
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
class Source(Fetcher, Resolver, Protocol):
    """One repository to copy from."""

    async def tags(self) -> Sequence[str]:
        """Every tag, each once, in lexical order; empty when the repository is empty.

        Raises:
            NotFound: there is no such repository.
        """
        ...


@runtime_checkable
class Target(Resolver, Protocol):
    """One repository to copy to.

    Content is pushed under its digest, children before parents, and nothing of it can be seen under a tag. `publish`
    is the last step, and the only one that moves tags. So a copy that is killed at any point leaves every tag whole.
    """

    @property
    def tags_any_content(self) -> bool:
        """Whether a tag may name any content, as in an OCI layout; elsewhere only manifests have tags."""
        ...

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

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Point tags at manifests whose whole graph below them is stored; then bring the list of tags up to date.

        Each descriptor carries its bytes in `data`. The manifest itself is stored first where it is not yet.
        """
        ...

    def can_resume_upload(self, size: int) -> bool:
        """Whether an upload of so many bytes that is cut off goes on where it stopped, or cannot be cut off at all.

        Where it must begin again, the engine keeps a large blob on disk meanwhile (`content.spool`), so that the source
        is not read twice.
        """
        ...
