"""What stands where in volumes: everything once, nothing too large, and the same after an interruption."""

import io
import tarfile
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.bundles.volume_layout import END, SMALLEST_VOLUME, Piece, footprint, plan_volumes
from ocisync.content.digest_table import SizedBlobs
from ocisync.errors import ConfigError
from ocisync.model.digest import Digest, sha256
from ocisync.stores.archive.tar_writer import render_header

CAPACITY = SMALLEST_VOLUME
SIZES = st.lists(st.integers(0, 3 * CAPACITY), max_size=12)


def _blobs(sizes: list[int]) -> dict[Digest, int]:
    return {sha256(f"{number}".encode()): size for number, size in enumerate(sizes)}


def _plan(blobs: dict[Digest, int], capacity: int, pending: Piece | None = None) -> list[list[Piece]]:
    known = SizedBlobs(blobs.items())
    return [list(content.pieces()) for content in plan_volumes(known, range(len(blobs)), capacity, pending)]


def _used(pieces: list[Piece]) -> int:
    return sum(footprint(piece.name, piece.length) for piece in pieces) + len(END)


@given(SIZES)
def test_everything_is_in_once_and_no_volume_is_too_large(sizes: list[int]) -> None:
    blobs = _blobs(sizes)
    volumes = _plan(blobs, CAPACITY)
    assert all(_used(volume) <= CAPACITY for volume in volumes)
    parts: dict[Digest, list[Piece]] = {}
    for volume in volumes:
        for piece in volume:
            parts.setdefault(piece.digest, []).append(piece)
    assert {digest: sum(piece.length for piece in found) for digest, found in parts.items()} == blobs
    for found in parts.values():
        assert [piece.start for piece in found] == [0, *accumulate(piece.length for piece in found[:-1])]
        assert [piece.number for piece in found] == list(range(len(found)))
        assert all(piece.is_cut for piece in found) == (len(found) > 1) or len(found) == 1


@given(SIZES, st.integers(0, 20))
def test_a_plan_goes_on_as_it_would_have(sizes: list[int], finished: int) -> None:
    blobs = _blobs(sizes)
    volumes = _plan(blobs, CAPACITY)
    done = volumes[:finished]
    rest = {digest: size for digest, size in blobs.items() if not any(digest == p.digest for v in done for p in v)}
    last = done[-1][0] if done else None
    pending = last if last is not None and not last.is_last else None
    assert _plan(rest, CAPACITY, pending) == volumes[finished:]


def test_only_what_is_larger_than_a_volume_is_cut() -> None:
    blobs = _blobs([CAPACITY - 2048, CAPACITY, 100])
    cut = {piece.size for volume in _plan(blobs, CAPACITY) for piece in volume if piece.is_cut}
    assert cut == {CAPACITY}


def test_without_a_size_there_is_one_volume() -> None:
    assert [len(volume) for volume in _plan(_blobs([5, 10**12]), 0)] == [2]
    assert _plan({}, 0) == _plan({}, CAPACITY) == []


def test_a_volume_that_holds_nothing() -> None:
    with pytest.raises(ConfigError, match="too small"):
        _plan(_blobs([1]), 1000)


@pytest.mark.parametrize("size", [0, 1, 512, 8 << 30, (8 << 30) - 1, 40 << 30])
def test_headers_are_those_of_a_tar(size: int) -> None:
    name = f"blobs/sha512/{'a' * 128}.part-007"
    with tarfile.open(fileobj=io.BytesIO(render_header(name, size) + bytes(1024)), ignore_zeros=False) as archive:
        member = archive.next()
    assert member is not None
    assert (member.name, member.size, member.isreg()) == (name, size, True)
