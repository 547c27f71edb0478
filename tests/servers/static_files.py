"""A static registry as files, written by hand: none of ocisync's code is in it."""

import json
from collections.abc import Sequence
from pathlib import Path

from .images import Image, Index


def write_registry(root: Path, name: str, image: Image | Index, tags: Sequence[str] = ("latest",)) -> None:
    """Add an image to the registry in a folder, under tags."""
    base = root / "v2" / name
    _put(root / "v2" / "index.html", b"{}")
    _put_image(base, image)
    for tag in tags:
        _put(base / "manifests" / tag, image.manifest)
    known = sorted(path.name for path in (base / "manifests").iterdir() if ":" not in path.name)
    _put(base / "tags" / "list", json.dumps({"name": name, "tags": known}).encode())
    catalog = sorted(str(path.parent.parent.relative_to(root / "v2")) for path in (root / "v2").rglob("tags/list"))
    _put(root / "v2" / "_catalog", json.dumps({"repositories": catalog}).encode())


def _put_image(base: Path, image: Image | Index) -> None:
    if isinstance(image, Index):
        for child in image.children:
            _put_image(base, child)
    else:
        for digest, blob in image.blobs.items():
            _put(base / "blobs" / digest, blob)
    _put(base / "manifests" / image.digest, image.manifest)


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
