"""A docker-archive, compressible like a root filesystem, and the same with one layer rebuilt."""

import io
import json
import random
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.storage import MIB, remove, write_hashed
from bench.workloads import Sizes

LAYERS = 8
_NOISE = 0.05  # the share of a file that does not compress: with it gzip leaves 0.37, as of Debian's libraries
_PAGE = 32 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class Archives:
    """Two archives that differ in their last layer."""

    first: Path
    rebuilt: Path


def archives(work: Path, sizes: Sizes) -> Archives:
    """The two archives, from the working folder where they were made before."""
    folder = work / f"archive-{sizes.archive_bytes}-{_NOISE}"
    made = Archives(folder / "first.tar", folder / "rebuilt.tar")
    if not made.rebuilt.exists():
        remove(folder)
        folder.mkdir(parents=True)
        _build(folder, made, sizes.archive_bytes // LAYERS)
    return made


def _build(folder: Path, made: Archives, size: int) -> None:
    layers = [_layer(folder / f"layer-{n}", size, f"{n}") for n in range(LAYERS + 1)]
    _write(made.first, layers[:LAYERS], "v1")
    _write(made.rebuilt.with_suffix(".part"), [*layers[: LAYERS - 1], layers[LAYERS]], "v2")
    for path, _ in layers:
        path.unlink()
    made.rebuilt.with_suffix(".part").rename(made.rebuilt)


def _layer(path: Path, size: int, seed: str) -> tuple[Path, str]:
    """An uncompressed layer of about `size` bytes, and its digest."""
    return path, write_hashed(path, _tar(size, seed))[0]


def _tar(size: int, seed: str) -> Iterator[bytes]:
    source, text = random.Random(seed), _text()
    number = 0
    while size > 0:
        member = tarfile.TarInfo(f"usr/lib/{seed}/{number % 97}/{number}")
        member.size = min(size, int(source.lognormvariate(9.5, 1.5)) + 1, 16 * MIB)
        yield member.tobuf(tarfile.GNU_FORMAT)
        yield _file(member.size, source, text)
        yield bytes(-member.size % 512)
        size -= member.size
        number += 1
    yield bytes(1024)


def _file(size: int, source: random.Random, text: bytes) -> bytes:
    out = io.BytesIO()
    while out.tell() < size:
        out.write(source.randbytes(int(_PAGE * _NOISE)))
        start = source.randrange(len(text) - _PAGE)
        out.write(text[start : start + int(_PAGE * (1 - _NOISE))])
    return out.getvalue()[:size]


def _text() -> bytes:
    """Some megabytes of words, the common ones often."""
    source = random.Random("words")
    words = [source.randbytes(source.randrange(2, 9)).hex().encode() for _ in range(4000)]
    weights = [1 / (n + 1) for n in range(len(words))]
    return b" ".join(source.choices(words, weights, k=500_000))


def _write(archive: Path, layers: list[tuple[Path, str]], tag: str) -> None:
    rootfs = {"type": "layers", "diff_ids": [digest for _, digest in layers]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
    names = [f"{digest[7:]}/layer.tar" for _, digest in layers]
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [f"app:{tag}"], "Layers": names}]).encode()
    with tarfile.open(archive, "w", format=tarfile.GNU_FORMAT) as out:
        for (path, _), name in zip(layers, names, strict=True):
            out.add(path, name, filter=_plain)
        for name, body in (("config.json", config), ("manifest.json", manifest)):
            member = tarfile.TarInfo(name)
            member.size = len(body)
            out.addfile(member, io.BytesIO(body))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
