"""Is every image whole, with what a bundle brings and what the target has? Asked before anything is published."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from ocisync.bundles.bundle_source import BundleSource
from ocisync.bundles.inventory import BundledImage, BundleInventory
from ocisync.bundles.verify_volumes import OpenBundle
from ocisync.content.capabilities import Inventory as ListingTarget
from ocisync.content.capabilities import RepositoryListing
from ocisync.content.concurrency import for_each, for_each_wave
from ocisync.content.repository import Target
from ocisync.content.verify import read_manifest
from ocisync.errors import NotFound, VerificationError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.manifest import parse_manifest

_LOOKS = 16  # at a time


@dataclass(slots=True)
class RepositoryState:
    """What is known of one repository before it is written to."""

    name: str  # in the bundle
    images: list[BundledImage]
    lacking: dict[BundledImage, list[Digest]] = field(default_factory=dict)  # images that would not be whole
    stale: list[BundledImage] = field(default_factory=list)  # whole, and not at the target yet as far as is known
    needed: array[int] = field(default_factory=lambda: array("I"))  # of whole images: the numbers of blobs

    @property
    def whole(self) -> list[BundledImage]:
        """Images that lack nothing."""
        return [image for image in self.images if image not in self.lacking]


async def look(
    bundle: OpenBundle, name: str, images: Sequence[BundledImage], target: Target, rename: Callable[[str], str]
) -> RepositoryState:
    """Look at everything that a repository's images need; `rename`: what tags are called at the target.

    Raises:
        OcisyncError: the target cannot be asked.
    """
    listing = await target.list_all() if isinstance(target, ListingTarget) else None
    walk = _Walk(bundle, BundleSource(bundle, name, images, target), target, listing)
    roots = {digest for image in images for digest in (image.digest, *image.referrers)}
    await for_each_wave(roots, walk.visit, _LOOKS)
    state = RepositoryState(name, list(images))
    blobs = bundle.map.inventory.blobs
    all_needed: set[Digest] = set()

    async def judge(image: BundledImage) -> None:
        needed = walk.closure((image.digest, *image.referrers))
        if lacking := sorted(digest for digest in needed if digest in walk.lacking):
            state.lacking[image] = lacking
            return
        all_needed.update(needed)
        is_brought = any(digest in blobs and blobs[digest].volume for digest in needed)
        tag = rename(image.tag)
        present = listing.tags.get(tag) if listing is not None else await _resolve(target, tag)
        if is_brought or present != image.digest:
            state.stale.append(image)

    await for_each(images, judge, _LOOKS)
    state.needed.extend(blobs.number(digest) for digest in all_needed if digest in blobs)
    return state


async def _resolve(target: Target, tag: str) -> Digest | None:
    try:
        return (await target.resolve(tag)).digest
    except NotFound:
        return None


@dataclass
class _Walk:
    """Visits manifests, each once, and notes what is neither in the bundle nor at the target."""

    bundle: OpenBundle
    source: BundleSource
    target: Target
    listing: RepositoryListing | None
    lacking: set[Digest] = field(default_factory=set)
    children: dict[Digest, tuple[Digest, ...]] = field(default_factory=dict)  # of manifests

    async def visit(self, digest: Digest) -> Iterable[Digest]:
        """Look at one manifest; the manifests below it."""
        inventory = self.bundle.map.inventory
        desc = inventory.describe(digest)
        if not await self._is_here(desc):
            self.lacking.add(digest)
            return ()
        try:
            manifest = parse_manifest(await read_manifest(self.source, desc), desc.media_type)
        except (NotFound, VerificationError):
            self.lacking.add(digest)
            return ()
        omitted = self._omitted(digest, inventory)
        wanted = [child for child in manifest.children if child.digest not in omitted]
        self.children[digest] = tuple(child.digest for child in wanted)
        below = [child for child in wanted if self._is_manifest(child)]
        blobs = {child.digest: child for child in wanted if not self._is_manifest(child)}
        await for_each(list(blobs.values()), self._look_at_blob, _LOOKS)
        return [child.digest for child in below]

    def closure(self, roots: Iterable[Digest]) -> set[Digest]:
        """Everything at or below some manifests."""
        found: set[Digest] = set()
        pending = list(roots)
        while pending:
            digest = pending.pop()
            if digest not in found:
                found.add(digest)
                pending.extend(self.children.get(digest, ()))
        return found

    def _omitted(self, index: Digest, inventory: BundleInventory) -> Collection[Digest]:
        return set(inventory.omitted.get(self.source.name, {}).get(index, ()))

    def _is_manifest(self, desc: Descriptor) -> bool:
        entry = self.bundle.map.inventory.blobs.get(desc.digest)
        return entry is not None and bool(entry.media_type)

    async def _look_at_blob(self, desc: Descriptor) -> None:
        if not await self._is_here(desc) and not desc.is_elsewhere:
            self.lacking.add(desc.digest)

    async def _is_here(self, desc: Descriptor) -> bool:
        """Whether it is in the bundle, or at the target, with the size that is named."""
        entry = self.bundle.map.inventory.blobs.get(desc.digest)
        if entry is not None and entry.volume:
            return entry.size == desc.size
        if self.listing is not None:
            return self.listing.sizes.get(desc.digest) == desc.size
        return await self.target.exists(desc)


def explain(states: Iterable[RepositoryState], inventory: BundleInventory, most: int = 10) -> str:
    """Which images lack what, and which bundles have that."""
    lines: list[str] = []
    bundles: dict[str, int] = {}
    count = 0
    for state in states:
        for image, lacking in state.lacking.items():
            count += 1
            origins = {inventory.bringer(digest) for digest in lacking if digest in inventory.blobs}
            for origin in origins:
                bundles[origin] = bundles.get(origin, 0) + 1
            if len(lines) < most:
                lines.append(f"{image} lacks {lacking[0]}" + (f" and {len(lacking) - 1} more" if lacking[1:] else ""))
    more = f"; and {count - len(lines)} images more" if count > len(lines) else ""
    where = f"; apply {', '.join(sorted(bundles))} first, or have a bundle made on an earlier base" if bundles else ""
    return "; ".join(lines) + more + where
