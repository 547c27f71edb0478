"""A source seen through one platform: every reference to a multi-platform image means its image for that platform."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from ocisync.content.capabilities import Converter, LayerSink, ReferrerLister
from ocisync.content.repository import ByteStream, Source
from ocisync.errors import NotFound
from ocisync.images.inspect import pick_platform, read_platform
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest
from ocisync.model.digest_tags import is_digest_tag
from ocisync.model.platform import Platform, is_same_platform


def view_platform(source: Source, platform: Platform) -> PlatformView:
    """The same source for one platform; a Converter when it is one."""
    return PlatformConverterView(source, platform) if isinstance(source, Converter) else PlatformView(source, platform)


class PlatformView:
    """A Source of images for one platform."""

    def __init__(self, source: Source, platform: Platform) -> None:
        self.source = source
        self._platform = platform
        self._origins: dict[Digest, Descriptor] = {}  # image -> the index that it was taken from

    async def tags(self) -> Sequence[str]:
        """The source's tags."""
        return await self.source.tags()

    async def resolve(self, reference: str) -> Descriptor:
        """The image for the platform; a digest means what it names, and a tag named for a digest what it holds.

        Raises:
            NotFound: `platform.missing`: there is none for it.
        """
        found = await self.source.resolve(reference)
        if is_digest_tag(reference) or (is_digest(reference) and not found.is_index):
            return found
        image = await self._check(await pick_platform(self.source, found, str(self._platform)))
        self._origins[image.digest] = found
        return image

    def find_origin(self, desc: Descriptor) -> Descriptor:
        """The index that an image was taken from."""
        return self._origins.get(desc.digest, desc)

    @property
    def brings_referrers(self) -> bool:
        """Whether the source does."""
        return isinstance(self.source, ReferrerLister) and self.source.brings_referrers

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """What the source tells."""
        return await self.source.referrers(digest) if isinstance(self.source, ReferrerLister) else ()

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream what the source has."""
        async with self.source.open(desc, start) as stream:
            yield stream

    async def _check(self, desc: Descriptor) -> Descriptor:
        platform = desc.platform or await read_platform(self.source, desc)
        if platform is not None and not is_same_platform(platform, self._platform):
            told = f"{desc.digest}: the image is for {platform}, not for {self._platform}"
            raise NotFound(told, code="platform.missing")
        return desc


class PlatformConverterView(PlatformView):
    """The same of a source that must be converted."""

    @property
    def variant(self) -> str:
        """The source's."""
        return self.source.variant if isinstance(self.source, Converter) else ""

    def image_of(self, reference: str) -> str:
        """The source's."""
        return self.source.image_of(reference) if isinstance(self.source, Converter) else reference

    async def convert(self, reference: str, sink: LayerSink) -> Descriptor:
        """Convert the image, which must be for the platform."""
        if not isinstance(self.source, Converter):
            return await self.resolve(reference)
        return await self._check(await self.source.convert(reference, sink))
