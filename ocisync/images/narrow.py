"""A source whose indexes list the wanted images only: new indexes, with digests of their own."""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from ocisync.content.memory import bytes_opener
from ocisync.content.protocols import ByteStream, Source
from ocisync.content.referrers import Referring
from ocisync.content.verify import read_manifest
from ocisync.errors import LimitExceeded
from ocisync.spec.descriptor import Descriptor
from ocisync.spec.digest import Digest, is_digest
from ocisync.spec.manifest import parse_manifest
from ocisync.spec.platform_choice import PlatformChoice, narrowed_index, wanted_entries

_MAX_DEPTH = 8  # nested indexes
_MOST_REMEMBERED = 10_000  # indexes

Narrowed = MutableMapping[tuple[Digest, str], Descriptor]
"""What indexes became, by their old digests and the choice's scope: they need not be read again."""


@dataclass
class NarrowedSource:
    """A Source; what is no index, and an index of wanted images only, stays as it is."""

    source: Source
    choice: PlatformChoice
    remembered: Narrowed = field(default_factory=dict)
    _origins: dict[Digest, Descriptor] = field(default_factory=dict)  # new digest -> the old index

    async def tags(self) -> Sequence[str]:
        """The source's tags."""
        return await self.source.tags()

    async def resolve(self, reference: str) -> Descriptor:
        """The new index's descriptor, or what the source has."""
        if is_digest(reference) and reference in self._origins:
            return await self._narrowed(self._origins[Digest(reference)])
        found = await self.source.resolve(reference)
        if not found.is_index:
            return found
        known = self.remembered.get((found.digest, self.choice.scope))
        if known is None:
            known = replace(await self._narrowed(found), data=None)
            self._remember(found, known)
        if known.digest != found.digest:
            self._origins[known.digest] = found
        return known

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """What the source tells; nothing refers to a new index."""
        return await self.source.referrers(digest) if isinstance(self.source, Referring) else ()

    @asynccontextmanager
    async def open(self, desc: Descriptor) -> AsyncIterator[ByteStream]:
        """Stream a new index, or what the source has."""
        if desc.digest not in self._origins:
            async with self.source.open(desc) as stream:
                yield stream
            return
        made = await self._narrowed(self._origins[desc.digest])
        async with bytes_opener(made.data or b"")() as stream:
            yield stream

    async def _narrowed(self, desc: Descriptor, depth: int = 0) -> Descriptor:
        """What an index becomes, with its bytes; the indexes in it are narrowed too."""
        if depth > _MAX_DEPTH:
            raise LimitExceeded(f"{desc.digest}: indexes nested more than {_MAX_DEPTH} deep")
        raw = await read_manifest(self.source, desc)
        kept: dict[Digest, Descriptor] = {}
        entries = parse_manifest(raw, desc.media_type).children
        for entry in wanted_entries(entries, self.choice):
            inner = await self._narrowed(entry, depth + 1) if entry.is_index else entry
            kept[entry.digest] = inner
            if inner.digest != entry.digest:
                self._origins[inner.digest] = entry
        if all(entry.digest in kept and kept[entry.digest].digest == entry.digest for entry in entries):
            return desc.with_data(raw)
        return narrowed_index(raw, desc.media_type, kept)

    def _remember(self, found: Descriptor, made: Descriptor) -> None:
        while len(self.remembered) >= _MOST_REMEMBERED:
            del self.remembered[next(iter(self.remembered))]
        self.remembered[found.digest, self.choice.scope] = made
