"""Compression that depends on the content alone."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator

import anyio
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ocisync.content.compress import BLOCK, Buffer, Compression, Kind, compress, compressor_name, split_blocks
from ocisync.errors import ConfigError, DiskError

pytestmark = pytest.mark.anyio

TEXT = b"".join(b"line %d of a layer\n" % (n * 7919 % 100_003) for n in range(250_000))  # 4 blocks and a rest


def chunks(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def packed(data: bytes, size: int, compression: Compression) -> bytes:
    out = bytearray()

    def write(written: Buffer) -> None:
        out.extend(written)

    made = await compress(split_blocks(chunks(data, size)), write, compression)
    assert made.diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert made.digest == f"sha256:{hashlib.sha256(out).hexdigest()}"
    assert made.size == len(out)
    return bytes(out)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "none"])
async def test_the_size_of_reads_does_not_show(kind: Kind) -> None:
    sizes = (997, 65_536, BLOCK - 1, BLOCK, BLOCK + 1, len(TEXT))
    assert len({await packed(TEXT, size, Compression(kind)) for size in sizes}) == 1


async def test_gzip_is_read_by_others_and_holds_no_name_or_time() -> None:
    data = await packed(TEXT, BLOCK, Compression("gzip"))
    assert gzip.decompress(data) == TEXT
    assert (await anyio.run_process(["gzip", "-dc"], input=data)).stdout == TEXT
    assert data[:8] == b"\x1f\x8b\x08\x00" + bytes(4)


async def test_zstd_is_read_by_others() -> None:
    data = await packed(TEXT, BLOCK, Compression("zstd"))
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        assert reader.read() == TEXT


async def test_the_bytes_are_those_of_the_recorded_version() -> None:
    """When this fails after an upgrade, published digests of conversions change: say so in the change log."""
    assert compressor_name(Compression()) == "deflate-0.9.0/gzip/level=1/block=1048576"
    digest = hashlib.sha256(await packed(TEXT, BLOCK, Compression("gzip"))).hexdigest()
    assert digest == "0bb1bbc7fee28cdf7724b42fbef1fa6cb1a9ef3110d2b22d9935b2e90b580206"


async def test_nothing_is_still_a_valid_stream() -> None:
    assert gzip.decompress(await packed(b"", BLOCK, Compression("gzip"))) == b""


@given(st.lists(st.binary(max_size=50)), st.integers(1, 40))
def test_blocks_are_exact(parts: list[bytes], size: int) -> None:
    blocks = list(split_blocks(iter(parts), size))
    assert b"".join(blocks) == b"".join(parts)
    assert [len(block) for block in blocks[:-1]] == [size] * (len(blocks) - 1)
    assert len(blocks) >= 1


async def test_an_error_while_writing_or_reading_ends_the_work() -> None:
    def full(data: Buffer) -> None:
        raise DiskError("the disk is full")

    with pytest.raises(DiskError):
        await compress(split_blocks(chunks(TEXT * 8, BLOCK)), full, Compression())

    def broken() -> Iterator[bytes]:
        yield bytes(BLOCK)
        raise DiskError("cannot be read")

    with pytest.raises(DiskError):
        await compress(broken(), lambda _: None, Compression())


@pytest.mark.parametrize(("kind", "level"), [("gzip", 0), ("gzip", 13), ("zstd", 20), ("none", 1), ("lz4", None)])
def test_unknown_kinds_and_levels_are_refused(kind: str, level: int | None) -> None:
    with pytest.raises(ConfigError):
        Compression(kind, level)  # type: ignore[arg-type]
