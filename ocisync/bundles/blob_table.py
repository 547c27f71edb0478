"""The blobs that an inventory lists. There may be hundreds of thousands: none is an object until it is asked for."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, MutableMapping
from typing import NamedTuple

from ocisync.content.digest_table import DigestTable
from ocisync.model.digest import Digest


class BlobEntry(NamedTuple):
    """A blob or manifest."""

    size: int  # bytes
    volume: int = 0  # of this bundle, from 1 on: where it is, or begins; 0: an earlier bundle brought it
    parts: tuple[int, ...] = ()  # bytes in this volume and in those that follow, when it is cut
    bundle: str = ""  # the id of the earlier bundle
    media_type: str = ""  # of a manifest; empty: a blob


class BlobTable(MutableMapping[Digest, BlobEntry]):
    """Digest -> entry, in the order of insertion. Nothing is removed from it."""

    def __init__(self, entries: Mapping[Digest, BlobEntry] | None = None) -> None:
        self._digests = DigestTable()
        self._sizes = array("q")
        self._volumes = array("I")
        self._texts = array("I")  # numbers of (bundle, media type), of which there are few
        self._known_texts: dict[tuple[str, str], int] = {}
        self._listed_texts: list[tuple[str, str]] = []
        self._parts: dict[int, tuple[int, ...]] = {}
        if entries is not None:
            self.update(entries)

    def __len__(self) -> int:
        return len(self._digests)

    def __iter__(self) -> Iterator[Digest]:
        return iter(self._digests)

    def __contains__(self, digest: object) -> bool:
        return digest in self._digests

    def __getitem__(self, digest: Digest) -> BlobEntry:
        return self._entry(self.number(digest))

    def __setitem__(self, digest: Digest, entry: BlobEntry) -> None:
        number = self._digests.add(digest)
        text = (entry.bundle, entry.media_type)
        if (text_number := self._known_texts.get(text)) is None:
            self._known_texts[text] = text_number = len(self._listed_texts)
            self._listed_texts.append(text)
        for column, value in ((self._sizes, entry.size), (self._volumes, entry.volume), (self._texts, text_number)):
            if number == len(column):
                column.append(value)
            else:
                column[number] = value
        if entry.parts:
            self._parts[number] = entry.parts
        else:
            self._parts.pop(number, None)

    def __delitem__(self, digest: Digest) -> None:
        raise NotImplementedError("entries stay")

    def number(self, digest: Digest) -> int:
        """A blob's place in the table; raises KeyError."""
        number = self._digests.find(digest)
        if number is None:
            raise KeyError(digest)
        return number

    def identify(self, number: int) -> tuple[Digest, int]:
        """The digest and the size of the blob at a place."""
        return self._digests[number], self._sizes[number]

    def sort(self) -> BlobTable:
        """The same in the order of the digests."""
        found = BlobTable()
        for number in sorted(range(len(self)), key=self._digests.key):
            found[self._digests[number]] = self._entry(number)
        return found

    def count_carried(self) -> tuple[int, int]:
        """How many lie in volumes, and their bytes."""
        sizes = [size for size, volume in zip(self._sizes, self._volumes, strict=True) if volume]
        return len(sizes), sum(sizes)

    def _entry(self, number: int) -> BlobEntry:
        bundle, media_type = self._listed_texts[self._texts[number]]
        return BlobEntry(self._sizes[number], self._volumes[number], self._parts.get(number, ()), bundle, media_type)
