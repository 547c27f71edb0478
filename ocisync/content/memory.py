"""A whole repository in memory: the smallest store that keeps the seam's promises, for tests and for readers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from ocisync.content.capabilities import RepositoryListing
from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream, Opener
from ocisync.content.verify import check_bytes, verify_stream
from ocisync.errors import NotFound
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest


class MemoryRepository:
    """A Source, Target, Untagger and Inventory."""

    tags_any_content = False

    def __init__(self) -> None:
        self.content: dict[Digest, tuple[Descriptor, bytes]] = {}
        self.tagged: dict[str, Descriptor] = {}

    async def tags(self) -> Sequence[str]:
        """Every tag in lexical order."""
        return sorted(self.tagged)

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of a tag or digest."""
        if is_digest(reference) and (found := self.content.get(Digest(reference))):
            return found[0]
        if reference in self.tagged:
            return self.tagged[reference]
        raise NotFound(f"{reference}: no such tag or digest")

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream content by its digest."""
        if desc.digest not in self.content:
            raise NotFound(f"{desc.digest}: no such content")
        async with BytesOpener(self.content[desc.digest][1])(start) as stream:
            yield stream

    async def exists(self, desc: Descriptor) -> bool:
        """Whether content of this digest and size is here."""
        held = self.content.get(desc.digest)
        return held is not None and len(held[1]) == desc.size

    async def push(self, desc: Descriptor, opener: Opener) -> None:
        """Store verified content."""
        if desc.data is not None:
            data = check_bytes(desc.data, desc)
        else:
            async with opener(0) as stream:
                data = b"".join([chunk async for chunk in verify_stream(stream, desc)])
        self.content[desc.digest] = (Descriptor(desc.media_type, desc.digest, desc.size), data)

    def can_resume_upload(self, size: int) -> bool:
        """Nothing is cut off here."""
        del size
        return True

    async def publish(self, tags: Mapping[str, Descriptor]) -> None:
        """Point tags at manifests."""
        for tag, desc in tags.items():
            if desc.data is not None:
                self.content[desc.digest] = (desc, check_bytes(desc.data, desc))
            self.tagged[tag] = self.content[desc.digest][0]

    async def holds_tags(self, tags: Mapping[str, Digest]) -> bool:
        """Whether each tag points at this manifest, which is held."""
        held = {tag: desc.digest for tag, desc in self.tagged.items() if desc.digest in self.content}
        return tags.items() <= held.items()

    async def list_manifests(self) -> RepositoryListing:
        """Tags, and the manifests held."""
        tags = {tag: desc.digest for tag, desc in self.tagged.items()}
        return RepositoryListing(
            tags, {digest: desc.size for digest, (desc, _) in self.content.items() if desc.is_manifest}
        )

    async def list_all(self, outline: RepositoryListing | None = None) -> RepositoryListing:
        """Everything held."""
        outline = outline or await self.list_manifests()
        return replace(outline, sizes={digest: len(data) for digest, (_, data) in self.content.items()})

    async def untag(self, tags: Sequence[str]) -> None:
        """Forget tags."""
        for tag in tags:
            self.tagged.pop(tag, None)

    async def delete(self, digests: Sequence[Digest]) -> None:
        """Forget content."""
        for digest in digests:
            self.content.pop(digest, None)
