"""An archive's or layout's images by their tags alone, as a rule means them: `team/app:1.0` in the file is `1.0`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from ocisync.content.repository import ByteStream, Source
from ocisync.errors import InputError, NotFound
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import is_digest
from ocisync.model.image_name import is_tag, split_tag


@dataclass
class ByTagView:
    """A Source. With a name, only the images of that name; without, all, as long as no tag is meant twice."""

    source: Source
    name: str

    async def tags(self) -> Sequence[str]:
        """The tags."""
        return sorted(await self._by_tag())

    async def resolve(self, reference: str) -> Descriptor:
        """What a tag or digest means."""
        if is_digest(reference):
            return await self.source.resolve(reference)
        known = await self._by_tag()
        if reference not in known:
            raise NotFound(f"{self.name or 'the archive'}: there is no image with the tag {reference}")
        return await self.source.resolve(known[reference])

    def open(self, desc: Descriptor, start: int = 0) -> AbstractAsyncContextManager[ByteStream]:
        """Content, as the source has it."""
        return self.source.open(desc, start)

    async def _by_tag(self) -> dict[str, str]:
        """The source's names by their tags.

        Raises:
            InputError: two images have the same tag under different names.
        """
        found: dict[str, str] = {}
        for full in await self.source.tags():
            name, tag = ("", full) if is_tag(full) else split_tag(full)
            if not is_tag(tag) or (self.name and not _is_named(name, self.name)):
                continue
            if tag in found:
                raise InputError(
                    f"{found[tag]} and {full} have one tag: name the images that are meant behind the file, as in "
                    f"oci:DIR:{name or 'team/app'}",
                    code="name.ambiguous",
                )
            found[tag] = full
        return found


def _is_named(name: str, wanted: str) -> bool:
    """Whether a name is the wanted one, with its registry's host or without."""
    return name == wanted or name.endswith(f"/{wanted}")
