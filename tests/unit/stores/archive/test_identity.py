"""What a docker-archive says it holds: the same for the same images, and silent where only its bytes tell."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from ocisync.stores.archive.docker_archive import open_docker_archive
from tests.servers.images import digest_of, make_image, write_archive

IMAGE = make_image("one")


def _files(tag: str = "team/app:1", layers: tuple[bytes, ...] = IMAGE.layers) -> dict[str, bytes]:
    entry = {"Config": "config.json", "RepoTags": [tag], "Layers": [f"{n}.tar" for n in range(len(layers))]}
    members = {f"{n}.tar": layer for n, layer in enumerate(layers)}
    return {**members, "config.json": IMAGE.config, "manifest.json": json.dumps([entry]).encode()}


async def _identity(folder: Path, files: Mapping[str, bytes], *, compress: bool = False) -> str:
    path = write_archive(folder / "a.tar", files, compress=compress)
    async with open_docker_archive(path, scratch=folder) as source:
        return await source.identity()


async def test_the_same_images_are_the_same_in_whatever_order_they_lie(tmp_path: Path) -> None:
    first = await _identity(tmp_path, _files())
    assert first.startswith("image:sha256:")
    assert await _identity(tmp_path, dict(sorted(_files().items(), reverse=True))) == first


@pytest.mark.parametrize(
    "other",
    [
        _files("team/app:2"),
        _files() | {"config.json": IMAGE.config + b" "},
        _files(layers=(IMAGE.layers[0], IMAGE.layers[1][:-512])),
        _files(layers=IMAGE.layers[:1]),
    ],
    ids=["name", "configuration", "size", "layers"],
)
async def test_other_images_are_others(tmp_path: Path, other: Mapping[str, bytes]) -> None:
    assert await _identity(tmp_path, other) not in ("", await _identity(tmp_path, _files()))


async def test_where_only_the_bytes_tell_it_says_nothing(tmp_path: Path) -> None:
    assert await _identity(tmp_path, _files(), compress=True) == ""
    kept = tuple(gzip.compress(layer) for layer in IMAGE.layers)
    assert await _identity(tmp_path, _files(layers=kept)) == ""
    lost = _files()
    del lost["1.tar"]
    assert await _identity(tmp_path, lost) == ""


async def test_an_archive_from_before_docker_1_10_says_nothing(tmp_path: Path) -> None:
    one = digest_of(IMAGE.layers[0])[7:]
    old = {f"{one}/VERSION": b"1.0", f"{one}/json": b"{}", f"{one}/layer.tar": IMAGE.layers[0]}
    assert await _identity(tmp_path, old) == ""
