"""The seam of audits: a whole registry whose repositories can be listed, looked at, healed and swept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ocisync.content.capabilities import Inventory, Mounter
from ocisync.content.object_store import Abandoned, ObjectEntry, ObjectKind
from ocisync.content.repository import ByteStream, Source, Target


class RepositoryStore(Source, Target, Mounter, Inventory, Protocol):
    """A repository to read from and to write to."""


class MaintainedRepository(Protocol):
    """One repository."""

    @property
    def name(self) -> str:
        """As pullers name it."""
        ...

    @property
    def store(self) -> RepositoryStore:
        """The repository as copies use it."""
        ...

    def list_objects(self, kind: ObjectKind, *, after: str = "") -> AsyncIterator[ObjectEntry]:
        """A listing of one kind, sorted by reference, from behind a reference on."""
        ...

    async def stat(self, kind: ObjectKind, reference: str) -> ObjectEntry | None:
        """One object with its content type, or None."""
        ...

    def open(self, kind: ObjectKind, reference: str) -> AbstractAsyncContextManager[tuple[ObjectEntry, ByteStream]]:
        """One object with its content type, and its bytes, not verified; raises NotFound as `read` does."""
        ...

    async def read(self, kind: ObjectKind, reference: str) -> tuple[ObjectEntry, bytes]:
        """Small content whole, not verified.

        Raises:
            NotFound: it is not there.
            LimitExceeded: it is larger than any manifest.
        """
        ...

    def gc_barrier(self) -> AbstractAsyncContextManager[None]:
        """Warn writers: who lists the repository within the block looks again after it, before a tag is written."""
        ...

    async def remove(self, kind: ObjectKind, references: Sequence[str]) -> None:
        """Remove objects, never more than these; absent ones are no error."""
        ...

    async def set_content_type(self, kind: ObjectKind, reference: str, media_type: str) -> None:
        """Give an object another content type, its bytes unchanged."""
        ...

    async def rebuild_derived(self) -> Sequence[str]:
        """Derive anew what follows from tags and manifests: digest keys, lists; what was changed, by key."""
        ...


class MaintainedRegistry(Protocol):
    """A static registry."""

    def list_repositories(self, within: str = "") -> AsyncIterator[str]:
        """Every repository that holds anything, each once; `within` one name and those that go on from it."""
        ...

    def repository(self, name: str) -> MaintainedRepository:
        """One repository."""
        ...

    async def rebuild_derived(self) -> Sequence[str]:
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

    async def remove_abandoned(self, *, uploads: float, scratch: float) -> Abandoned:
        """Remove what killed writers left, when it is older than so many seconds; what there was."""
        ...
