"""Maps of sparse members: GNU tar's old format, and 0.0, 0.1 and 1.0 in pax headers, read with caps; 1.0 written.

Spec: GNU tar manual, "Storing Sparse Files".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from ocisync.content.tar.headers import BLOCK, parse_number
from ocisync.errors import ArchiveError, LimitExceeded

Piece = tuple[int, int]  # where a piece of data lies in the file, and how long it is, in bytes
MAX_PIECES = 250_000  # (1.6 KB of headers can claim ten million)
_NUMBER = re.compile(rb"0*[0-9]{1,19}\Z")
_ENTRY = 24  # bytes
_IN_HEADER, _IN_BLOCK = 4, 21  # entries


def parse_gnu_map(block: bytes, next_block: Callable[[], bytes]) -> tuple[tuple[Piece, ...], int]:
    """The pieces and the file's size of an old GNU sparse member; further blocks of the map are taken.

    Raises:
        ArchiveError, LimitExceeded: malformed, or more pieces than MAX_PIECES.
    """
    pieces = _parse_entries(block[386:], _IN_HEADER)
    goes_on = block[482] != 0
    while goes_on:
        more = next_block()
        pieces += _parse_entries(more, _IN_BLOCK)
        _check_count(len(pieces))
        goes_on = more[504] != 0
    return tuple(pieces), parse_number(block[483:495], 0)


def parse_map_text(text: bytes, count: bytes | None) -> tuple[Piece, ...]:
    """The map of formats 0.0 and 0.1: `offset,length,…`; `count`: how many pieces there are to be."""
    numbers = text.split(b",") if text else []
    if count is not None and 2 * _parse_number(count) != len(numbers):
        raise ArchiveError("a sparse member's map has another number of pieces than it says: the archive is corrupt")
    if len(numbers) % 2 or (not text and count is None):
        raise ArchiveError("a sparse member has no map that is understood (GNU.sparse 0.0, 0.1 and 1.0 are)")
    return _pair_up([_parse_number(item) for item in numbers])


def read_map(read: Callable[[int], bytes]) -> tuple[Piece, ...]:
    """The map of format 1.0, which stands before the data and is read from there."""
    lines = _Lines(read)
    count = lines.read_number()
    _check_count(count)
    numbers = [lines.read_number() for _ in range(2 * count)]
    return _pair_up(numbers)


def render_map(pieces: Sequence[Piece]) -> bytes:
    """A map of format 1.0, padded to whole blocks."""
    numbers = [len(pieces), *(number for piece in pieces for number in piece)]
    text = b"".join(b"%d\n" % number for number in numbers)
    return text + bytes(-len(text) % BLOCK)


class _Lines:
    """Decimal lines, read a block at a time."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        self._held = b""

    def read_number(self) -> int:
        """The next line."""
        while b"\n" not in self._held:
            if len(self._held) > 2 * BLOCK:
                raise ArchiveError("a sparse member's map is malformed: the archive is corrupt")
            self._held += self._read(BLOCK)
        line, _, self._held = self._held.partition(b"\n")
        return _parse_number(line)


def _parse_entries(data: bytes, most: int) -> list[Piece]:
    found = []
    for start in range(0, most * _ENTRY, _ENTRY):
        entry = data[start : start + _ENTRY]
        if not entry[0]:
            break
        found.append((parse_number(entry[:12], 0), parse_number(entry[12:], 0)))
    return found


def _pair_up(numbers: list[int]) -> tuple[Piece, ...]:
    _check_count(len(numbers) // 2)
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))


def _parse_number(text: bytes) -> int:
    if not _NUMBER.match(text):
        raise ArchiveError("a sparse member's map is malformed: the archive is corrupt")
    return int(text)


def _check_count(count: int) -> None:
    if count > MAX_PIECES:
        raise LimitExceeded(f"a sparse member of more than {MAX_PIECES} pieces")
