"""One repository of a static registry."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from ocisync.content.capabilities import RepositoryListing
from ocisync.content.concurrency import aclosing_if_possible
from ocisync.content.failpoints import failpoint
from ocisync.content.object_store import ObjectHeaders, ObjectInfo, ServerSideStore
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.verify import checked_bytes, read_manifest
from ocisync.errors import DigestMismatch, LimitExceeded, NotFound
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, digest_of, is_digest, sha256
from ocisync.model.image_name import is_tag, parse_tag
from ocisync.model.manifest import MAX_MANIFEST_SIZE, media_type_of
from ocisync.stores.static import layout
from ocisync.stores.static.catalog import catalog_name
from ocisync.stores.static.missing_images import write_omissions
from ocisync.stores.static.publication import Publication, Root
from ocisync.stores.static.referrers import ReferrersPass, list_referrers
from ocisync.stores.static.registry_context import RegistryContext
from ocisync.stores.static.tags_list import converge, list_tags


class StaticRepository:
    """One repository: a Source that knows referrers, and all that a Target may be (`content.repository`)."""

    tags_any_content = False
    brings_referrers = False

    def __init__(self, shelf: RegistryContext, name: str) -> None:
        self._shelf = shelf
        self.name = name
        self._store = shelf.store
        self._pushed: set[Digest] = set()  # manifests
        self._staged: dict[Digest, float] = {}  # roots, when each was staged; seconds since the epoch
        self._seen: Mapping[str, ObjectInfo] | None = None  # the manifests that the last listing showed
        self._is_current = False  # whether that listing came after the last `stage`

    def __str__(self) -> str:
        return f"{self.name} at {self._store}"

    async def tags(self) -> Sequence[str]:
        """Every tag, in lexical order, from the tags themselves."""
        tags = await list_tags(self._store, self.name)
        if not tags and not await self._has_anything():
            raise NotFound(f"{self}: there is no such repository; `ocisync ls TARGET` lists those that are there")
        return tags

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of a tag or digest, with its bytes."""
        info, data = await self._read(reference)
        digest = digest_of(data, Digest(reference)) if is_digest(reference) else sha256(data)
        if is_digest(reference) and digest != reference:
            raise DigestMismatch(f"{info.key} at {self._store}: the content hashes to {digest}; push the image again")
        announced = info.content_type.partition(";")[0].strip()
        return Descriptor(media_type_of(data, announced), digest, len(data), data=data)

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """What refers to a manifest, by its list, or by the one under a tag where the registry keeps none."""
        return await list_referrers(self._store, self.name, digest)

    async def _read(self, reference: str) -> tuple[ObjectInfo, bytes]:
        try:
            async with self._store.open(layout.manifest_key(self.name, reference)) as (info, stream):
                if info.size > MAX_MANIFEST_SIZE:
                    raise LimitExceeded(
                        f"{info.key} at {self._store}: {info.size} bytes are no manifest", code="limit.manifest"
                    )
                return info, b"".join([chunk async for chunk in stream])
        except NotFound as exc:
            image = f"{self.name}{'@' if is_digest(reference) else ':'}{reference}"
            told = f"{image} at {self._store}: not there; `ocisync ls TARGET/{self.name}` lists the tags that are"
            raise NotFound(told, code=exc.code) from exc

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream content by its digest, without its first `start` bytes."""
        async with self._store.open(layout.content_key(self.name, desc), start=start) as (_, stream):
            yield stream

    def can_resume_upload(self, size: int) -> bool:
        """Whether the storage keeps what came of an upload that was cut off."""
        return self._store.can_resume_upload(size)

    async def exists(self, desc: Descriptor) -> bool:
        """Whether content of this digest and size is here."""
        found = await self._store.head(layout.content_key(self.name, desc))
        return found is not None and found.size == desc.size

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store verified content."""
        if desc.data is not None:
            opener = BytesOpener(checked_bytes(desc.data, desc))
        key, headers = layout.content_key(self.name, desc), layout.content_headers(desc)
        await self._store.put(key, opener, headers, size=desc.size, digest=desc.digest)
        if desc.is_manifest:
            self._pushed.add(desc.digest)
            if desc.data is not None:
                self._shelf.references.learn(desc.digest, desc.data)
            await self._shelf.check_type(key, headers.content_type)
            failpoint("manifest.child")

    async def mount(self, desc: Descriptor, from_repository: str) -> bool:
        """Link or copy content from another repository of this registry, inside the store."""
        if not isinstance(self._store, ServerSideStore):
            return False
        from_key = layout.content_key(from_repository, desc)
        found = await self._store.head(from_key)
        if found is None or found.size != desc.size:
            return False
        to_key, headers = layout.content_key(self.name, desc), layout.content_headers(desc)
        return await self._store.copy(from_key, to_key, headers, desc.size)

    @property
    def stale_after(self) -> float:
        """Seconds after which content must be made young before it is relied on."""
        return self._shelf.options.stale_after

    async def push_manifests(self, roots: Sequence[Descriptor]) -> None:
        """Write manifests under their digests, or make them young."""
        self._staged.update(dict.fromkeys((desc.digest for desc in roots), time.time()))
        found = {desc.digest: Root(desc, await read_manifest(self, desc)) for desc in roots}
        here = await self._manifests() if self._seen is None else self._seen
        self._is_current = False
        await Publication(self._shelf, self.name, {}, found, here).write_roots()

    async def touch(self, digest: Digest) -> bool:
        """Make a blob or manifest young."""
        if await self._shelf.touch(layout.blob_key(self.name, digest), layout.BLOB_HEADERS):
            return True
        key = layout.manifest_key(self.name, digest)
        found = await self._store.head(key)
        return found is not None and await self._shelf.touch(key, ObjectHeaders(found.content_type, layout.IMMUTABLE))

    async def record_missing_images(self, index: Digest, omitted: Sequence[Digest]) -> None:
        """Keep beside an index which of its images were left out."""
        await write_omissions(self._shelf, self.name, index, omitted)

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Write the manifests under their digests, then under their tags, then the list of tags."""
        await self._shelf.prepare()
        roots = {desc.digest: Root(desc, await read_manifest(self, desc)) for desc in tags.values()}
        pointers = {tag: desc.digest for tag, desc in tags.items()}
        here = await self._after_staging(roots)
        publication = Publication(self._shelf, self.name, pointers, roots, here, self._begun(roots))
        await publication.write_roots()
        await self._write_referrers(roots, {*roots, *_digests(here)})
        await publication.write_tags()
        await self._write_lists({*tags, *filter(is_tag, here)})

    async def reconcile(self) -> None:
        """Bring all lists up to date: a writer may have ended between content and a list."""
        await self._shelf.prepare()
        await self._write_referrers({})
        await self._write_lists()

    async def untag(self, tags: Sequence[str]) -> None:
        """Remove tags, then bring the list of tags up to date."""
        await self._store.delete([layout.manifest_key(self.name, parse_tag(tag)) for tag in tags])
        failpoint("untag")
        await self.reconcile()

    async def list_manifests(self) -> RepositoryListing:
        """Tags and manifests, by one listing; tags by the ETag that they share with their digest's object."""
        manifests = await self._manifests()
        digests = {digest: manifests[digest] for digest in _digests(manifests)}
        by_etag = {(info.etag, info.size): digest for digest, info in digests.items() if info.etag}
        tags = {ref: by_etag.get((info.etag, info.size)) for ref, info in manifests.items() if is_tag(ref)}
        sizes = {digest: info.size for digest, info in digests.items()}
        warnings = [info for ref, info in manifests.items() if ref.startswith(layout.COLLECTING)]
        is_collected = not all(map(self._shelf.is_warning_over, warnings))
        return RepositoryListing(tags, sizes, {digest: info.modified for digest, info in digests.items()}, is_collected)

    async def list_all(self, outline: RepositoryListing | None = None) -> RepositoryListing:
        """Everything that listings of the repository show."""
        found = outline or await self.list_manifests()
        listed = await self._shelf.listed(f"{layout.repository_prefix(self.name)}{layout.BLOBS}/")
        blobs = {Digest(ref): info for ref, info in listed.items() if is_digest(ref)}
        sizes = {digest: info.size for digest, info in blobs.items()}
        modified = {digest: info.modified for digest, info in blobs.items()}
        return replace(found, sizes={**sizes, **found.sizes}, modified={**modified, **found.modified})

    async def delete(self, digests: Sequence[Digest]) -> None:
        """Remove content under its digest, be it manifest or blob."""
        keys = [key(self.name, digest) for digest in digests for key in (layout.manifest_key, layout.blob_key)]
        await self._store.delete(keys)

    async def _manifests(self) -> Mapping[str, ObjectInfo]:
        """What a listing shows, by tag and by digest."""
        self._seen = await self._shelf.listed(f"{layout.repository_prefix(self.name)}{layout.MANIFESTS}/")
        self._is_current = True
        return self._seen

    async def _after_staging(self, roots: Mapping[Digest, Root]) -> Mapping[str, ObjectInfo]:
        """The manifests as `outline` saw them after all of `roots` were staged, else as they are now; told once."""
        seen = self._seen if self._is_current and roots.keys() <= self._staged.keys() else None
        here = await self._manifests() if seen is None else seen
        self._is_current = False
        return here

    def _begun(self, roots: Iterable[Digest]) -> float:
        now = time.time()
        return min((self._staged.get(digest, now) for digest in roots), default=now)

    async def _write_referrers(self, roots: Mapping[Digest, Root], seen: Collection[Digest] = ()) -> None:
        """See that every manifest has a list of referrers."""
        if self._shelf.options.referrers:
            for digest, root in roots.items():
                self._shelf.references.learn(digest, root.data)
            await ReferrersPass(self._shelf, self.name).write(seen, {*self._pushed, *roots})

    async def _write_lists(self, known: Collection[str] = ()) -> None:
        """Bring the list of tags, of which some are known, up to date, then that of repositories."""
        await converge(self._store, self.name, self._shelf.rounds, self._shelf.options.order, known)
        if self._shelf.options.catalog:
            await catalog_name(self._shelf, self.name)

    async def _has_anything(self) -> bool:
        listing = self._store.list(layout.repository_prefix(self.name))
        async with aclosing_if_possible(listing):
            async for info in listing:
                found = layout.parse_key(info.key)
                if found and found.name == self.name:
                    return True
        return False


def _digests(references: Iterable[str]) -> list[Digest]:
    return [Digest(reference) for reference in references if is_digest(reference)]
