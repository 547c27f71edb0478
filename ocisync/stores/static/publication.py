"""One publication: manifests under their digests, then under their tags."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from ocisync.content.capabilities import OUTDATED
from ocisync.content.concurrency import for_each
from ocisync.content.failpoints import failpoint
from ocisync.content.object_store import ObjectInfo
from ocisync.errors import StoreError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.stores.static import layout
from ocisync.stores.static.registry_context import RegistryContext

_MD5_ETAG = re.compile(r'"?([0-9a-f]{32})"?\Z')


@runtime_checkable
class Linker(Protocol):
    """An object store that can show one file under two keys."""

    async def link(self, from_key: str, to_key: str) -> bool:
        """Whether `to_key` is now the same file; False when there is nothing to link."""
        ...


@dataclass(frozen=True, slots=True)
class Root:
    """A manifest to be published, and its bytes."""

    desc: Descriptor
    data: bytes


@dataclass(slots=True)
class Publication:
    """Tags to be pointed at manifests, and what was seen to be stored under both."""

    shelf: RegistryContext
    name: str
    tags: Mapping[str, Digest]
    roots: Mapping[Digest, Root]
    here: Mapping[str, ObjectInfo]  # by tag and by digest
    begun: float = field(default_factory=time.time)  # when what the tags need was seen to be there; since the epoch

    _linker: Linker | None = field(init=False)

    def __post_init__(self) -> None:
        self._linker = self.shelf.store if isinstance(self.shelf.store, Linker) else None

    async def write_roots(self) -> None:
        """Write the manifests under their digests where they are not."""
        await for_each(list(self.roots), self._write_root, self.shelf.workers)

    async def write_tags(self) -> None:
        """Point the tags at the manifests, where they do not yet."""
        await for_each(list(self.tags), self._write_tag, self.shelf.workers)

    async def _write_root(self, digest: Digest) -> None:
        root = self.roots[digest]
        if await self._is_kept(digest, root):
            return
        key, headers = layout.manifest_key(self.name, digest), layout.content_headers(root.desc)
        await self.shelf.write(key, root.data, headers)
        await self.shelf.check_type(key, headers.content_type)
        failpoint("manifest.digest")

    async def _is_kept(self, digest: Digest, root: Root) -> bool:
        """Whether a manifest is there under its digest, and too young to be collected."""
        found = self.here.get(digest)
        if found is None or not may_hold(found, root.data):
            return False
        if not self.shelf.is_stale(found):
            return True
        return await self.shelf.touch(found.key, layout.content_headers(root.desc))

    async def _write_tag(self, tag: str) -> None:
        if not 0 <= time.time() - self.begun < self.shelf.options.stale_after:
            raise StoreError(
                f"{self.name}:{tag} at {self.shelf.store}: too long ago its content was seen to be there; look again",
                code=OUTDATED,
            )
        root = self.roots[self.tags[tag]]
        if self._points_at(tag, root):
            return
        key, from_key = (layout.manifest_key(self.name, reference) for reference in (tag, root.desc.digest))
        if self._linker is None or not await self._linker.link(from_key, key):
            await self.shelf.write(key, root.data, layout.tag_headers(root.desc))
        failpoint("tag")

    def _points_at(self, tag: str, root: Root) -> bool:
        """Whether the tag's object has the ETag and size of the manifest's, which was there before."""
        held, current = self.here.get(root.desc.digest), self.here.get(tag)
        if held is None or current is None or not may_hold(held, root.data):
            return False
        return (held.etag, held.size) == (current.etag, current.size)


def may_hold(found: ObjectInfo | None, data: bytes) -> bool:
    """Whether an object may be these bytes, by its size and, where it is an MD5, its ETag."""
    if found is None or found.size != len(data):
        return False
    return not has_md5(found) or found.etag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()


def has_md5(found: ObjectInfo) -> bool:
    """Whether an object's ETag looks like the MD5 of its bytes."""
    return _MD5_ETAG.match(found.etag) is not None
