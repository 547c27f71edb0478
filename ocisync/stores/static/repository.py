"""One repository of a static registry."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol, runtime_checkable

from ocisync.content.capabilities import OUTDATED, RepositoryListing
from ocisync.content.concurrency import aclosing_if_possible, for_each
from ocisync.content.failpoints import failpoint
from ocisync.content.object_store import ObjectHeaders, ObjectInfo, ServerSideStore
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.verify import check_bytes, read_manifest
from ocisync.errors import DigestMismatch, LimitExceeded, NotFound, StoreError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, digest_of, is_digest, md5_in_etag, md5_of, sha256
from ocisync.model.image_name import is_tag, parse_tag
from ocisync.model.manifest import MAX_MANIFEST_SIZE, stored_media_type
from ocisync.stores.static import layout
from ocisync.stores.static.derived import may_hold
from ocisync.stores.static.lists import add_to_catalog, converge, list_tags
from ocisync.stores.static.missing_images import write_omissions
from ocisync.stores.static.referrers import ReferrersPass, list_referrers
from ocisync.stores.static.registry_context import RegistryContext


class StaticRepository:
    """One repository: a Source that knows referrers, and a Target with every optional role (`content.capabilities`).

    `publish` writes manifests under their digests, then referrers, then tags, then the lists: a reader, and a writer
    that is killed at any point, never leave a tag that cannot be pulled.
    """

    tags_any_content = False
    brings_referrers = False

    def __init__(self, context: RegistryContext, name: str) -> None:
        self._context = context
        self.name = name
        self._store = context.store
        self._pushed: set[Digest] = set()  # manifests
        self._staged: dict[Digest, float] = {}  # roots, when each was staged; seconds since the epoch
        self._seen: Mapping[str, ObjectInfo] | None = None  # the manifests that the last listing showed
        self._is_current = False  # whether that listing came after the last `push_manifests`

    def __str__(self) -> str:
        return f"{self.name} at {self._store}"

    async def tags(self) -> Sequence[str]:
        """Every tag, in lexical order, from the tags themselves."""
        tags = await list_tags(self._store, self.name)
        if not tags and not await self._is_there():
            raise NotFound(f"{self}: there is no such repository; `ocisync ls TARGET` lists those that are there")
        return tags

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of a tag or digest, with its bytes."""
        info, data = await self._read(reference)
        digest = digest_of(data, Digest(reference)) if is_digest(reference) else sha256(data)
        if is_digest(reference) and digest != reference:
            raise DigestMismatch(f"{info.key} at {self._store}: the content hashes to {digest}; push the image again")
        return Descriptor(stored_media_type(data, info.content_type), digest, len(data), data=data)

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """What refers to a manifest, by its list, or by the one under a tag where the registry keeps none."""
        return await list_referrers(self._store, self.name, digest)

    async def _read(self, reference: str) -> tuple[ObjectInfo, bytes]:
        try:
            async with self._store.open(layout.manifest_key(self.name, reference)) as (info, stream):
                if info.size > MAX_MANIFEST_SIZE:
                    raise LimitExceeded(
                        f"{info.key} at {self._store}: {info.size} bytes cannot be a manifest", code="limit.manifest"
                    )
                return info, b"".join([chunk async for chunk in stream])
        except NotFound as exc:
            image = f"{self.name}{'@' if is_digest(reference) else ':'}{reference}"
            message = f"{image} at {self._store}: not there; `ocisync ls TARGET/{self.name}` lists the tags that are"
            raise NotFound(message, code=exc.code) from exc

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
            opener = BytesOpener(check_bytes(desc.data, desc))
        key, headers = layout.content_key(self.name, desc), layout.content_headers(desc)
        await self._store.put(key, opener, headers, size=desc.size, digest=desc.digest)
        if desc.is_manifest:
            self._pushed.add(desc.digest)
            if desc.data is not None:
                self._context.references.learn(desc.digest, desc.data)
            await self._context.check_type(key, headers.content_type)
            failpoint("manifest.child")

    def find_sibling(self, source: object) -> str | None:
        """The name of a source's repository, when it lies in the same store."""
        if isinstance(source, StaticRepository) and str(source._store) == str(self._store):
            return source.name
        return None

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
        return self._context.stale_after

    async def push_manifests(self, roots: Sequence[Descriptor]) -> None:
        """Write manifests under their digests, or make them young."""
        self._staged.update(dict.fromkeys((desc.digest for desc in roots), time.time()))
        found = {desc.digest: Root(desc, await read_manifest(self, desc)) for desc in roots}
        here = await self._list_stored() if self._seen is None else self._seen
        self._is_current = False
        await Publication(self._context, self.name, {}, found, here).write_roots()

    async def touch(self, digest: Digest) -> bool:
        """Make a blob or manifest young."""
        if await self._context.touch(layout.blob_key(self.name, digest), layout.BLOB_HEADERS):
            return True
        key = layout.manifest_key(self.name, digest)
        found = await self._store.head(key)
        return found is not None and await self._context.touch(key, ObjectHeaders(found.content_type, layout.IMMUTABLE))

    async def record_missing_images(self, index: Digest, omitted: Sequence[Digest]) -> None:
        """Keep beside an index which of its images were left out."""
        await write_omissions(self._context, self.name, index, omitted)

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Write the manifests under their digests, then under their tags, then the list of tags."""
        await self._context.prepare()
        roots = {desc.digest: Root(desc, await read_manifest(self, desc)) for desc in tags.values()}
        pointers = {tag: desc.digest for tag, desc in tags.items()}
        here = await self._reuse_listing(roots)
        publication = Publication(self._context, self.name, pointers, roots, here, self._find_first_staged(roots))
        await publication.write_roots()
        await self._write_referrers(roots, {*roots, *_digests(here)})
        await publication.write_tags()
        await self._write_lists({*tags, *filter(is_tag, here)})

    async def reconcile(self) -> None:
        """Bring all lists up to date: a writer may have ended between content and a list."""
        await self._context.prepare()
        await self._write_referrers({})
        await self._write_lists()

    async def untag(self, tags: Sequence[str]) -> None:
        """Remove tags, then bring the list of tags up to date."""
        await self._store.delete([layout.manifest_key(self.name, parse_tag(tag)) for tag in tags])
        failpoint("untag")
        await self.reconcile()

    async def holds_tags(self, tags: Mapping[str, Digest]) -> bool:
        """Whether each tag is a link to its manifest; False where the storage has no links."""
        folder = f"{layout.repository_prefix(self.name)}{layout.MANIFESTS}/"
        return isinstance(self._store, Linker) and await self._store.are_links(folder, tags)

    async def list_manifests(self) -> RepositoryListing:
        """Tags and manifests, by one listing; tags by the ETag that they share with their digest's object."""
        tags: dict[str, ObjectInfo] = {}
        by_etag: dict[tuple[str, int], Digest] = {}
        sizes: dict[Digest, int] = {}
        modified: dict[Digest, float] = {}
        barriers: list[ObjectInfo] = []
        for reference, info in (await self._list_stored()).items():
            if ":" not in reference and is_tag(reference):
                tags[reference] = info
            elif is_digest(reference):
                digest = Digest(reference)
                by_etag[info.etag, info.size] = digest
                sizes[digest], modified[digest] = info.size, info.modified
            elif reference.startswith(layout.COLLECTING):
                barriers.append(info)
        pointers = {tag: by_etag.get((info.etag, info.size)) if info.etag else None for tag, info in tags.items()}
        is_collected = not all(map(self._context.is_barrier_over, barriers))
        return RepositoryListing(pointers, sizes, modified, is_collected)

    async def list_all(self, outline: RepositoryListing | None = None) -> RepositoryListing:
        """Everything that listings of the repository show."""
        found = outline or await self.list_manifests()
        list_below = await self._context.list_below(f"{layout.repository_prefix(self.name)}{layout.BLOBS}/")
        blobs = {Digest(ref): info for ref, info in list_below.items() if is_digest(ref)}
        sizes = {digest: info.size for digest, info in blobs.items()}
        modified = {digest: info.modified for digest, info in blobs.items()}
        return replace(found, sizes={**sizes, **found.sizes}, modified={**modified, **found.modified})

    async def delete(self, digests: Sequence[Digest]) -> None:
        """Remove content under its digest, be it manifest or blob."""
        keys = [key(self.name, digest) for digest in digests for key in (layout.manifest_key, layout.blob_key)]
        await self._store.delete(keys)

    async def _list_stored(self) -> Mapping[str, ObjectInfo]:
        """What a listing shows, by tag and by digest."""
        self._seen = await self._context.list_below(f"{layout.repository_prefix(self.name)}{layout.MANIFESTS}/")
        self._is_current = True
        return self._seen

    async def _reuse_listing(self, roots: Mapping[Digest, Root]) -> Mapping[str, ObjectInfo]:
        """The manifests as `outline` saw them after all of `roots` were staged, else as they are now; message once."""
        seen = self._seen if self._is_current and roots.keys() <= self._staged.keys() else None
        here = await self._list_stored() if seen is None else seen
        self._is_current = False
        return here

    def _find_first_staged(self, roots: Iterable[Digest]) -> float:
        now = time.time()
        return min((self._staged.get(digest, now) for digest in roots), default=now)

    async def _write_referrers(self, roots: Mapping[Digest, Root], seen: Collection[Digest] = ()) -> None:
        """See that every manifest has a list of referrers."""
        if self._context.options.referrers:
            for digest, root in roots.items():
                self._context.references.learn(digest, root.data)
            await ReferrersPass(self._context, self.name).write(seen, {*self._pushed, *roots})

    async def _write_lists(self, known: Collection[str] = ()) -> None:
        """Bring the list of tags, of which some are known, up to date, then that of repositories."""
        await converge(self._store, self.name, self._context.retries, self._context.options.order, known)
        if self._context.options.catalog:
            await add_to_catalog(self._context, self.name)

    async def _is_there(self) -> bool:
        listing = self._store.list(layout.repository_prefix(self.name))
        async with aclosing_if_possible(listing):
            async for info in listing:
                found = layout.parse_key(info.key)
                if found and found.name == self.name:
                    return True
        return False


@runtime_checkable
class Linker(Protocol):
    """An object store that can show one file under two keys."""

    async def link(self, from_key: str, to_key: str) -> bool:
        """Whether `to_key` is now the same file; False when there is nothing to link."""
        ...

    async def are_links(self, folder: str, names: Mapping[str, str]) -> bool:
        """Whether in one folder each of these names is the same file as the other that it is mapped to."""
        ...


class Root(NamedTuple):
    """A manifest to be published, and its bytes."""

    desc: Descriptor
    data: bytes


@dataclass(slots=True)
class Publication:
    """Tags to be pointed at manifests, and what was seen to be stored under both."""

    context: RegistryContext
    name: str
    tags: Mapping[str, Digest]
    roots: Mapping[Digest, Root]
    here: Mapping[str, ObjectInfo]  # by tag and by digest
    begun: float = field(default_factory=time.time)  # when what the tags need was seen to be there; since the epoch

    _linker: Linker | None = field(init=False)

    def __post_init__(self) -> None:
        self._linker = self.context.store if isinstance(self.context.store, Linker) else None

    async def write_roots(self) -> None:
        """Write the manifests under their digests where they are not."""
        await for_each(list(self.roots), self._write_root, self.context.workers)

    async def write_tags(self) -> None:
        """Point the tags at the manifests, where they do not yet."""
        await for_each(list(self.tags), self._write_tag, self.context.workers)

    async def _write_root(self, digest: Digest) -> None:
        root = self.roots[digest]
        if await self._is_kept(digest, root):
            return
        key, headers = layout.manifest_key(self.name, digest), layout.content_headers(root.desc)
        await self.context.write(key, root.data, headers)
        await self.context.check_type(key, headers.content_type)
        failpoint("manifest.digest")

    async def _is_kept(self, digest: Digest, root: Root) -> bool:
        """Whether a manifest is there under its digest, and too young to be collected."""
        found = self.here.get(digest)
        if found is None or not may_hold(found, root.data):
            return False
        if not self.context.is_stale(found):
            return True
        return await self.context.touch(found.key, layout.content_headers(root.desc))

    async def _write_tag(self, tag: str) -> None:
        if not 0 <= time.time() - self.begun < self.context.stale_after:
            raise StoreError(
                f"{self.name}:{tag} at {self.context.store}: its content was checked too long ago; check it again",
                code=OUTDATED,
            )
        root = self.roots[self.tags[tag]]
        if self._points_at(tag, root) or await self._holds_already(tag, root):
            return  # a tag that is not written anew keeps its date
        key, from_key = (layout.manifest_key(self.name, reference) for reference in (tag, root.desc.digest))
        if self._linker is None or not await self._linker.link(from_key, key):
            await self.context.write(key, root.data, layout.tag_headers(root.desc))
        failpoint("tag")

    def _points_at(self, tag: str, root: Root) -> bool:
        """Whether the tag's object has the ETag and size of the manifest's, which was there before."""
        by_digest, by_tag = self.here.get(root.desc.digest), self.here.get(tag)
        if by_digest is None or by_tag is None or not may_hold(by_digest, root.data):
            return False
        return (by_digest.etag, by_digest.size) == (by_tag.etag, by_tag.size)

    async def _holds_already(self, tag: str, root: Root) -> bool:
        """Whether a tag's object has the manifest's bytes, where its ETag does not tell: no MD5, as under KMS."""
        by_digest, by_tag = self.here.get(root.desc.digest), self.here.get(tag)
        if by_digest is None or by_tag is None or by_tag.size != len(root.data) or self._linker is not None:
            return False
        if md5_in_etag(by_digest.etag) == md5_of(root.data):
            return False  # ETags tell, and the tag's is another
        try:
            async with self.context.store.open(by_tag.key, length=by_tag.size) as (info, stream):
                data = b"".join([chunk async for chunk in stream])
        except (NotFound, StoreError):
            return False
        return data == root.data and info.content_type == root.desc.media_type


def _digests(references: Iterable[str]) -> list[Digest]:
    return [Digest(reference) for reference in references if is_digest(reference)]
