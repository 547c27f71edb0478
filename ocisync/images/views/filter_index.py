"""A source whose indexes list the wanted images only: new indexes, with digests of their own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ocisync.content.capabilities import ReferrerLister
from ocisync.content.fact_cache import FactCache
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Source
from ocisync.content.verify import read_manifest
from ocisync.errors import NotFound
from ocisync.images.inspect import load_manifest, read_platform
from ocisync.model.descriptor import Descriptor, descriptor_from_json, descriptor_to_json
from ocisync.model.digest import Digest, is_digest
from ocisync.model.digest_tags import is_digest_tag
from ocisync.model.manifest import check_index_depth, parse_manifest
from ocisync.model.platform import Platform
from ocisync.model.platform_filter import PlatformChoice, narrow_index, select_entries


@dataclass
class FilteredIndexView:
    """A Source; what is no index, and an index of wanted images only, stays as it is."""

    brings_referrers = False

    source: Source
    choice: PlatformChoice
    notes: FactCache
    _origins: dict[Digest, Descriptor] = field(default_factory=dict)  # new digest -> the old index

    async def tags(self) -> Sequence[str]:
        """The source's tags."""
        return await self.source.tags()

    async def resolve(self, reference: str) -> Descriptor:
        """The new index's descriptor, or what the source has.

        Raises:
            NotFound: `platform.missing`: the choice needs all its platforms, and the image lacks one.
        """
        if is_digest(reference) and reference in self._origins:
            return await self._narrow(self._origins[Digest(reference)])
        found = await self.source.resolve(reference)
        is_image = not is_digest_tag(reference) and (found.is_index or not is_digest(reference))
        if self.choice.needs_all and is_image:
            await self._check_platforms(found)
        if not found.is_index:
            return found
        known = await self._look_up(found)
        if known.digest != found.digest:
            self._origins[known.digest] = found
        return known

    async def _check_platforms(self, root: Descriptor) -> None:
        offered = await self._list_platforms(root)
        if missing := self.choice.find_missing(offered):
            wanted = ", ".join(map(str, missing))
            offers = ", ".join(map(str, offered)) or "none named"
            what = f"the index offers {offers}" if root.is_index else f"the image is for {offers}"
            raise NotFound(f"{root.digest}: no image for {wanted}; {what}", code="platform.missing")

    async def _list_platforms(self, root: Descriptor, depth: int = 1) -> list[Platform | None]:
        """The platforms of an image, or of those that an index lists; None for what names none, such as artifacts."""
        check_index_depth(root, depth)
        if not root.is_index:
            return [root.platform or await read_platform(self.source, root)]
        offered: list[Platform | None] = []
        for entry in (await load_manifest(self.source, root)).children:
            if entry.is_manifest and not entry.is_attestation:
                offered += await self._list_platforms(entry, depth + 1)
        return offered

    async def _look_up(self, found: Descriptor) -> Descriptor:
        """What an index becomes; it is read once, and then never again."""
        kind = f"narrowed {self.choice.scope}"
        fact = (await self.notes.get_facts(kind, [found.digest])).get(found.digest)
        if fact is not None:
            return descriptor_from_json(json.loads(fact))
        made = await self._narrow(found)
        await self.notes.put_facts(kind, {found.digest: json.dumps(descriptor_to_json(made))})
        return made

    def find_origin(self, desc: Descriptor) -> Descriptor:
        """The index that a new one was made from."""
        return self._origins.get(desc.digest, desc)

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """What the source tells; nothing refers to a new index."""
        return await self.source.referrers(digest) if isinstance(self.source, ReferrerLister) else ()

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream a new index, or what the source has."""
        if desc.digest not in self._origins:
            async with self.source.open(desc, start) as stream:
                yield stream
            return
        made = await self._narrow(self._origins[desc.digest])
        async with BytesOpener(made.data or b"")() as stream:
            yield stream

    async def _narrow(self, desc: Descriptor, depth: int = 1) -> Descriptor:
        """What an index becomes, with its bytes; the indexes in it are narrowed too."""
        check_index_depth(desc, depth)
        raw = await read_manifest(self.source, desc)
        kept: dict[Digest, Descriptor] = {}
        entries = parse_manifest(raw, desc.media_type).children
        for entry in select_entries(entries, self.choice):
            inner = await self._narrow(entry, depth + 1) if entry.is_index else entry
            kept[entry.digest] = inner
            if inner.digest != entry.digest:
                self._origins[inner.digest] = entry
        if all(entry.digest in kept and kept[entry.digest].digest == entry.digest for entry in entries):
            return desc.with_data(raw)
        return narrow_index(raw, desc.media_type, kept)
