"""`ocisync unpack` and `umoci unpack` make the same tree of the same image."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.integration.rootfs import (
    CAPABILITY,
    Piece,
    file,
    folder,
    gnu_tar,
    hard_link,
    image,
    in_thread,
    layer,
    special,
    symlink,
    umoci_unpack,
    unpack_bytes,
    unpack_layout,
    write_layout,
)
from tests.trees import differences

IS_ROOT = os.geteuid() == 0
ROOT = folder("./")
TOUCH = {"mtime": 1_500_000_000.25}

IMAGES: dict[str, Sequence[Sequence[Piece]]] = {
    "one layer": [[ROOT, folder("etc"), file("etc/os", b"x"), file("etc/empty"), symlink("etc/link", "os")]],
    "whiteouts": [
        [ROOT, folder("a"), file("a/one", b"1"), file("a/two", b"2"), folder("b"), folder("b/c"), file("b/c/d", b"3")],
        [folder("a"), file("a/.wh.one"), file(".wh.b"), file("a/.wh.never-there")],
    ],
    "a whiteout and the same name again": [
        [ROOT, folder("a"), file("a/one", b"old"), folder("b"), file("b/old", b"old")],
        [folder("a"), file("a/.wh.one"), file(".wh.b"), folder("b", mode=0o711), file("b/new", b"new")],
    ],
    "an opaque folder": [
        [ROOT, folder("a"), file("a/one", b"1"), folder("a/b"), file("a/b/c", b"2"), symlink("a/l", "b")],
        [folder("a", mode=0o750), file("a/.wh..wh..opq"), file("a/new", b"3"), folder("a/b"), file("a/b/d", b"4")],
    ],
    "an opaque folder, told last": [
        [ROOT, folder("a"), file("a/one", b"1"), folder("a/b"), file("a/b/c", b"2")],
        [folder("a"), file("a/new", b"3"), folder("a/b"), file("a/b/d", b"4"), file("a/.wh..wh..opq")],
    ],
    "hard links in a layer": [
        [ROOT, folder("a"), file("a/one", b"same"), hard_link("two", "a/one"), hard_link("a/three", "./a/one")],
    ],
    "hard links across layers": [
        [ROOT, folder("a"), file("a/one", b"same"), file("other", b"old")],
        [folder("b"), hard_link("b/two", "a/one"), hard_link("other", "/a/one")],
        [file("a/.wh.one")],
    ],
    "a hard link to a link": [[ROOT, symlink("one", "nowhere"), hard_link("two", "one")]],
    "types that change": [
        [ROOT, folder("d"), file("d/f", b"1"), file("f", b"2"), symlink("l", "d"), folder("e"), file("e/g", b"3")],
        [file("d", b"now a file"), folder("f"), file("f/x", b"4"), folder("l"), file("l/y", b"5"), symlink("e", "f")],
    ],
    "long names": [
        [ROOT, *(folder("/".join(["long" * 30] * depth)) for depth in range(1, 9)), file("/".join(["long" * 30] * 9))],
        [symlink("l", "t" * 1000), file("n" * 255, b"longest"), folder("käse"), file("käse/☃.txt", b"unicode")],
    ],
    "through links in the middle of names": [
        [ROOT, folder("usr"), folder("usr/lib"), symlink("lib", "usr/lib"), symlink("abs", "/usr/lib")],
        [file("lib/one", b"1"), file("abs/two", b"2")],
    ],
    "modes": [
        [
            ROOT,
            folder("sticky", mode=0o1777),
            folder("closed", mode=0o500),
            file("closed/f", b"y", mode=0o400),
        ],
        [file("closed/g", b"z")],
    ],
    "times": [[folder("./", **TOUCH), folder("a", **TOUCH), file("a/f", b"x", **TOUCH), symlink("a/l", "f", **TOUCH)]],
    "odd but harmless names": [
        [ROOT, folder("./a/"), file("./a//b", b"1"), file("/c", b"2"), file("a/../d", b"3"), symlink("/e", "/c")]
    ],
    "a fifo": [[ROOT, special("pipe", tarfile.FIFOTYPE, mode=0o640)]],
}
NO_TIMES = {"an opaque folder, told last"}  # umoci leaves the time at which it removed something
FOR_ROOT: dict[str, Sequence[Sequence[Piece]]] = {
    "set-id bits": [
        [
            ROOT,
            file("none", b"x", mode=0),
            file("setuid", b"x", mode=0o4755, uid=9),
            file("setgid", b"x", mode=0o2755, gid=9),
        ]
    ],
    "owners": [
        [ROOT, file("f", b"x", uid=1000, gid=50), folder("d", uid=7), symlink("l", "f", uid=3, gid=4)],
        [folder("d", uid=8, gid=2_000_000), file("f2", b"setuid", uid=1000, mode=0o6755)],
    ],
    "attributes": [
        [
            ROOT,
            file("ping", b"x", xattrs={"security.capability": CAPABILITY, "user.a": b"1"}, uid=5),
            folder("d", xattrs={"user.d": b"old", "user.gone": b"x"}),
            symlink("l", "d", xattrs={"trusted.l": b"on a link"}),
        ],
        [folder("d", xattrs={"user.d": bytes(range(1, 256))})],
    ],
    "devices": [
        [
            ROOT,
            special("null", tarfile.CHRTYPE, 1, 3, mode=0o666),
            special("loop", tarfile.BLKTYPE, 7, 0, uid=0, gid=6),
            special("high", tarfile.CHRTYPE, 4095, 300),
        ],
        [file("null", b"now a file")],
    ],
}


@pytest.mark.parametrize("name", IMAGES)
async def test_the_same_tree_as_umoci(name: str, tmp_path: Path) -> None:
    await _compare([layer(*pieces) for pieces in IMAGES[name]], tmp_path, ("mtime",) if name in NO_TIMES else ())


@pytest.mark.skipif(not IS_ROOT, reason="only root may give files away")
@pytest.mark.parametrize("name", FOR_ROOT)
async def test_the_same_tree_as_umoci_for_root(name: str, tmp_path: Path) -> None:
    await _compare([layer(*pieces) for pieces in FOR_ROOT[name]], tmp_path)


@pytest.mark.parametrize("version", ["0.1", "1.0"])
async def test_sparse_files_as_gnu_tar_writes_them(version: str, tmp_path: Path) -> None:
    made = await _sparse_layer(tmp_path / "root", "--format=pax", f"--sparse-version={version}")
    await _compare([made], tmp_path)
    _check_sparse(tmp_path)


async def test_sparse_files_in_gnu_format(tmp_path: Path) -> None:
    """umoci 0.4.7 refuses them ("unknown typeflag"), so only what went in is compared."""
    made = await _sparse_layer(tmp_path / "root", "--format=gnu")
    await unpack_bytes([made], tmp_path / "ours")
    _check_sparse(tmp_path)


async def test_layers_without_folder_entries(tmp_path: Path) -> None:
    layers = [layer(file("a/b/c", b"1")), layer(file("a/b/.wh.c"), file("d/e", b"2"))]
    await _compare(layers, tmp_path, ("mtime",))


async def _compare(layers: Sequence[bytes], tmp_path: Path, ignore: Sequence[str] = ()) -> None:
    layout = tmp_path / "layout"
    await in_thread(partial(write_layout, layout, {"it": image(*layers)}))
    await umoci_unpack(layout, tmp_path / "theirs", "it", *(() if IS_ROOT else ("--rootless",)))
    await unpack_layout(layout, tmp_path / "ours", "it")
    ignore = ignore if IS_ROOT else (*ignore, "owner", "xattrs")  # rootless, umoci notes owners in attributes
    assert differences(tmp_path / "theirs", tmp_path / "ours", ignore) == []


async def _sparse_layer(root: Path, *options: str) -> bytes:
    made: list[bytes] = []
    await in_thread(partial(_make_sparse, root))
    await in_thread(lambda: made.append(gnu_tar(root, "--sparse", *options)))
    assert len(made[0]) < 1_000_000
    return made[0]


def _check_sparse(tmp_path: Path) -> None:
    assert differences(tmp_path / "root", tmp_path / "ours", ("mtime",)) == []
    assert (tmp_path / "ours" / "holes").stat().st_blocks * 512 < 1_000_000


def _make_sparse(root: Path) -> None:
    root.mkdir()
    with (root / "holes").open("wb") as out:
        for number in range(50):  # more pieces than a header holds
            out.seek(number * 300_000)
            out.write(b"data %d" % number)
        out.truncate(20_000_000)
    (root / "dense").write_bytes(b"no hole")
