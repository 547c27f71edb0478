"""The inventory of a bundle, as values: its images, where each blob is, and what must be at the other side already.

An inventory lists *all* images of the mirror and every blob that they need, not only what is new: each blob lies in a
volume of this bundle, or it is said which earlier bundle brought it. So an inventory alone is the base of the next
bundle, and whoever applies one can tell which image lacks what, and where that is to be found.

A receipt is an inventory without volumes: what was there after a bundle had been applied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ocisync.bundles.blob_table import BlobTable
from ocisync.errors import ConfigError
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest

FORMAT = "ocisync.bundle/1"
INVENTORY, RECEIPT, SIGNATURE, SUMS = ".bundle.json", ".receipt.json", ".sigstore.json", "SHA256SUMS"
BLOB = "application/octet-stream"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z", re.ASCII)
_FILE = re.compile(
    r"(?P<id>[A-Za-z0-9][A-Za-z0-9_.-]{0,99}-\d{4,8})(?P<end>(\.\d{3,6})?\.tar|\.bundle\.json|\.sigstore\.json)\Z",
    re.ASCII,
)

Kind = Literal["bundle", "receipt"]
Omitted = Mapping[str, Mapping[Digest, Sequence[Digest]]]
"""Repository -> index -> its images that are left out on purpose, because no rule wants their platforms."""


@dataclass(frozen=True, slots=True)
class BundledImage:
    """One tag."""

    name: str  # the repository
    tag: str
    digest: Digest
    referrers: tuple[Digest, ...] = ()  # manifests that refer to it, to a part of it, or to one of these

    def __str__(self) -> str:
        return f"{self.name}:{self.tag}"


@dataclass(frozen=True, slots=True)
class Removal:
    """A tag that the source has no more."""

    name: str
    tag: str
    bundle: str  # the id of the first bundle that says so


@dataclass(frozen=True, slots=True)
class Volume:
    """A file of the bundle; of the last one, what stands before the inventory, which cannot hold its own sum."""

    size: int  # bytes
    sha256: str  # hex


@dataclass(frozen=True, slots=True)
class Base:
    """The inventory that a delta builds on."""

    id: str
    digest: Digest  # of its bytes


@dataclass(frozen=True, slots=True)
class BundleInventory:
    """Everything that is said of one bundle."""

    name: str
    sequence: int
    kind: Kind = "bundle"
    base: Base | None = None  # of a receipt: the bundle that was applied
    volumes: tuple[Volume, ...] = ()
    index: Descriptor | None = None  # index.json of the layout in the volumes
    images: tuple[BundledImage, ...] = ()
    removed: tuple[Removal, ...] = ()
    omitted: Omitted = field(default_factory=dict)
    blobs: BlobTable = field(default_factory=BlobTable)  # in the order in which the volumes hold them

    @property
    def id(self) -> str:
        """Its name among people: `mirror-0007`."""
        return bundle_id(self.name, self.sequence)

    @property
    def file_names(self) -> list[str]:
        """The names of the volumes."""
        return volume_names(self.id, len(self.volumes))

    def describe(self, digest: Digest) -> Descriptor:
        """The descriptor of a blob or manifest that is listed."""
        entry = self.blobs[digest]
        return Descriptor(entry.media_type or BLOB, digest, entry.size)

    def bringer(self, digest: Digest) -> str:
        """The id of the bundle that has a blob."""
        return self.blobs[digest].bundle or self.id


def bundle_id(name: str, sequence: int) -> str:
    """`mirror-0007`."""
    return f"{name}-{sequence:04d}"


def volume_names(bundle: str, count: int) -> list[str]:
    """`mirror-0007.tar`, or `mirror-0007.001.tar` and so on when there are several."""
    return [f"{bundle}.tar"] if count == 1 else [f"{bundle}.{number:03d}.tar" for number in range(1, count + 1)]


def is_bundle_name(text: str) -> bool:
    """Whether bundles may be called so: it becomes a part of file names."""
    return _NAME.match(text) is not None


def check_bundle_name(text: str) -> str:
    """The same name; raises ConfigError where bundles cannot be called so."""
    if not is_bundle_name(text):
        raise ConfigError(f"{text[:100]!r} cannot name a bundle: use letters, digits, `-`, `_` and `.`, at most 100")
    return text


def bundle_of(name: str) -> str | None:
    """The id of the bundle that a file of this name belongs to; None where it is no file of a bundle."""
    found = _FILE.match(name)
    return found["id"] if found else None
