"""The bytes of an inventory: JSON, one line for each image and blob, the same for the same content."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable

from ocisync.bundles.inventory import FORMAT, BlobEntry, Image, Inventory
from ocisync.model.digest import sha256


def render_inventory(inventory: Inventory) -> bytes:
    """JSON that `parse_inventory` reads. Written line by line: there may be hundreds of thousands."""
    out = io.BytesIO()
    base = inventory.base
    head: dict[str, object] = {
        "format": FORMAT,
        "kind": inventory.kind,
        "id": inventory.id,
        "name": inventory.name,
        "sequence": inventory.sequence,
        "base": {"id": base.id, "digest": base.digest} if base else None,
        "index": {"size": inventory.index.size, "digest": inventory.index.digest} if inventory.index else None,
    }
    out.write(b"{")
    for key, value in head.items():
        out.write(f"{_text(key)}: {_text(value)},\n".encode())
    names = inventory.file_names
    volumes = (
        {"file": name, "size": volume.size, "sha256": volume.sha256}
        for name, volume in zip(names, inventory.volumes, strict=True)
    )
    _write_list(out, "volumes", map(_text, volumes))
    _write_list(out, "images", (_text(_image(image)) for image in inventory.images))
    removed = ({"name": one.name, "tag": one.tag, "bundle": one.bundle} for one in inventory.removed)
    _write_list(out, "removed", map(_text, removed))
    omitted = {
        name: {index: list(images) for index, images in found.items()} for name, found in inventory.omitted.items()
    }
    out.write(f'"omitted": {_text(omitted)},\n'.encode())
    out.write(b'"blobs": {')
    separator = b"\n"
    for digest, entry in inventory.blobs.items():
        out.write(separator + f'"{digest}": {_text(_blob(entry))}'.encode())
        separator = b",\n"
    out.write(b"\n}}\n")
    return out.getvalue()


def digest_of_inventory(raw: bytes) -> str:
    """How a delta names its base, and a receipt its bundle."""
    return sha256(raw)


def _write_list(out: io.BytesIO, key: str, lines: Iterable[str]) -> None:
    out.write(f'"{key}": ['.encode())
    separator = "\n"
    for line in lines:
        out.write(f"{separator}{line}".encode())
        separator = ",\n"
    out.write(b"\n],\n")


def _image(image: Image) -> dict[str, object]:
    found: dict[str, object] = {"name": image.name, "tag": image.tag, "digest": image.digest}
    return found | ({"referrers": list(image.referrers)} if image.referrers else {})


def _blob(entry: BlobEntry) -> dict[str, object]:
    found: dict[str, object] = {"size": entry.size}
    found |= {"volume": entry.volume} if entry.volume else {"bundle": entry.bundle}
    if entry.parts:
        found["parts"] = list(entry.parts)
    if entry.media_type:
        found["type"] = entry.media_type
    return found


def _text(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
