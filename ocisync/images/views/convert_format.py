"""A source seen through other media types: docker's images as OCI's, or the other way round.

Only manifests are rewritten; configurations and layers keep their bytes and digests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, MutableMapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace

from ocisync.content.concurrency import SingleFlight
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Source
from ocisync.content.verify import read_manifest
from ocisync.errors import LeftOut
from ocisync.images.views.signatures import check_unsigned
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest
from ocisync.model.digest_tags import is_digest_tag
from ocisync.model.manifest import Manifest, check_index_depth, parse_manifest
from ocisync.model.media_type_families import Format, is_format, rewrite

_MOST_REMEMBERED = 10_000  # images

Remembered = MutableMapping[tuple[Digest, Format], Descriptor]
"""What images became, by their old digests: they need not be read again."""


@dataclass
class ConvertedSource:
    """A Source whose manifests are of one family; what is of that family already keeps its digest."""

    source: Source
    wanted: Format
    drop_signatures: bool = False  # convert signed images too; their signatures stay behind
    remembered: Remembered = field(default_factory=dict)
    _origins: dict[Digest, Descriptor] = field(default_factory=dict)  # new digest -> the old manifest
    _flights: SingleFlight[Digest, Descriptor] = field(default_factory=SingleFlight)

    async def tags(self) -> Sequence[str]:
        """The source's tags; those that hold signatures only when they are not to be dropped."""
        tags = await self.source.tags()
        return [tag for tag in tags if not is_digest_tag(tag)] if self.drop_signatures else tags

    async def resolve(self, reference: str) -> Descriptor:
        """The rewritten image's descriptor, or the old one where nothing has to change.

        Raises:
            InputError: `image.signed`: its signatures would not fit any more.
            UnsupportedManifest: docker's media types have none for something in it; or it is schema 1.
        """
        if is_digest(reference) and reference in self._origins:
            return await self._convert(self._origins[Digest(reference)], 1)
        found = await self.source.resolve(reference)
        known = self.remembered.get((found.digest, self.wanted))
        if known is not None:
            self._origins[known.digest] = found
            return known
        made = await self._convert(found, 1)
        self._remember(found, made)
        return made

    def find_origin(self, desc: Descriptor) -> Descriptor:
        """The manifest that a rewritten one was made from."""
        return self._origins.get(desc.digest, desc)

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream a rewritten manifest, or what the source has."""
        if not desc.is_manifest or not await self._is_made(desc.digest):
            async with self.source.open(desc, start) as stream:
                yield stream
            return
        made = await self._rewrite(self._origins[desc.digest], 1)
        async with BytesOpener(made.data or b"")() as stream:
            yield stream

    async def _is_made(self, digest: Digest) -> bool:
        """Whether the view made this; the children of remembered images are known once these are read again."""
        if digest not in self._origins:
            for origin in list(self._origins.values()):
                await self._convert(origin, 1)
        return digest in self._origins and self._origins[digest].digest != digest

    async def _convert(self, desc: Descriptor, depth: int) -> Descriptor:
        """What a manifest becomes, without its bytes; each is looked at once."""
        check_index_depth(desc, depth)

        async with self._flights.turn(desc.digest) as turn:
            if not turn.is_done:
                made = await self._rewrite(desc, depth)
                self._origins[made.digest] = desc
                turn.result = replace(desc, media_type=made.media_type, digest=made.digest, size=made.size, data=None)
            return turn.result

    async def _rewrite(self, desc: Descriptor, depth: int) -> Descriptor:
        raw = await read_manifest(self.source, desc)
        manifest = parse_manifest(raw, desc.media_type)
        made = await self._convert_children(manifest, depth)
        if is_format(manifest, self.wanted) and all(old == new.digest for old, new in made.items()):
            return desc.with_data(raw)
        if not self.drop_signatures:
            await check_unsigned(self.source, desc, manifest)
        return rewrite(raw, manifest, self.wanted, made)

    async def _convert_children(self, manifest: Manifest, depth: int) -> dict[Digest, Descriptor]:
        if not manifest.is_index:
            return {}
        wanted = [child for child in manifest.children if not (self.drop_signatures and child.is_attestation)]
        made: dict[Digest, Descriptor] = {}
        for child in wanted:
            with suppress(LeftOut):  # an archive names it, and it was not saved with the others: the new index does not
                made[child.digest] = await self._convert(child, depth + 1) if child.is_manifest else child
        if wanted and not made:
            raise LeftOut(f"none of the index's {len(wanted)} images was saved with it")
        return made

    def _remember(self, found: Descriptor, made: Descriptor) -> None:
        while len(self.remembered) >= _MOST_REMEMBERED:
            del self.remembered[next(iter(self.remembered))]
        self.remembered[found.digest, self.wanted] = made
