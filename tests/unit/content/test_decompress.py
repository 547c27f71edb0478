"""Decompression: every kind, damage, and bombs with flat memory."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from ocisync.content.decompress import Caps, decompress, decompress_to_spool, detect_compression
from ocisync.content.files import FileSection
from ocisync.errors import ArchiveError, LimitExceeded

from .tar.tars import Memory, drain

MiB = 1024 * 1024
DATA = b"".join(b"%d," % n for n in range(400_000))
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}


def region(data: bytes) -> FileSection:
    return FileSection(Memory(data), 0, len(data))


def unpack(data: bytes, kind: str, caps: Caps | None = None) -> bytes:
    return b"".join(decompress(region(data), kind, caps or Caps()))


@pytest.mark.parametrize("kind", COMPRESS)
def test_each_kind_is_told_by_its_magic_and_read(kind: str) -> None:
    data = COMPRESS[kind](DATA)
    assert detect_compression(data[:6]) == kind
    assert unpack(data, kind) == DATA
    assert detect_compression(DATA[:6]) == ""


@pytest.mark.parametrize("kind", COMPRESS)
def test_members_in_a_row_are_one_stream(kind: str) -> None:
    data = b"".join(COMPRESS[kind](DATA[start : start + 99_999]) for start in range(0, len(DATA), 99_999))
    assert unpack(data, kind) == DATA


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_zeros_after_the_last_member_are_padding_and_anything_else_is_not(kind: str) -> None:
    data = COMPRESS[kind](DATA)
    assert unpack(data + bytes(300_000), kind) == DATA
    with pytest.raises(ArchiveError):
        unpack(data + b"garbage", kind)


def test_compressed_bytes_are_shown_once_in_order() -> None:
    data = gzip.compress(DATA) + gzip.compress(DATA) + bytes(10)
    seen = bytearray()
    for _ in decompress(region(data), "gzip", Caps(), seen.extend):
        pass
    assert bytes(seen) == data


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_fault_67_truncated_compressed_data(kind: str) -> None:
    data = COMPRESS[kind](DATA[:5000])
    for cut in range(1, len(data), 7):
        with pytest.raises(ArchiveError):
            unpack(data[:cut], kind)


@pytest.mark.parametrize("kind", COMPRESS)
def test_a_flipped_byte_is_found(kind: str) -> None:
    data = bytearray(COMPRESS[kind](DATA))
    data[len(data) // 2] ^= 0xFF
    with pytest.raises((ArchiveError, LimitExceeded)):
        assert unpack(bytes(data), kind) == DATA


def _bomb(kind: str) -> bytes:
    zeros = bytes(64 * MiB)
    if kind == "gzip":
        return gzip.compress(zeros, 9) * 40
    return COMPRESS[kind](zeros) * 8


@pytest.mark.parametrize("kind", COMPRESS)
def test_fault_67_bombs_stop_at_the_caps_with_flat_memory(kind: str) -> None:
    bomb = _bomb(kind)
    tracemalloc.start()
    try:
        for caps in (Caps(output=100 * MiB, ratio=1 << 40), Caps(ratio=500, ratio_from=20 * MiB)):
            sizes: list[int] = []
            with pytest.raises(LimitExceeded, match="more than"):
                sizes.extend(map(len, decompress(region(bomb), kind, caps)))
            assert sum(sizes) <= 101 * MiB
            assert max(sizes) <= MiB
        assert tracemalloc.get_traced_memory()[1] < 16 * MiB
    finally:
        tracemalloc.stop()


def test_fault_67_huge_zstd_window() -> None:
    frame = bytes.fromhex("28b52ffd") + bytes([0x00, (30 - 10) << 3]) + bytes.fromhex("010000")
    with pytest.raises(LimitExceeded, match="memory"):
        unpack(frame, "zstd")


def test_fault_67_huge_xz_dictionary() -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 512 * MiB}]
    with pytest.raises(LimitExceeded, match="memory"):
        unpack(lzma.compress(b"x" * 100, filters=filters), "xz")


def test_fault_67_endless_empty_members() -> None:
    with pytest.raises(LimitExceeded, match="empty members"):
        unpack(gzip.compress(b"") * 200_000, "gzip")


def test_a_spool_has_no_name_and_is_closed_on_failure(tmp_path: Path) -> None:
    spool = drain(decompress_to_spool(region(gzip.compress(DATA)), "gzip", tmp_path, Caps()))
    with spool:
        assert spool.read_at(0, spool.size) == DATA
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(ArchiveError):
        drain(decompress_to_spool(region(gzip.compress(DATA)[:-1]), "gzip", tmp_path, Caps()))
