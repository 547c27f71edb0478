"""Where a file's data lies: told by its content, so that it does not matter how a file system keeps its holes."""

from __future__ import annotations

import os
from collections.abc import Iterator

Piece = tuple[int, int]  # where data begins, and how long it is, in bytes
GRAIN = 64 * 1024  # bytes; changing any of these changes digests
WORTH_IT = 1024 * 1024  # bytes of holes; a file with fewer is stored whole
MAX_PIECES = 100_000
_READ = 16 * GRAIN
_ZEROS = bytes(GRAIN)


def find_data(fd: int, size: int) -> tuple[Piece, ...] | None:
    """The pieces that are not zeros, in whole grains; None when the file is to be stored whole.

    The last piece ends where the file does, and may be empty.
    """
    if size < WORTH_IT:
        return None
    pieces: list[Piece] = []
    start = end = total = 0
    for offset in _find_grains(fd, size):
        if offset != end:
            pieces.append((start, end - start))
            start = offset
        end = min(offset + GRAIN, size)
        total += end - offset
        if len(pieces) > MAX_PIECES:
            return None
    if size - total < WORTH_IT:
        return None
    pieces.append((start, end - start))
    found = tuple(piece for piece in pieces if piece[1])
    return found if end == size else (*found, (size, 0))


def _find_grains(fd: int, size: int) -> Iterator[int]:
    offset = 0
    while offset < size:
        offset = _seek_data(fd, offset, size)
        data = os.pread(fd, min(_READ, size - offset), offset) if offset < size else b""
        for start in range(0, len(data), GRAIN):
            if data[start] or data[start : start + GRAIN] != _ZEROS[: len(data) - start]:
                yield offset + start
        offset += _READ


def _seek_data(fd: int, offset: int, size: int) -> int:
    """Where the grain begins that holds the next byte the file system keeps; a guess that spares reading holes."""
    try:
        return os.lseek(fd, offset, os.SEEK_DATA) // GRAIN * GRAIN
    except OSError:  # ENXIO: nothing but a hole follows
        return size
