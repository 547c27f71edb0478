"""Lists of referrers: one for every manifest of a repository, possibly empty.

All of them or none: oras takes one list that is there as a promise for all manifests. A manifest gets its own list only
after it was entered into the list of its subject. So a manifest that has a list is entered already, and two listings
(manifests, lists) show which manifests are new.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ocisync.content.concurrency import for_each, for_each_wave
from ocisync.content.object_store import ObjectInfo, ObjectStore
from ocisync.errors import NotFound, OcisyncError, PreconditionFailed, StoreError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest, md5_in_etag
from ocisync.model.digest_tags import fallback_tag
from ocisync.model.manifest import MAX_MANIFEST_SIZE, parse_manifest
from ocisync.model.subjects import Entries, Entry, format_referrers, read_entries
from ocisync.stores.static import layout
from ocisync.stores.static.derived import DerivedObject, may_hold
from ocisync.stores.static.registry_context import RegistryContext

_EMPTY = format_referrers({})


@dataclass(slots=True)
class ReferrersPass:
    """One repository's lists, brought up to date. `write` adds what is new, `derive` makes all of them anew."""

    context: RegistryContext
    name: str
    _kept: dict[Digest, ObjectInfo] = field(default_factory=dict)  # lists that are there
    _manifests: frozenset[Digest] = frozenset()
    _changed: list[str] = field(default_factory=list)  # keys

    async def write(self, seen: Collection[Digest] = (), own: Collection[Digest] = ()) -> list[str]:
        """Enter manifests that have no list yet into their subjects' lists, then give them one; the keys written.

        `seen` are the manifests that were there a moment ago. If those without a list are all among `own`, which this
        writer brought, no more is asked; others may have lost theirs to a collector that is about to take them too.
        """
        if seen:
            await self._list_lists()
            self._manifests = frozenset(seen)
        if not seen or not self._manifests - self._kept.keys() <= set(own):
            await self._list_all()
        fresh = self._manifests - self._kept.keys()
        entries = await self._find_entries(fresh)
        if entries and not await self.context.is_conditional():
            return await self.derive()
        await self._add_in_waves({*fresh, *entries}, entries)
        return self._changed

    async def derive(self) -> list[str]:
        """Make every list what the manifests say, remove those of manifests that are gone; the keys that changed."""
        for _ in range(self.context.retries.limit):
            before = len(self._changed)
            await self._derive_once()
            if len(self._changed) == before:
                return self._changed
            await self.context.retries.back_off(0)
        raise StoreError(f"{self.name} at {self.context.store}: other writers keep changing its lists of referrers")

    async def _derive_once(self) -> None:
        await self._list_all()
        entries = await self._find_entries(self._manifests)
        wanted = {*self._manifests, *entries}
        await for_each(sorted(wanted), lambda digest: self._rewrite(digest, entries), self.context.workers)
        await self._remove(self._kept.keys() - wanted)

    async def remove_all(self) -> list[str]:
        """Remove every list: the registry is to have none."""
        await self._list_all()
        await self._remove(self._kept.keys())
        return self._changed

    async def _list_all(self) -> None:
        """The lists first: whoever has one had its manifest before."""
        await self._list_lists()
        manifests = await self.context.list_below(f"{layout.repository_prefix(self.name)}{layout.MANIFESTS}/")
        self._manifests = frozenset(Digest(text) for text in manifests if is_digest(text))

    async def _list_lists(self) -> None:
        kept = await self.context.list_below(f"{layout.repository_prefix(self.name)}{layout.REFERRERS}/")
        self._kept = {Digest(text): info for text, info in kept.items() if is_digest(text)}

    async def _find_entries(self, digests: Collection[Digest]) -> dict[Digest, dict[Digest, Entry]]:
        """By subject, what refers to it among these manifests."""
        known = self.context.references
        await for_each(known.list_unknown(digests), self._learn, self.context.workers)
        found: dict[Digest, dict[Digest, Entry]] = {}
        for digest in digests:
            if (reference := known.get(digest)) is not None:
                found.setdefault(reference.subject, {})[digest] = reference.entry
        return found

    async def _learn(self, digest: Digest) -> None:
        raw = b""
        try:
            async with self.context.store.open(layout.manifest_key(self.name, digest)) as (info, stream):
                if info.size <= MAX_MANIFEST_SIZE:
                    raw = b"".join([chunk async for chunk in stream])
        except NotFound:
            return  # it went away meanwhile
        self.context.references.learn(digest, raw)

    async def _add_in_waves(self, wanted: Collection[Digest], entries: Mapping[Digest, Entries]) -> None:
        """Write lists, each after the list in which its own manifest stands."""
        referrers: dict[Digest | None, list[Digest]] = {}
        for digest in wanted:
            subject = self._subject(digest)
            referrers.setdefault(subject if subject in wanted else None, []).append(digest)

        async def visit(digest: Digest) -> Collection[Digest]:
            await self._add(digest, entries.get(digest, {}))
            return referrers.get(digest, ())

        await for_each_wave(referrers.get(None, ()), visit, self.context.workers)

    def _subject(self, digest: Digest) -> Digest | None:
        reference = self.context.references.get(digest)
        return reference.subject if reference else None

    async def _add(self, digest: Digest, entries: Entries) -> None:
        """Add entries to a list that may be there."""

        async def render(current: bytes | None) -> bytes:
            return format_referrers(read_entries(current) | dict(entries))

        derived = self._list_object(digest)
        if entries or digest in self._kept:
            if await derived.converge(render, self.context.retries):
                self._changed.append(derived.key)
            return
        with suppress(PreconditionFailed):  # another writer gave it one
            await derived.write(_EMPTY, "")
            self._changed.append(derived.key)

    async def _rewrite(self, digest: Digest, entries: Mapping[Digest, Entries]) -> None:
        derived, body = self._list_object(digest), format_referrers(entries.get(digest, {}))
        found = self._kept.get(digest)
        etag = found.etag if found else ""
        if found is not None and may_hold(found, body):
            etag, present, _ = (etag, body, "") if md5_in_etag(found.etag) else await derived.read()
            if present == body:
                return
        self._changed.append(derived.key)
        with suppress(PreconditionFailed):  # the next round looks again
            await derived.write(body, etag)

    async def _remove(self, digests: Iterable[Digest]) -> None:
        keys = [layout.referrers_key(self.name, digest) for digest in sorted(digests)]
        if keys:
            await self.context.store.delete(keys)
        self._changed.extend(keys)

    def _list_object(self, digest: Digest) -> DerivedObject:
        key = layout.referrers_key(self.name, digest)
        return DerivedObject(self.context.store, key, layout.REFERRERS_HEADERS, "referrers")


async def list_referrers(store: ObjectStore, name: str, subject: Digest) -> Sequence[Descriptor]:
    """What refers to a manifest of a repository, in the order of the digests.

    Raises:
        StoreError: its list is damaged.
    """
    for key in (layout.referrers_key(name, subject), layout.manifest_key(name, fallback_tag(subject))):
        try:
            async with store.open(key) as (info, stream):
                raw = b"".join([chunk async for chunk in stream]) if info.size <= MAX_MANIFEST_SIZE else b""
        except NotFound:
            continue
        try:
            list_below = parse_manifest(raw, media_types.OCI_INDEX).children
        except OcisyncError as exc:
            raise StoreError(
                f"{key} at {store}: no list of referrers: {exc.message}; ocisync reconcile repairs it"
            ) from exc
        return [desc for _, desc in sorted({desc.digest: desc for desc in list_below}.items())]
    return ()
