"""Streams that end well only when their bytes are what the descriptor says."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterable

import pytest

from ocisync.content.verify import Verifier, verify_stream
from ocisync.errors import DigestMismatch, SizeMismatch
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256
from ocisync.model.media_types import OCI_LAYER_GZIP

MIB = 1024 * 1024  # bytes


async def stream(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def described(data: bytes, size: int | None = None) -> Descriptor:
    return Descriptor(OCI_LAYER_GZIP, sha256(data), len(data) if size is None else size)


@pytest.mark.parametrize("size", [0, 1, 100, 128 * 1024, 768 * 1024, 2 * MIB, 5 * MIB + 1])
@pytest.mark.parametrize("piece", [1000, 128 * 1024, 768 * 1024, 3 * MIB])
async def test_the_same_chunks_come_whatever_their_size(size: int, piece: int) -> None:
    data = random.Random(size).randbytes(size)
    chunks = [data[at : at + piece] for at in range(0, size, piece)]
    assert [chunk async for chunk in verify_stream(stream(chunks), described(data))] == chunks


@pytest.mark.parametrize("at", [0, 3 * MIB, -1])
async def test_one_wrong_byte_anywhere_is_found_at_the_end(at: int) -> None:
    data = bytearray(random.Random(1).randbytes(5 * MIB))
    desc = described(bytes(data))
    data[at] ^= 1
    chunks = [bytes(data[at : at + 768 * 1024]) for at in range(0, len(data), 768 * 1024)]
    with pytest.raises(DigestMismatch, match="damaged"):
        [chunk async for chunk in verify_stream(stream(chunks), desc)]
    with pytest.raises(SizeMismatch, match="instead of"):
        [chunk async for chunk in verify_stream(stream(chunks[:-1]), desc)]


async def test_a_surplus_byte_is_found_before_it_is_passed_on() -> None:
    data = random.Random(2).randbytes(3 * MIB)
    checked = verify_stream(stream([data, b"x", data]), described(data))
    assert await anext(checked) == data
    with pytest.raises(SizeMismatch, match="more than"):
        await anext(checked)


class Chunk(bytes):
    """Bytes that are counted as long as anybody holds them."""

    held = 0

    def __del__(self) -> None:
        Chunk.held -= len(self)


async def test_few_chunks_are_held_however_long_the_stream() -> None:
    most = 0

    async def made() -> AsyncIterator[bytes]:
        for _ in range(100):
            Chunk.held += 512 * 1024
            yield Chunk(512 * 1024)

    async for _ in verify_stream(made(), described(bytes(50 * MIB))):
        most = max(most, Chunk.held)
    assert most <= 3 * MIB


def test_a_copy_goes_on_by_itself() -> None:
    one = Verifier(sha256(b"ab"), 2)
    one.update(b"a")
    other = one.copy()
    one.update(b"b")
    other.update(b"c")
    one.finish()
    with pytest.raises(DigestMismatch):
        other.finish()
