"""Digests by the hundred thousand: numbered in the order in which they come, in arrays and not as objects.

A digest as a text, in a dictionary, with a record for its value, takes some 350 bytes; here it takes 50 to 60. That is
what lets a bundle of 100,000 blobs be written and read within the memory that a small one takes.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ocisync.model.digest import Digest, hex_of

_SHA256 = "sha256:"
_WIDTH = 32  # bytes of a key
_FIRST = 64  # places of an empty table


class DigestTable:
    """An ordered set of digests; each has a number, from 0 on.

    An open hash table with linear probing: `_places` holds number + 1, at most half of it is taken. Python's own keyed
    hash says where to look, so nobody can choose digests that all fall on one place.
    """

    def __init__(self, digests: Iterable[Digest] = ()) -> None:
        self._keys = bytearray()
        self._places = array("I", bytes(4 * _FIRST))
        self._others: dict[int, Digest] = {}  # sha512: its number -> itself; its key is a part of it
        for digest in digests:
            self.add(digest)

    def __len__(self) -> int:
        return len(self._keys) // _WIDTH

    def __iter__(self) -> Iterator[Digest]:
        return map(self.__getitem__, range(len(self)))

    def __contains__(self, digest: object) -> bool:
        return isinstance(digest, str) and self.find(Digest(digest)) is not None

    def __getitem__(self, number: int) -> Digest:
        if self._others and (other := self._others.get(number)) is not None:
            return other
        return Digest(_SHA256 + self.key(number).hex())

    def key(self, number: int) -> bytes:
        """Bytes in the order of the digests."""
        return bytes(self._keys[number * _WIDTH : (number + 1) * _WIDTH])

    def find(self, digest: Digest) -> int | None:
        """Its number."""
        return self._seek(digest, _key_of(digest))[1]

    def add(self, digest: Digest) -> int:
        """Its number, a new one where it is not known."""
        key = _key_of(digest)
        place, number = self._seek(digest, key)
        if number is not None:
            return number
        number = len(self)
        self._keys += key
        if not digest.startswith(_SHA256):
            self._others[number] = digest
        self._places[place] = number + 1
        if 2 * (number + 1) > len(self._places):
            self._grow()
        return number

    def _seek(self, digest: Digest, key: bytes) -> tuple[int, int | None]:
        """Where it is in the table, or would be; and its number."""
        places, last = self._places, len(self._places) - 1
        place = hash(key) & last
        other = None if digest.startswith(_SHA256) else digest
        while number := places[place]:
            number -= 1
            at = number * _WIDTH
            if self._keys[at : at + _WIDTH] == key and self._others.get(number) == other:
                return place, number
            place = (place + 1) & last
        return place, None

    def _grow(self) -> None:
        size = 2 * len(self._places)
        self._places = places = array("I", bytes(4 * size))
        for number in range(len(self)):
            place = hash(self.key(number)) & (size - 1)
            while places[place]:
                place = (place + 1) & (size - 1)
            places[place] = number + 1


def _key_of(digest: Digest) -> bytes:
    return bytes.fromhex(hex_of(digest)[: 2 * _WIDTH])


class SizedBlobs:
    """Digests with their sizes, by number."""

    def __init__(self, sizes: Iterable[tuple[Digest, int]] = ()) -> None:
        self.digests = DigestTable()
        self.sizes = array("q")  # bytes; -1: not known
        for digest, size in sizes:
            self.note(digest, size)

    def mention(self, digest: Digest) -> int:
        """The number of something of which the size may come later."""
        number = self.digests.add(digest)
        if number == len(self.sizes):
            self.sizes.append(-1)
        return number

    def note(self, digest: Digest, size: int) -> int:
        """The number of something that has a size, which is not changed any more."""
        number = self.mention(digest)
        if self.sizes[number] < 0:
            self.sizes[number] = size
        return number

    def size(self, digest: Digest) -> int | None:
        """Its size; None where it is not known."""
        number = self.digests.find(digest)
        return None if number is None or self.sizes[number] < 0 else self.sizes[number]

    def list_by_size(self, numbers: Iterable[int]) -> array[int]:
        """Numbers in the order of sizes, and of digests where these are equal."""
        sizes, key = self.sizes, self.digests.key
        return array("I", sorted(numbers, key=lambda number: sizes[number].to_bytes(8, "big") + key(number)))


@dataclass(frozen=True, slots=True)
class BlobList:
    """Some of them, in an order."""

    blobs: SizedBlobs
    numbers: Sequence[int]

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[tuple[Digest, int]]:
        digests, sizes = self.blobs.digests, self.blobs.sizes
        return ((digests[number], sizes[number]) for number in self.numbers)
