"""What lies between two inventories. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from ocisync.bundles.inventory import BundleInventory
from ocisync.model.digest import Digest


@dataclass(slots=True)
class Difference:
    """From one state of a mirror to another."""

    added: dict[str, Digest] = field(default_factory=dict)  # by name:tag
    moved: dict[str, tuple[Digest, Digest]] = field(default_factory=dict)  # before, after
    removed: dict[str, Digest] = field(default_factory=dict)
    referrers: list[str] = field(default_factory=list)  # the same image, to which something else refers
    blobs: int = 0  # that the second needs and the first has not
    bytes: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether both say the same."""
        return not (self.added or self.moved or self.removed or self.referrers or self.blobs)


def compare(before: BundleInventory, after: BundleInventory) -> Difference:
    """What a site that has the first lacks of the second."""
    found = Difference()
    old = {str(image): image for image in before.images}
    new = {str(image): image for image in after.images}
    for name, image in new.items():
        known = old.get(name)
        if known is None:
            found.added[name] = image.digest
        elif known.digest != image.digest:
            found.moved[name] = known.digest, image.digest
        elif known.referrers != image.referrers:
            found.referrers.append(name)
    found.removed = {name: image.digest for name, image in old.items() if name not in new}
    for digest, entry in after.blobs.items():
        if digest not in before.blobs:
            found.blobs += 1
            found.bytes += entry.size
    return found
