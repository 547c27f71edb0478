"""What all repositories of a static registry share: the object store, and what was learnt of it."""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable

import anyio

from ocisync.content.object_store import ObjectHeaders, ObjectInfo, ObjectStore, ServerSideStore
from ocisync.content.openers import BytesOpener
from ocisync.errors import Handling, StoreError
from ocisync.model.digest import sha256
from ocisync.model.subjects import SubjectReferences
from ocisync.stores.static import layout
from ocisync.stores.static.derived import DerivedObject, RetryPolicy
from ocisync.stores.static.options import StaticOptions
from ocisync.stores.static.page import publish_page

_BARRIER_LIFE = 180.0  # seconds; an older barrier belongs to a collector that is gone


@runtime_checkable
class Conditional(Protocol):
    """An object store that may not honour conditions."""

    async def is_conditional(self) -> bool:
        """Whether a write with `if_match` is refused when another writer came first."""
        ...


class RegistryContext:
    """An object store with a registry's options, and what was learnt of it, so that no repository asks twice."""

    def __init__(self, store: ObjectStore, workers: int, retries: RetryPolicy, options: StaticOptions) -> None:
        self.store = store
        self.workers = workers
        self.retries = retries
        self.options = options
        self.references = SubjectReferences()
        self.cataloged: set[str] = set()  # repositories that the catalog was seen to name
        self.catalog_lock = anyio.Lock()
        self._is_prepared = False
        self._types_seen: set[str] = set()

    async def prepare(self) -> None:
        """Write what clients ask for first, where it is not there; looked at once."""
        if not self._is_prepared:
            await self.repair_roots()
            if self.options.page:
                await publish_page(self.store)

    async def repair_roots(self) -> list[str]:
        """Look at what clients ask for first, and write what is not right; the keys that were written."""
        written = []
        if await self.store.head(layout.ROOT) is None:
            await self.write(layout.ROOT, layout.ROOT_BODY, layout.JSON_HEADERS)
            written.append(layout.ROOT)
        if await self.root_index().converge(_root, self.retries):
            written.append(layout.ROOT_INDEX)
        self._is_prepared = True
        return written

    def root_index(self) -> DerivedObject:
        """What website endpoints answer `v2/` with."""
        return DerivedObject(self.store, layout.ROOT_INDEX, layout.JSON_HEADERS, "root")

    async def is_conditional(self) -> bool:
        """Whether the store refuses a conditional write that lost its race; a store that does not say does."""
        return await self.store.is_conditional() if isinstance(self.store, Conditional) else True

    async def write(self, key: str, body: bytes, headers: ObjectHeaders) -> None:
        """Write small content."""
        await self.store.put(key, BytesOpener(body), headers, size=len(body), digest=sha256(body))

    async def check_type(self, key: str, expected: str) -> None:
        """See once per media type that the store gives back the type that was sent.

        Raises:
            StoreError: it does not, so every client would refuse the manifests.
        """
        if expected in self._types_seen:
            return
        found = await self.store.head(key)
        if found is not None and found.content_type != expected:
            raise StoreError(
                f"{key} at {self.store}: stored as {expected} but given back as {found.content_type or 'no type'}: "
                "clients refuse such manifests; make the store keep Content-Type",
                handling=Handling.FAIL, key=key,
            )  # fmt: skip
        self._types_seen.add(expected)

    @property
    def stale_after(self) -> float:
        """Seconds after which content that is used again must be made young again: half of the time it is kept."""
        return self.options.grace / 2

    def is_stale(self, info: ObjectInfo) -> bool:
        """Whether an object is so old that it must be made young before it is relied on."""
        return time.time() - info.modified > self.stale_after

    def is_barrier_over(self, info: ObjectInfo) -> bool:
        """Whether a collector's barrier is so old that the collector is gone."""
        return time.time() - info.modified > _BARRIER_LIFE

    async def touch(self, key: str, headers: ObjectHeaders) -> bool:
        """Make an object young; False when it is not there, or the store cannot."""
        return isinstance(self.store, ServerSideStore) and await self.store.touch(key, headers)

    async def list_below(self, prefix: str) -> dict[str, ObjectInfo]:
        """Everything below a prefix, by the rest of its key."""
        return {info.key.removeprefix(prefix): info async for info in self.store.list(prefix)}


async def _root(_: bytes | None) -> bytes:
    return layout.ROOT_BODY
