"""Reading a stream in parts that lie in memory: a thread reads and hashes them, the event loop does the waiting.

It is half of a `Transfer` (`mover`): for who must know a part's hash before its first byte is sent, as S3 wants it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from ocisync.content.openers import BulkReader
from ocisync.content.transfer.mover import BUFFER, BulkCheck, find_turn, run_mover
from ocisync.model.digest import Hasher


class PartReader:
    """A stream cut into parts, one after the other; the check sees all of its bytes."""

    def __init__(self, reader: BulkReader, check: BulkCheck) -> None:
        self._reader = reader
        self._check = check

    async def fill(self, part: memoryview, hasher: Hasher) -> None:
        """Read the next bytes, and hash them.

        Raises:
            SizeMismatch, DigestMismatch: the stream ended before.
        """
        filled = 0
        try:
            while filled < len(part):
                await self._reader.wait_readable()
                filled += await run_mover(partial(self._fill, part[filled:], hasher))
                self._reader.end_turn()
        finally:
            self._reader.end_turn()

    async def finish(self) -> None:
        """See that the stream ends here, and that all was right; raises as `fill` does."""
        surplus = memoryview(bytearray(1))
        try:
            count = None
            while count is None:
                await self._reader.wait_readable()
                count = await run_mover(partial(self._reader.read_into, surplus))
                self._reader.end_turn()
        finally:
            self._reader.end_turn()
        self._check.update(surplus[:count])
        self._check.finish()

    def _fill(self, part: memoryview, hasher: Hasher) -> int:
        """In a thread: how many bytes were read within a turn, or until nothing came."""
        began, filled = time.monotonic(), 0
        while filled < len(part) and time.monotonic() - began < find_turn():
            if (count := self._reader.read_into(part[filled : filled + BUFFER])) is None:
                break
            piece = part[filled : filled + count]
            self._check.update(piece)
            if not count:
                self._check.finish()  # it raises: the end came too early
            hasher.update(piece)
            filled += count
        return filled


class MemoryReader:
    """Pieces that lie in memory as a thread reads them."""

    is_bulk = True

    def __init__(self, pieces: Sequence[bytes | memoryview]) -> None:
        self._pieces = [memoryview(piece) for piece in reversed(pieces)]

    async def wait_readable(self) -> None:
        """All of it is there."""

    def read_into(self, buffer: memoryview) -> int:
        """In a thread: a piece of it, 0 at the end."""
        if not self._pieces:
            return 0
        piece = self._pieces.pop()
        count = min(len(buffer), len(piece))
        buffer[:count] = piece[:count]
        if count < len(piece):
            self._pieces.append(piece[count:])
        return count

    def end_turn(self) -> None:
        """Nothing is held."""
