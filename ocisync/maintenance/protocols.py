"""The seam of audits: a whole registry whose repositories can be listed, looked at, healed and swept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ocisync.content.repository import ByteStream, Inventory, Mounter, Source, Target
from ocisync.content.stored_objects import Held, Kind, Leftovers


class RepositoryStore(Source, Target, Mounter, Inventory, Protocol):
    """A repository to read from and to write to."""


class AuditedRepository(Protocol):
    """One repository."""

    @property
    def name(self) -> str:
        """As pullers name it."""
        ...

    @property
    def store(self) -> RepositoryStore:
        """The repository as copies use it."""
        ...

    def held(self, kind: Kind, *, after: str = "") -> AsyncIterator[Held]:
        """A listing of one kind, sorted by reference, from behind a reference on."""
        ...

    async def look(self, kind: Kind, reference: str) -> Held | None:
        """One object with its content type, or None."""
        ...

    def open(self, kind: Kind, reference: str) -> AbstractAsyncContextManager[tuple[Held, ByteStream]]:
        """One object with its content type, and its bytes, not verified; raises NotFound as `read` does."""
        ...

    async def read(self, kind: Kind, reference: str) -> tuple[Held, bytes]:
        """Small content whole, not verified.

        Raises:
            NotFound: it is not there.
            LimitExceeded: it is larger than any manifest.
        """
        ...

    def collecting(self) -> AbstractAsyncContextManager[None]:
        """Warn writers: who lists the repository within the block looks again after it, before a tag is written."""
        ...

    async def remove(self, kind: Kind, references: Sequence[str]) -> None:
        """Remove objects, never more than these; absent ones are no error."""
        ...

    async def retype(self, kind: Kind, reference: str, media_type: str) -> None:
        """Give an object another content type, its bytes unchanged."""
        ...

    async def heal(self) -> Sequence[str]:
        """Derive anew what follows from tags and manifests: digest keys, lists; what was changed, by key."""
        ...


class AuditedRegistry(Protocol):
    """A static registry."""

    def names(self, within: str = "") -> AsyncIterator[str]:
        """Every repository that holds anything, each once; `within` one name and those that go on from it."""
        ...

    def repository(self, name: str) -> AuditedRepository:
        """One repository."""
        ...

    async def heal(self) -> Sequence[str]:
        """As a repository's `heal`, for what belongs to none of them."""
        ...

    async def root_faults(self) -> Mapping[str, str]:
        """What is wrong with what clients ask for first, by key."""
        ...

    async def catalog(self) -> Sequence[str] | None:
        """The repositories that the catalog names; None when there is none, or a damaged one."""
        ...

    async def now(self) -> float:
        """Seconds since the epoch by the store's own clock, which dates its objects."""
        ...

    async def tidy(self, *, uploads: float, scratch: float) -> Leftovers:
        """Remove what killed writers left, when it is older than so many seconds; what there was."""
        ...
