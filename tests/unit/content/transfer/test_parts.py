"""Streams read in parts of memory, whatever comes of them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from ocisync.content.transfer.mover import BUFFER, ChunkReader
from ocisync.content.transfer.parts import MemoryReader, PartReader
from ocisync.content.verify import UploadCheck
from ocisync.errors import DigestMismatch, SizeMismatch, Truncated
from ocisync.model.digest import sha256
from tests.unit.content.transfer.test_mover import DATA, Reader

pytestmark = pytest.mark.anyio
PART = 700_000  # bytes


async def _read(reader: Reader | ChunkReader, data: bytes = DATA) -> list[bytes]:
    """All parts, each with the hash that it has."""
    parts = PartReader(reader, UploadCheck(len(data), sha256(data)))
    found = []
    for start in range(0, len(data), PART):
        part, hasher = memoryview(bytearray(min(PART, len(data) - start))), hashlib.sha256()
        await parts.fill(part, hasher)
        assert hasher.hexdigest() == hashlib.sha256(part).hexdigest()
        found.append(bytes(part))
    await parts.finish()
    return found


@pytest.mark.parametrize("size", [1, 1000, BUFFER, len(DATA)])
async def test_parts_are_what_came_however_it_came(size: int) -> None:
    data = DATA[: 300 * size]
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    pauses = [one for piece in pieces for one in (b"", piece)]  # an empty one: nothing came yet
    assert b"".join(await _read(Reader([*pauses, b""]), data)) == data


async def test_a_thread_reads_and_the_loop_waits() -> None:
    reader = Reader([DATA[:100], b"", DATA[100:]])
    await _read(reader)
    assert threading.get_ident() not in reader.threads
    assert reader.turns >= reader.waits


async def test_a_stream_that_no_thread_can_read() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 100_000):
            yield DATA[start : start + 100_000]

    assert b"".join(await _read(ChunkReader(chunks()))) == DATA


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([DATA[:-1]], SizeMismatch),
        ([DATA, b"x"], SizeMismatch),
        ([DATA[:-1], b"x"], DigestMismatch),
        ([DATA[:100], Truncated("it broke off")], Truncated),
        ([DATA, Truncated("it broke off")], Truncated),
    ],
    ids=["short", "long", "wrong", "broken", "broken at the end"],
)
async def test_what_is_wrong_is_raised_and_the_turn_ends(pieces: Sequence[bytes | Exception], error: type) -> None:
    reader = Reader(pieces)
    with pytest.raises(error):
        await _read(reader)
    assert reader.turns >= reader.waits


def test_memory_is_read_in_the_order_of_its_pieces() -> None:
    reader, buffer, found = MemoryReader([b"abc", memoryview(b"defgh"), b"i"]), memoryview(bytearray(4)), b""
    while count := reader.read_into(buffer):
        found += buffer[:count]
    assert (found, reader.read_into(buffer)) == (b"abcdefghi", 0)
