"""Layers of every age: the tree is umoci's and GNU tar's, or the layer is refused."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from ocisync.errors import ArchiveError
from tests.integration.odd_layers import LayerMaker, compare_readers, header, pax
from tests.integration.rootfs import in_thread, names, unpack_bytes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="owners are compared")


async def compare_layers(seeds: range, root: Path) -> Counter[str]:
    """How many were judged by whom."""
    counts: Counter[str] = Counter()
    for seed in seeds:
        await in_thread((root / str(seed)).mkdir)
        verdict = await compare_readers(LayerMaker(seed).layers(), root / str(seed))
        counts.update(verdict.split() or ["refused"])
    return counts


async def test_twenty_random_layers(tmp_path: Path) -> None:
    counts = await compare_layers(range(20), tmp_path)
    assert counts["umoci"] >= 10
    assert counts["tar"] >= 10


@pytest.mark.parametrize("version", [b"00", b"\0\0", b"  ", b" \0"])
async def test_a_prefix_counts_whatever_the_version_is(version: bytes, tmp_path: Path) -> None:
    made = header(b"n", b"0", b"hi", prefix=b"deep/er", magic=b"ustar\0" + version)
    assert "tar" in await compare_readers([made + bytes(1024)], tmp_path)
    assert (tmp_path / "ours1/deep/er/n").read_bytes() == b"hi"


async def test_the_prefix_that_go_before_1_8_wrote_into_gnus_header(tmp_path: Path) -> None:
    """GNU tar leaves it out; docker, which wrote it, reads it."""
    made = header(b".wh.gone", b"0", prefix=b"some/folder", magic=b"ustar  \0") + bytes(1024)
    below = header(b"some/folder/gone", b"0", b"x") + bytes(1024)
    assert await compare_readers([below, made], tmp_path) == "umoci tar umoci"
    assert not (tmp_path / "ours2/some/folder/gone").exists()


async def test_the_last_of_several_pax_headers_counts_alone(tmp_path: Path) -> None:
    made = pax((b"path", b"first"), (b"mtime", b"1000")) + pax((b"mtime", b"2000")) + header(b"own", b"0", b"hi")
    assert await compare_readers([made + bytes(1024)], tmp_path) == "umoci tar"
    assert (tmp_path / "ours1/own").stat().st_mtime == 2000


@pytest.mark.parametrize(
    "made",
    [
        pax((b"path", b"one")) + header(b"././@LongLink", b"L", b"two\0", magic=b"ustar  \0") + header(b"x", b"0"),
        header(b"n", b"0", b"hi", size=b"\0\0" + b"000000002\0"),
        header(b"n/", b"0", b"hi"),
        pax((b"path", b"")) + header(b"n", b"0"),
        header(b"g", b"g", b"11 uid=500\n") + header(b"n", b"0"),
        pax((b"GNU.sparse.numbytes", b"1"), (b"GNU.sparse.offset", b"0")) + header(b"n", b"0", b"x"),
        pax((b"GNU.sparse.size", b"9"), (b"GNU.sparse.numblocks", b"2"), (b"GNU.sparse.map", b"0,1"))
        + header(b"n", b"0", b"x"),
        header(b"n", b"0", mode=b"\x80\0\0\1\0\0\0\0"),
    ],
    ids=["two names", "zeros", "a file like a folder", "no name", "global", "order", "count", "mode"],
)
async def test_what_readers_differ_about_is_refused(made: bytes, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError):
        await unpack_bytes([made + bytes(1024)], tmp_path / "root")


@pytest.mark.parametrize("whiteout", [b"d/.wh..wh..opq", b".wh.d"])
async def test_whiteouts_of_what_the_layer_itself_made_cost_linear_time(
    whiteout: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small layer may hold thousands of both, and each would read the whole folder."""
    looks: list[object] = []
    scandir = os.scandir

    def count(path: int = -1) -> object:
        looks.append(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", count)
    files = b"".join(header(b"d/f%d" % number, b"0") for number in range(200))
    await unpack_bytes([files + header(whiteout, b"0") * 200 + bytes(1024)], tmp_path / "root")
    assert len(names(tmp_path / "root/d")) == 200
    assert len(looks) < 20


async def test_a_whiteout_counts_again_in_the_next_layer(tmp_path: Path) -> None:
    opaque = header(b"d/.wh..wh..opq", b"0")
    layers = [header(b"d/a", b"0"), header(b"d/b", b"0") + opaque * 2, header(b"d/c", b"0") + opaque * 2]
    await compare_readers([layer + bytes(1024) for layer in layers], tmp_path)
    assert names(tmp_path / "ours3/d") == ["c"]
