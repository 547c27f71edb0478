"""The inventory of the next bundle, from what the mirror would hold and what the other side has. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from ocisync.bundles.blob_table import BlobEntry, BlobTable
from ocisync.bundles.inventory import Base, BundledImage, BundleInventory, Removal, bundle_id
from ocisync.bundles.recording import Recording, RepositoryRecord
from ocisync.content.digest_table import BlobList
from ocisync.model.digest import Digest


@dataclass(frozen=True, slots=True)
class BundleDraft:
    """What a bundle is to say and to carry; where each blob lies comes later."""

    images: tuple[BundledImage, ...]
    removed: tuple[Removal, ...]
    omitted: Mapping[str, Mapping[Digest, tuple[Digest, ...]]]
    fresh: BlobList  # what must be carried
    there: BlobTable  # what the base has

    def is_fresh(self, digest: Digest) -> bool:
        """Whether something that an image needs must be carried."""
        return self.fresh.blobs.size(digest) is not None and digest not in self.there

    def changes(self, base: BundleInventory | None) -> bool:
        """Whether the other side would be another one afterwards."""
        if base is None or self.fresh or self.images != base.images:
            return True
        return {(one.name, one.tag) for one in self.removed} != {(one.name, one.tag) for one in base.removed}

    def is_said_by(self, inventory: BundleInventory, base: Base | None) -> bool:
        """Whether a bundle says and carries just this."""
        removed = {(one.name, one.tag) for one in self.removed} == {(one.name, one.tag) for one in inventory.removed}
        if not removed or (inventory.base, inventory.images) != (base, self.images):
            return False
        count, _ = inventory.blobs.count_carried()
        return count == len(self.fresh) and all(_is_carried(inventory, digest, size) for digest, size in self.fresh)


def draft_bundle(recording: Recording, base: BundleInventory | None, name: str, sequence: int) -> BundleDraft:
    """Compare what the mirror would hold with the base.

    A tag that could not be read at its source, or that the rule does not take as it is now, stays as the base has it,
    and so do repositories that no rule of this run is about.
    """
    found = [image for repository in recording.repositories for image in _list_images(repository, recording)]
    kept = _list_kept(recording.repositories, base, {(image.name, image.tag) for image in found})
    images = tuple(sorted((*found, *kept), key=lambda image: (image.name, image.tag)))
    fresh = array("I")  # by number
    carried = bytearray(len(recording.blobs.sizes))  # 1: is in it
    there = BlobTable()
    for number in _list_needed(found, recording):
        digest, size = recording.blobs.digests[number], recording.blobs.sizes[number]
        known = base.blobs.get(digest) if base else None
        if base is not None and known is not None and known.size == size:
            there[digest] = _in_earlier(base, digest)
        else:
            fresh.append(number)
            carried[number] = 1
    if base is not None and kept:  # which of its blobs they need is not known without reading them
        for digest in base.blobs:
            number_here = recording.blobs.digests.find(digest)
            if number_here is None or not carried[number_here]:
                there[digest] = _in_earlier(base, digest)
    gone = {(one.name, tag) for one in recording.repositories for tag in one.gone}
    removed = _list_removed(base, gone, images, bundle_id(name, sequence))
    omitted = {one.name: _list_omitted(one) for one in recording.repositories if one.omitted}
    if base is not None and kept:
        omitted = {**base.omitted, **omitted}  # type: ignore[dict-item]
    return BundleDraft(images, removed, omitted, BlobList(recording.blobs, fresh), there.sort())


def _is_carried(inventory: BundleInventory, digest: Digest, size: int) -> bool:
    entry = inventory.blobs.get(digest)
    return entry is not None and entry.volume > 0 and entry.size == size


def _in_earlier(base: BundleInventory, digest: Digest) -> BlobEntry:
    entry = base.blobs[digest]
    return BlobEntry(entry.size, 0, (), base.bringer(digest), entry.media_type)


def _list_omitted(repository: RepositoryRecord) -> Mapping[Digest, tuple[Digest, ...]]:
    return {index: tuple(images) for index, images in sorted(repository.omitted.items()) if images}


def _list_images(repository: RepositoryRecord, recording: Recording) -> Iterable[BundledImage]:
    """The repository's tags, each with what refers to it."""
    referring: dict[int, list[int]] = {}
    for number in repository.referring:
        subject = recording.manifests[number].subject
        if subject is not None:
            referring.setdefault(subject, []).append(number)
    for tag, digest in repository.tags.items():
        yield BundledImage(
            repository.name, tag, digest, _list_referrers(digest, referring, recording) if referring else ()
        )


def _list_referrers(root: Digest, referring: Mapping[int, Collection[int]], recording: Recording) -> tuple[Digest, ...]:
    found: set[int] = set()
    pending = [recording.blobs.mention(root)]
    seen: set[int] = set()
    while pending:
        number = pending.pop()
        if number in seen or (record := recording.manifests.get(number)) is None:
            continue
        seen.add(number)
        found.update(referring.get(number, ()))
        pending.extend((*record.children, *referring.get(number, ())))
    return tuple(sorted(recording.blobs.digests[number] for number in found))


def _list_needed(images: Iterable[BundledImage], recording: Recording) -> Iterable[int]:
    """Everything at or below the images and what refers to them, by number; each once."""
    blobs = recording.blobs
    seen = bytearray(len(blobs.sizes))  # 1: was listed
    for image in images:
        pending = [blobs.mention(digest) for digest in (image.digest, *image.referrers)]
        while pending:
            number = pending.pop()
            if seen[number] or blobs.sizes[number] < 0:  # left out on purpose
                continue
            seen[number] = 1
            yield number
            if (record := recording.manifests.get(number)) is not None:
                pending.extend(record.children)


def _list_kept(
    repositories: Iterable[RepositoryRecord], base: BundleInventory | None, found: Collection[tuple[str, str]]
) -> list[BundledImage]:
    """The base's images of which nothing is known now."""
    if base is None:
        return []
    seen: dict[str, list[RepositoryRecord]] = {}
    for repository in repositories:
        seen.setdefault(repository.name, []).append(repository)

    def is_unknown(image: BundledImage) -> bool:
        records = seen.get(image.name, [])
        return not records or any(one.is_unlisted or image.tag in one.failed_tags for one in records)

    return [image for image in base.images if (image.name, image.tag) not in found and is_unknown(image)]


def _list_removed(
    base: BundleInventory | None, seen: Collection[tuple[str, str]], images: Iterable[BundledImage], bundle: str
) -> tuple[Removal, ...]:
    """Tags that were seen to be gone, now or before, and have not come back."""
    if base is None:
        return ()
    now = {(image.name, image.tag) for image in images}
    gone = [Removal(name, tag, bundle) for name, tag in seen]
    listed = {(one.name, one.tag): one for one in (*gone, *base.removed) if (one.name, one.tag) not in now}
    return tuple(listed[key] for key in sorted(listed))


def seal_inventory(draft: BundleDraft, blobs: BlobTable, inventory: BundleInventory) -> BundleInventory:
    """The inventory with everything that the draft says; volumes, base and index are its own. `blobs` is taken over."""
    blobs.update((digest, entry) for digest, entry in draft.there.items() if digest not in blobs)
    return BundleInventory(
        inventory.name,
        inventory.sequence,
        base=inventory.base,
        volumes=inventory.volumes,
        index=inventory.index,
        images=draft.images,
        removed=draft.removed,
        omitted=draft.omitted,
        blobs=blobs,
    )
