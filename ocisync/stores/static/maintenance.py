"""A static registry as maintenance sees it: every object with its kind (`maintenance.protocols`)."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Protocol, runtime_checkable

from ocisync.content.object_store import Abandoned, ObjectEntry, ObjectHeaders, ObjectInfo, ObjectKind
from ocisync.content.repository import ByteStream
from ocisync.errors import LimitExceeded, StoreError
from ocisync.model.digest import is_digest
from ocisync.model.image_name import is_tag
from ocisync.model.manifest import MAX_MANIFEST_SIZE
from ocisync.stores.static import layout
from ocisync.stores.static.digest_keys import repair_digest_keys
from ocisync.stores.static.lists import (
    converge,
    derive_catalog,
    find_repositories,
    list_tag_objects,
    read_catalog,
    remove_catalog,
)
from ocisync.stores.static.referrers import ReferrersPass
from ocisync.stores.static.registry_context import RegistryContext
from ocisync.stores.static.repository import StaticRepository

_FOLDERS = {
    ObjectKind.TAG: layout.MANIFESTS,
    ObjectKind.MANIFEST: layout.MANIFESTS,
    ObjectKind.BLOB: layout.BLOBS,
    ObjectKind.REFERRERS: layout.REFERRERS,
    ObjectKind.TAGS_LIST: layout.TAGS,
    ObjectKind.OMITTED: layout.OMITTED,
}
_LARGEST_LIST = 64 * 1024 * 1024  # bytes


@runtime_checkable
class UploadReaper(Protocol):
    """An object store that keeps the parts of uploads that were never ended."""

    async def abort_uploads(self, older_than: float) -> int:
        """Abort those begun more than so many seconds ago; how many."""
        ...


class RegistryMaintenance:
    """The whole registry: its repositories, its roots and catalog, and what killed writers left."""

    def __init__(self, context: RegistryContext) -> None:
        self._context = context

    def __str__(self) -> str:
        return str(self._context.store)

    def list_repositories(self, within: str = "") -> AsyncIterator[str]:
        """Every repository that holds anything."""
        return find_repositories(self._context.store, layout.KINDS, within)

    def repository(self, name: str) -> RepositoryMaintenance:
        """One repository."""
        return RepositoryMaintenance(self._context, layout.check_name(name))

    async def rebuild_derived(self) -> Sequence[str]:
        """The root and the catalog."""
        changed = await self._context.repair_roots()
        catalog = derive_catalog if self._context.options.catalog else remove_catalog
        return [*changed, layout.CATALOG_KEY] if await catalog(self._context) else changed

    async def root_faults(self) -> Mapping[str, str]:
        """`v2/` for REST endpoints, `v2/index.html` for website endpoints."""
        faults = {} if await self._context.store.head(layout.ROOT) else {layout.ROOT: "it is not there"}
        _, body, media_type = await self._context.root_index().read()
        if body is None:
            faults[layout.ROOT_INDEX] = "it is not there"
        elif (body, media_type) != (layout.ROOT_BODY, layout.JSON):
            faults[layout.ROOT_INDEX] = f"{body[:20]!r} of type {media_type or 'none'}"
        return faults

    async def catalog(self) -> Sequence[str] | None:
        """The names in the catalog."""
        return await read_catalog(self._context)

    async def now(self) -> float:
        """The date that the store gives to an object that is written now."""
        key = f"{layout.SCRATCH}clock-{secrets.token_hex(8)}"
        await self._context.write(key, b"", layout.JSON_HEADERS)
        found = await self._context.store.head(key)
        await self._context.store.delete([key])
        if found is None or not found.modified:
            raise StoreError(f"{self}: the store gives no date to what it stores; ages are not known")
        return found.modified

    async def remove_abandoned(self, *, uploads: float, scratch: float) -> Abandoned:
        """Orphaned multipart uploads, and scratch objects."""
        store = self._context.store
        aborted = await store.abort_uploads(uploads) if isinstance(store, UploadReaper) else 0
        before = await self.now() - scratch
        left = [info.key async for info in store.list(layout.SCRATCH) if info.modified <= before]
        await store.delete(left)
        return Abandoned(aborted, len(left))


class RepositoryMaintenance:
    """One repository: its objects by kind, and the repair of what is derived from them."""

    def __init__(self, context: RegistryContext, name: str) -> None:
        self._context = context
        self.name = name
        self.store = StaticRepository(context, name)

    def __str__(self) -> str:
        return str(self.store)

    async def list_objects(self, kind: ObjectKind, *, after: str = "") -> AsyncIterator[ObjectEntry]:
        """A listing of one kind."""
        prefix = self._prefix(kind)
        async for info in self._list(kind, prefix, after):
            reference = info.key.removeprefix(prefix)
            if _is_reference(kind, reference):
                yield _entry(kind, reference, info)

    async def stat(self, kind: ObjectKind, reference: str) -> ObjectEntry | None:
        """One object."""
        info = await self._context.store.head(self._key(kind, reference))
        return None if info is None else _entry(kind, reference, info)

    @asynccontextmanager
    async def open(self, kind: ObjectKind, reference: str) -> AsyncIterator[tuple[ObjectEntry, ByteStream]]:
        """Any content."""
        async with self._context.store.open(self._key(kind, reference)) as (info, stream):
            yield _entry(kind, reference, info), stream

    async def read(self, kind: ObjectKind, reference: str) -> tuple[ObjectEntry, bytes]:
        """Small content whole."""
        most = _LARGEST_LIST if kind in (ObjectKind.REFERRERS, ObjectKind.TAGS_LIST) else MAX_MANIFEST_SIZE
        async with self.open(kind, reference) as (entry, stream):
            if entry.size > most:
                key = self._key(kind, reference)
                raise LimitExceeded(f"{key} at {self._context.store}: {entry.size} bytes cannot be a {kind.value}")
            return entry, b"".join([chunk async for chunk in stream])

    @asynccontextmanager
    async def gc_barrier(self) -> AsyncIterator[None]:
        """Hold writers back from content that is about to be removed.

        The barrier is an object that writers see in the listing they make anyway; while it is there they rely on
        nothing that could be collected (docs/adr/0012-the-gc-barrier.md). After a failure it stays, for what was asked
        of the store may still take effect.
        """
        prefix = self._prefix(ObjectKind.MANIFEST) + layout.COLLECTING
        async for info in self._context.store.list(prefix):
            if self._context.is_barrier_over(info):  # of a collector that was killed
                await self._context.store.delete([info.key])
        key = f"{prefix}{secrets.token_hex(8)}"
        await self._context.write(key, b"", layout.JSON_HEADERS)
        yield
        await self._context.store.delete([key])

    async def remove(self, kind: ObjectKind, references: Sequence[str]) -> None:
        """Remove objects of one kind."""
        await self._context.store.delete([self._key(kind, reference) for reference in references])

    async def set_content_type(self, kind: ObjectKind, reference: str, media_type: str) -> None:
        """Write an object again with other headers, a blob by a copy onto itself."""
        key, headers = self._key(kind, reference), _headers(kind, media_type)
        if kind is ObjectKind.BLOB:
            await self._context.touch(key, headers)
        else:
            _, raw = await self.read(kind, reference)
            await self._context.write(key, raw, headers)

    async def rebuild_derived(self) -> Sequence[str]:
        """Digest keys, then lists of referrers, then the list of tags."""
        changed = await repair_digest_keys(self._context, self.name)
        referrers = ReferrersPass(self._context, self.name)
        keep = self._context.options.referrers
        changed += sorted(set(await (referrers.derive() if keep else referrers.remove_all())))
        if await converge(self._context.store, self.name, self._context.retries, self._context.options.order):
            changed.append(layout.tags_key(self.name))
        return changed

    def _list(self, kind: ObjectKind, prefix: str, after: str) -> AsyncIterator[ObjectInfo]:
        if kind is ObjectKind.TAG and not after:
            return list_tag_objects(self._context.store, self.name)
        return self._context.store.list(prefix, start_after=prefix + after if after else "")

    def _prefix(self, kind: ObjectKind) -> str:
        return f"{layout.repository_prefix(self.name)}{_FOLDERS[kind]}/"

    def _key(self, kind: ObjectKind, reference: str) -> str:
        return self._prefix(kind) + reference


def _is_reference(kind: ObjectKind, reference: str) -> bool:
    if kind is ObjectKind.TAGS_LIST:
        return reference == "list"
    return is_tag(reference) if kind is ObjectKind.TAG else is_digest(reference)


def _entry(kind: ObjectKind, reference: str, info: ObjectInfo) -> ObjectEntry:
    return ObjectEntry(kind, reference, info.size, info.etag, info.modified, info.content_type)


def _headers(kind: ObjectKind, media_type: str) -> ObjectHeaders:
    return ObjectHeaders(
        media_type, layout.IMMUTABLE if kind in (ObjectKind.MANIFEST, ObjectKind.BLOB) else layout.NO_CACHE
    )
