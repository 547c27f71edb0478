"""Long lists of names in little memory."""

from __future__ import annotations

import heapq
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, islice, pairwise
from typing import overload

_AT_ONCE = 1000  # names
_FEW = 10_000  # names that may be texts for a moment; more are merged as they are


class NameList(Sequence[str]):
    """Names in one block of memory: each takes its bytes in UTF-8 and four more.

    As texts in a list, names of tags take 60 bytes more each, and a registry decides how many there are.
    """

    __slots__ = ("_ends", "_text")

    def __init__(self, names: Iterable[str] = ()) -> None:
        text, ends = bytearray(), array("I", [0])
        pending = iter(names)
        while some := [name.encode() for name in islice(pending, _AT_ONCE)]:
            ends.extend(islice(accumulate(map(len, some), initial=ends[-1]), 1, None))
            text += b"".join(some)
        self._text = bytes(text)
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            return [self[one] for one in range(*at.indices(len(self)))]
        start = range(len(self))[at]
        return self._text[self._ends[start] : self._ends[start + 1]].decode()

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _AT_ONCE):
            ends = self._ends[start : start + _AT_ONCE + 1]
            some = self._text[ends[0] : ends[-1]]
            if some.isascii():  # as names of tags are: a piece of text costs less than bytes that are decoded
                first, text = ends[0], some.decode()
                yield from [text[begin - first : end - first] for begin, end in pairwise(ends)]
            else:
                yield from [self._text[begin:end].decode() for begin, end in pairwise(ends)]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, NameList):
            return self._text == other._text and self._ends == other._ends
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(str.__eq__, self, other))

    def __hash__(self) -> int:
        return hash((self._text, self._ends.tobytes()))

    @property
    def size(self) -> int:
        """Bytes of all names."""
        return len(self._text)


class SortedNames(NameList):
    """Names in lexical order, each once, so that one is found in logarithmic time."""

    __slots__ = ()

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        at = bisect_left(self, name)
        return at < len(self) and self[at] == name


def merge_names(parts: Sequence[NameList]) -> SortedNames:
    """All names of some lists, in lexical order, each once."""
    if sum(map(len, parts)) <= _FEW:
        return SortedNames(sorted(set(chain.from_iterable(parts))))
    in_order = all(before < after for before, after in pairwise(chain.from_iterable(parts)))
    if in_order:  # as registries that keep to the specification send them
        return SortedNames(chain.from_iterable(parts))
    merged = heapq.merge(*(NameList(sorted(part)) for part in parts))
    return SortedNames(_without_doubles(merged))


def _without_doubles(names: Iterable[str]) -> Iterator[str]:
    last: str | None = None
    for name in names:
        if name != last:
            yield name
        last = name
