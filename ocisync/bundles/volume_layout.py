"""What stands where in the volumes of a bundle. Pure, and the same for whoever writes and whoever reads.

Sizes are known from descriptors, so everything in a volume but the content itself is known beforehand: the writer can
stream, and the reader need not interpret a tar that somebody else may have made. It computes the one tar that the
inventory allows, and compares.

Spec: image-spec v1.1, image-layout.md; POSIX.1-2017, pax, "ustar Interchange Format".
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from ocisync.bundles.blob_table import BlobEntry, BlobTable
from ocisync.bundles.inventory import INVENTORY, BundleInventory
from ocisync.content.digest_table import BlobList, SizedBlobs
from ocisync.errors import BundleError, ConfigError
from ocisync.model.digest import Digest, sha256
from ocisync.stores.archive.index_json import INDEX_FILE, LAYOUT_FILE, blob_path
from ocisync.stores.archive.render import LAYOUT
from ocisync.stores.archive.tar_writer import render_header

BLOCK = 512  # bytes
END = bytes(2 * BLOCK)
SMALLEST_VOLUME = 1024 * 1024  # bytes


class Piece(NamedTuple):
    """A blob in one volume, or the part of it that lies there."""

    digest: Digest
    start: int  # bytes of the blob that lie in earlier volumes
    length: int
    size: int  # bytes of the whole blob
    number: int = 0  # of the part

    @property
    def is_cut(self) -> bool:
        """Whether it is only a part."""
        return self.length < self.size

    @property
    def is_last(self) -> bool:
        """Whether the blob ends here."""
        return self.start + self.length == self.size

    @property
    def name(self) -> str:
        """The member's name."""
        return f"{blob_path(self.digest)}.part-{self.number:03d}" if self.is_cut else blob_path(self.digest)


class Member(NamedTuple):
    """One member of a volume's tar."""

    name: str
    size: int  # bytes
    digest: Digest | None  # of its content; None: a part of a blob
    piece: Piece | None = None  # what of a blob it is; None: a file of the layout

    @property
    def footprint(self) -> int:
        """Bytes that it takes in the tar."""
        return footprint(self.name, self.size)


def footprint(name: str, size: int) -> int:
    """Bytes of a member with its header, filled up to a whole block."""
    return len(render_header(name, size)) + size + padding(size)


def padding(size: int) -> int:
    """Bytes that fill content up to a whole block."""
    return -size % BLOCK


class VolumeContent(NamedTuple):
    """What of blobs lies in one volume: at most one that is cut, which comes first."""

    part: Piece | None
    whole: BlobList

    def pieces(self) -> Iterator[Piece]:
        """All of it, in order."""
        if self.part is not None:
            yield self.part
        for digest, size in self.whole:
            yield Piece(digest, 0, size, size)


def plan_volumes(
    blobs: SizedBlobs, numbers: Iterable[int], capacity: int, pending: Piece | None = None
) -> list[VolumeContent]:
    """Which blobs go into which volume of at most so many bytes; 0: all into one.

    What is larger than a volume comes first, and is cut. Then each volume takes the largest of what is left that fits.
    What a volume gets depends only on what is left, so that a bundle which was interrupted after some of its volumes
    goes on as it would have. `pending`: the last part of a blob so far, that the volumes before did not end.

    Raises:
        ConfigError: so small a volume holds nothing.
    """
    rest = blobs.list_by_size(numbers)
    if not capacity:
        rest.reverse()
        return [VolumeContent(None, BlobList(blobs, rest))] if rest else []
    if capacity < SMALLEST_VOLUME:
        raise ConfigError(f"a volume of {capacity} bytes is too small; the least is 1 MiB")
    volumes: list[VolumeContent] = []
    while rest or pending:
        part, room = None, capacity - len(END)
        if pending is None and _find_fitting(blobs, rest[-1:], room) is None:
            number = rest.pop()
            pending = Piece(blobs.digests[number], 0, 0, blobs.sizes[number], -1)
        if pending is not None:
            part = _next_part(pending, room)
            room -= footprint(part.name, part.length)
            pending = None if part.is_last else part
        whole = array("I")
        while pending is None and (found := _find_fitting(blobs, rest, room)) is not None:
            whole.append(number := rest.pop(found))
            room -= footprint(blob_path(blobs.digests[number]), blobs.sizes[number])
        volumes.append(VolumeContent(part, BlobList(blobs, whole)))
    return volumes


def _find_fitting(blobs: SizedBlobs, rest: array[int], room: int) -> int | None:
    """The place of the largest blob that fits."""
    sizes = blobs.sizes
    at = bisect_right(rest, room, key=sizes.__getitem__) - 1
    while at >= 0 and footprint(blob_path(blobs.digests[rest[at]]), sizes[rest[at]]) > room:
        at = bisect_right(rest, min(sizes[rest[at]] - 1, room - BLOCK), key=sizes.__getitem__) - 1
    return at if at >= 0 else None


def _next_part(before: Piece, room: int) -> Piece:
    """The part of a blob that follows another, as large as there is room for."""
    start, number = before.start + before.length, before.number + 1
    left = before.size - start
    name = f"{blob_path(before.digest)}.part-{number:03d}"
    most = (room - len(render_header(name, left))) // BLOCK * BLOCK
    return Piece(before.digest, start, min(left, most), before.size, number)


def blob_entries(volumes: Iterable[VolumeContent], kind_of: Callable[[Digest], str]) -> BlobTable:
    """The inventory's table of what lies in the volumes, in their order; `kind_of`: the media type of a manifest."""
    found = BlobTable()
    for number, content in enumerate(volumes, 1):
        for piece in content.pieces():
            if piece.start:
                first = found[piece.digest]
                found[piece.digest] = first._replace(parts=(*first.parts, piece.length))
                continue
            parts = (piece.length,) if piece.is_cut else ()
            found[piece.digest] = BlobEntry(piece.size, number, parts, media_type=kind_of(piece.digest))
    return found


class VolumeMap:
    """What an inventory says of its volumes: their members in order. Grouped once, as numbers of blobs."""

    def __init__(self, inventory: BundleInventory) -> None:
        self.inventory = inventory
        self._cut: list[list[Piece]] = [[] for _ in inventory.volumes]
        self._whole = [array("I") for _ in inventory.volumes]  # numbers of blobs
        for blob, (digest, entry) in enumerate(inventory.blobs.items()):
            if not entry.volume:
                continue
            if not entry.parts:
                self._whole[entry.volume - 1].append(blob)
            start = 0
            for number, length in enumerate(entry.parts):
                self._cut[entry.volume - 1 + number].append(Piece(digest, start, length, entry.size, number))
                start += length

    def members(self, number: int) -> Iterator[Member]:
        """The members of a volume, from 1 on, without the inventory itself."""
        for piece in self._cut[number - 1]:
            yield Member(piece.name, piece.length, None, piece)
        for blob in self._whole[number - 1]:
            digest, size = self.inventory.blobs.identify(blob)
            yield Member(blob_path(digest), size, digest, Piece(digest, 0, size, size))
        if number == len(self.inventory.volumes) and self.inventory.index is not None:
            yield Member(LAYOUT_FILE, len(LAYOUT), sha256(LAYOUT))
            yield Member(INDEX_FILE, self.inventory.index.size, self.inventory.index.digest)

    def check_sizes(self) -> None:
        """Whether the sizes of the volumes are those of what is said to lie in them.

        Raises:
            BundleError: the inventory contradicts itself.
        """
        names = self.inventory.file_names
        for number, volume in enumerate(self.inventory.volumes, 1):
            is_last = number == len(names)
            size = sum(member.footprint for member in self.members(number)) + (0 if is_last else len(END))
            if size != volume.size:
                raise BundleError(
                    f"{names[number - 1]}: its content takes {size} bytes, and the inventory says {volume.size}: "
                    "the inventory is wrong"
                )

    def whole_size(self, number: int, inventory_size: int) -> int:
        """Bytes of a volume's file."""
        volume = self.inventory.volumes[number - 1]
        if number < len(self.inventory.volumes):
            return volume.size
        return volume.size + footprint(self.inventory.id + INVENTORY, inventory_size) + len(END)
