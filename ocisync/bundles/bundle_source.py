"""A repository of a bundle as a Source: what the bundle has, and what the target has already, as one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from ocisync.bundles.inventory import BundledImage
from ocisync.bundles.verify_volumes import OpenBundle
from ocisync.content.files import FileSection
from ocisync.content.repository import ByteStream, Fetcher, Target
from ocisync.content.threads import RegionStream
from ocisync.content.verify import read_manifest
from ocisync.errors import LeftOut, NotFound
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, is_digest
from ocisync.model.manifest import parse_manifest


class BundleSource:
    """One repository as the mirror holds it. A delta lacks what the target has, so that is read there.

    So the job that applies a bundle is the job that would mirror the same images, with the same order of publication.
    Every byte is verified once more on its way into the target: a volume may be changed after it was checked.
    """

    brings_referrers = True

    def __init__(self, bundle: OpenBundle, name: str, images: Sequence[BundledImage], target: Target) -> None:
        inventory = bundle.map.inventory
        self._bundle = bundle
        self._inventory = inventory
        self.name = name
        self._tags = {image.tag: image.digest for image in images}
        self._referring = {digest for image in images for digest in image.referrers}
        self._omitted = {digest for left_out in inventory.omitted.get(name, {}).values() for digest in left_out}
        self._target = target
        self._subjects: dict[Digest, list[Descriptor]] | None = None

    def __str__(self) -> str:
        return f"{self._inventory.id}: {self.name}"

    async def tags(self) -> Sequence[str]:
        """Every tag."""
        return sorted(self._tags)

    async def resolve(self, reference: str) -> Descriptor:
        """The descriptor of a tag's or digest's manifest."""
        digest = Digest(reference) if is_digest(reference) else self._tags.get(reference)
        if digest is None or digest not in self._inventory.blobs:
            raise NotFound(f"{self}:{reference}: not in the bundle")
        return self._inventory.describe(digest)

    async def referrers(self, digest: Digest) -> Sequence[Descriptor]:
        """What refers to a manifest."""
        if self._subjects is None:
            self._subjects = await self._find_subjects()
        return self._subjects.get(digest, ())

    @asynccontextmanager
    async def open(self, desc: Descriptor, start: int = 0) -> AsyncIterator[ByteStream]:
        """Stream content by its digest; from the target where it is not in the bundle."""
        sections = self._bundle.sections(desc.digest)
        if sections is not None:
            async with aclosing(_stream(sections, start)) as stream:
                yield stream
            return
        if desc.digest in self._omitted:
            raise LeftOut(f"{self}: {desc.digest} is left out on purpose", attestation=True)  # so nobody is warned
        if not isinstance(self._target, Fetcher):
            raise NotFound(f"{self}: {desc.digest}: not in the bundle")
        async with self._target.open(desc, start) as theirs:
            yield theirs

    async def _find_subjects(self) -> dict[Digest, list[Descriptor]]:
        found: dict[Digest, list[Descriptor]] = {}
        for digest in sorted(self._referring):
            desc = self._inventory.describe(digest)
            manifest = parse_manifest(await read_manifest(self, desc), desc.media_type)
            if manifest.subject is not None:
                kind = manifest.artifact_type or (manifest.config.media_type if manifest.config else None)
                annotations = dict(manifest.annotations or {})
                told = replace(desc, artifact_type=kind, annotations=annotations)
                found.setdefault(manifest.subject.digest, []).append(told)
        return found


async def _stream(sections: Sequence[FileSection], start: int) -> AsyncGenerator[bytes, None]:
    for section in sections:
        if start < section.size:
            async for chunk in RegionStream(section, start):
                yield chunk
        start = max(0, start - section.size)
