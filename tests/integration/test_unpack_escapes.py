"""Hostile layers: nothing is written outside the folder, and what is refused is refused clearly, leaving nothing."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest

from ocisync.errors import ArchiveError, LimitExceeded, OcisyncError
from tests.integration.rootfs import file, folder, hard_link, in_thread, layer, special, symlink, unpack_bytes
from tests.trees import Entry, snapshot
from tests.unit.content.tar.tars import END, member, pax, tar

Layers = Sequence[bytes]
OUT = "../../outside"  # as seen from a link at the root of the tree

MAP_INSIDE = {"GNU__sparse__major": "1", "GNU__sparse__minor": "0", "GNU__sparse__realsize": "1"}

REFUSED: dict[str, tuple[Layers, type[OcisyncError], str]] = {
    "a name that climbs": ([layer(file("../owned"))], ArchiveError, "leads out"),
    "a name that climbs from within": ([layer(folder("a"), file("a/../../owned"))], ArchiveError, "leads out"),
    "a sibling whose name begins alike": ([layer(file("../root-2/owned"))], ArchiveError, "leads out"),
    "a folder that climbs": ([layer(folder("../owned", mode=0o777))], ArchiveError, "leads out"),
    "an absolute name that climbs": ([layer(file("/../owned"))], ArchiveError, "leads out"),
    "a pax name that climbs": ([tar(pax(path="../owned"), member("harmless", b"x"))], ArchiveError, "leads out"),
    "a long name that climbs": (
        [tar(member("@LongLink", b"../owned\0", kind=b"L"), member("harmless", b"x"))],
        ArchiveError,
        "leads out",
    ),
    "a sparse member's name that climbs": (
        [tar(pax(GNU__sparse__map="0,1", GNU__sparse__size="1", GNU__sparse__name="../owned"), member("x", b"x"))],
        ArchiveError,
        "leads out",
    ),
    "through a link": ([layer(symlink("l", OUT), file("l/owned"))], ArchiveError, "leads out"),
    "through a link of an earlier layer": (
        [layer(symlink("l", OUT)), layer(file("l/owned"))],
        ArchiveError,
        "leads out",
    ),
    "through a chain of links": (
        [layer(symlink("a", "b"), symlink("b", "c"), symlink("c", ".."), file("a/outside/owned"))],
        ArchiveError,
        "leads out",
    ),
    "through links that climb one by one": (
        [layer(folder("d"), symlink("d/up", ".."), symlink("up2", "d/up/.."), file("up2/owned"))],
        ArchiveError,
        "leads out",
    ),
    "through an absolute link that climbs": (
        [layer(symlink("l", "/../../outside"), file("l/owned"))],
        ArchiveError,
        "leads out",
    ),
    "a folder replaced by a link in mid-way": (
        [layer(folder("d"), file("d/x"), symlink("d", OUT), file("d/owned"))],
        ArchiveError,
        "leads out",
    ),
    "a folder replaced by a link between layers": (
        [layer(folder("d"), file("d/x")), layer(file(".wh.d"), symlink("d", OUT)), layer(file("d/owned"))],
        ArchiveError,
        "leads out",
    ),
    "a folder made through a link": ([layer(symlink("l", OUT), folder("l/new"))], ArchiveError, "leads out"),
    "a link made through a link": ([layer(symlink("l", OUT), symlink("l/new", "x"))], ArchiveError, "leads out"),
    "a device made through a link": (
        [layer(symlink("l", OUT), special("l/new", tarfile.FIFOTYPE))],
        ArchiveError,
        "leads out",
    ),
    "a hard link to a name that climbs": ([layer(hard_link("h", OUT + "/secret"))], ArchiveError, "leads out"),
    "a hard link through a link": (
        [layer(symlink("l", OUT), hard_link("h", "l/secret"))],
        ArchiveError,
        "leads out",
    ),
    "a hard link put through a link": (
        [layer(file("f"), symlink("l", OUT), hard_link("l/h", "f"))],
        ArchiveError,
        "leads out",
    ),
    "a hard link against the working directory": ([layer(hard_link("h", "secret"))], ArchiveError, "not there"),
    "a hard link to an absolute name": ([layer(hard_link("h", "{outside}/secret"))], ArchiveError, "not there"),
    "a hard link to the root": ([layer(hard_link("h", "/"))], ArchiveError, "not there"),
    "a hard link to a folder": ([layer(folder("d"), hard_link("h", "d"))], ArchiveError, "hard link to the folder"),
    "a whiteout through a link": ([layer(symlink("l", OUT)), layer(file("l/.wh.secret"))], ArchiveError, "leads out"),
    "an opaque mark through a link": (
        [layer(symlink("l", OUT)), layer(file("l/.wh..wh..opq"))],
        ArchiveError,
        "leads out",
    ),
    "the root replaced by a link": ([layer(symlink("./", OUT))], ArchiveError, "root folder itself"),
    "the root replaced by a file": ([layer(file("a/.."))], ArchiveError, "root folder itself"),
    "links in a circle": ([layer(symlink("a", "b"), symlink("b", "a"), file("a/x"))], ArchiveError, "form a loop"),
    "links that multiply": (
        [layer(folder("d"), *(symlink(f"l{n}", f"l{n + 1}/../l{n + 1}") for n in range(20)), file("l0/x"))],
        ArchiveError,
        "form a loop",
    ),
    "through a file": ([layer(file("f"), file("f/x"))], ArchiveError, "is a file"),
    "through a device": (
        [layer(special("pipe", tarfile.FIFOTYPE), file("pipe/x"))],
        ArchiveError,
        "is a file",
    ),
    "too deep": ([layer(file("d/" * 300 + "f"))], LimitExceeded, "folders deep"),
    "too deep by links": (
        [layer(folder("d/" * 200), symlink("l", "d/" * 200), file("l/" + "e/" * 200 + "f"))],
        LimitExceeded,
        "folders deep",
    ),
    "an unknown type": ([tar(member("x", kind=b"V"))], ArchiveError, "type b'V'"),
    "a name with a zero byte": ([tar(pax(path="a\0b"), member("x"))], ArchiveError, "zero byte"),
    "all members renamed": ([tar(member("g", pax(path="../x")[512:1024].rstrip(b"\0"), kind=b"g"), member("x"))],
        ArchiveError,
        "global pax header",
    ),
    "a negative size": ([tar(member("x", size=b"-0000000001"))], ArchiveError, "negative"),
    "a map of holes out of order": (
        [tar(pax(GNU__sparse__map="5,1,0,1", GNU__sparse__size="9"), member("x", b"xy"))],
        ArchiveError,
        "out of order",
    ),
    "a map of holes past the end": (
        [tar(pax(GNU__sparse__map="5,2", GNU__sparse__size="6"), member("x", b"xy"))],
        ArchiveError,
        "does not fit",
    ),
    "a map of ten million holes": (
        [tar(pax(**MAP_INSIDE), member("x", b"10000001\n".ljust(1024, b"1")))],
        LimitExceeded,
        "pieces",
    ),
    "an immense file of nothing": (
        [tar(pax(GNU__sparse__map=f"0,1,{1 << 59},0", GNU__sparse__size=str(1 << 59)), member("x", b"x"))],
        LimitExceeded,
        "at most",
    ),
    "a cut member": ([tar(member("x", bytes(5000)))[:2000]], ArchiveError, "truncated"),
    "members after the end": ([member("x") + bytes(512) + member("y") + END], ArchiveError, "empty header"),
}  # fmt: skip

CONTAINED: dict[str, tuple[Layers, dict[str, bytes]]] = {
    "an absolute name": ([layer(file("{outside}/owned", b"1"))], {"{outside}/owned": b"1"}),
    "an absolute link": (
        [layer(symlink("l", "{outside}"), file("l/owned", b"1"))],
        {"{outside}/owned": b"1"},
    ),
    "an absolute link to a file, written over": (
        [layer(symlink("l", "{outside}/secret"), file("l", b"mine"))],
        {"l": b"mine"},
    ),
    "a climbing link, written over": ([layer(symlink("l", OUT + "/secret"), file("l", b"mine"))], {"l": b"mine"}),
    "a link to a folder, replaced by a folder": (
        [layer(symlink("l", "{outside}"), folder("l", mode=0o777, uid=1), file("l/x", b"1"))],
        {"l/x": b"1"},
    ),
    "a hard link to a link that leads out, written over": (
        [layer(symlink("l", "{outside}/secret"), hard_link("h", "l"), file("h", b"mine"))],
        {"h": b"mine"},
    ),
    "a link's own owner, time and attributes": (
        [layer(symlink("l", "{outside}/secret", uid=7, mtime=5, mode=0o4777), file("f", b"1"))],
        {"f": b"1"},
    ),
    "a whiteout of a link": (
        [layer(symlink("l", "{outside}"), file("f", b"1")), layer(file(".wh.l"))],
        {"f": b"1"},
    ),
    "a whiteout of a folder with links in it": (
        [layer(folder("d"), symlink("d/l", "{outside}"), symlink("d/m", OUT), file("f", b"1")), layer(file(".wh.d"))],
        {"f": b"1"},
    ),
    "a whiteout through an absolute link": (
        [layer(symlink("l", "{outside}"), file("f", b"1")), layer(file("l/.wh.secret"), file("l/.wh..wh..opq"))],
        {"f": b"1"},
    ),
    "an opaque root": (
        [layer(file("old"), symlink("l", OUT)), layer(file(".wh..wh..opq"), file("f", b"1"))],
        {"f": b"1"},
    ),
    "a device, written over": (
        [layer(special("pipe", tarfile.FIFOTYPE)), layer(file("pipe", b"not into it"))],
        {"pipe": b"not into it"},
    ),
    "a hard link to a device": (
        [layer(special("pipe", tarfile.FIFOTYPE), hard_link("h", "pipe"), file("h", b"1"))],
        {"h": b"1"},
    ),
    "a hard link to an absolute name that is there": (
        [layer(folder("etc"), file("etc/passwd", b"ours"), hard_link("h", "/etc/passwd"))],
        {"h": b"ours"},
    ),
    "what docker leaves out of AUFS": (
        [layer(folder(".wh..wh.plnk"), file(".wh..wh.plnk/1.2", b"x"), file(".wh..wh.aufs"), file("f", b"1"))],
        {"f": b"1"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, error, text = REFUSED[name]
    await _refused(layers, error, text, tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "whiteout", [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..", "d/.wh...", ".wh.d/x", "d/.wh.../x"]
)
async def test_fault_79_whiteouts_of_nothing(whiteout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = [layer(folder("d"), file("d/x", b"1")), layer(file(whiteout))]
    await _refused(layers, ArchiveError, "whiteout", tmp_path, monkeypatch)


@pytest.mark.parametrize("name", CONTAINED)
async def test_contained(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers, expected = CONTAINED[name]
    before = await _prepare(tmp_path, monkeypatch)
    await unpack_bytes([_placed(data, tmp_path) for data in layers], tmp_path / "inside" / "root")
    await in_thread(partial(_check_contained, tmp_path, before, expected))


async def test_fault_78_all_ways_out_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One image after the other into folders beside each other: none finds what another left."""
    before = await _prepare(tmp_path, monkeypatch)
    for layers, error, _ in REFUSED.values():
        with pytest.raises(error):
            await unpack_bytes([_placed(data, tmp_path) for data in layers], tmp_path / "inside" / "root")
    for number, (layers, _) in enumerate(CONTAINED.values()):
        await unpack_bytes([_placed(data, tmp_path) for data in layers], tmp_path / "inside" / f"root{number}")
    await in_thread(lambda: _same(before, _outside(tmp_path)))


async def _refused(
    layers: Layers, error: type[OcisyncError], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await _prepare(tmp_path, monkeypatch)
    with pytest.raises(error, match=text) as caught:
        await unpack_bytes([_placed(data, tmp_path) for data in layers], tmp_path / "inside" / "root")
    assert caught.value.message.startswith("layer sha256:")
    await in_thread(partial(_check_nothing_left, tmp_path, before))


async def _prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Entry]:
    """A folder beside the result, which is also the working directory, and what it holds."""
    found: list[dict[str, Entry]] = []

    def make() -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside" / "secret").write_bytes(b"untouched")
        (tmp_path / "inside").mkdir()
        monkeypatch.chdir(tmp_path / "outside")
        found.append(_outside(tmp_path))

    await in_thread(make)
    return found[0]


def _placed(data: bytes, tmp_path: Path) -> bytes:
    """The layer with the real folder's name where it stands for it; the archive is written anew for that."""
    if b"{outside}" not in data:
        return data
    return _rewritten(data, lambda name: name.replace("{outside}", str(tmp_path / "outside")))


def _rewritten(data: bytes, change: Callable[[str], str]) -> bytes:
    pieces = []
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            content = archive.extractfile(info) if info.isreg() else None
            info.name, info.linkname = change(info.name), change(info.linkname)
            info.pax_headers = {}
            pieces.append((info, content.read() if content else b""))
    return layer(*pieces)


def _check_nothing_left(tmp_path: Path, before: dict[str, Entry]) -> None:
    assert list((tmp_path / "inside").iterdir()) == []
    _same(before, _outside(tmp_path))


def _check_contained(tmp_path: Path, before: dict[str, Entry], expected: dict[str, bytes]) -> None:
    root = tmp_path / "inside" / "root"
    assert [path.name for path in (tmp_path / "inside").iterdir()] == ["root"]
    for name, content in expected.items():
        path = root / name.replace("{outside}", str(tmp_path / "outside")).lstrip("/")
        assert not path.is_symlink()
        assert path.read_bytes() == content
    _same(before, _outside(tmp_path))


def _outside(tmp_path: Path) -> dict[str, Entry]:
    """Everything but what is meant to change: the folder that is unpacked to, and the time of the one above."""
    return {
        name: found
        for name, found in snapshot(tmp_path).items()
        if not name.startswith("inside/") and name not in (".", "inside")
    }


def _same(before: dict[str, Entry], after: dict[str, Entry]) -> None:
    assert before == after
