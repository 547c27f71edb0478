"""Inventories as JSON: written one line for each image and blob, and read strictly.

Whoever hands over a medium may have written anything on it. So sizes and counts are bounded, names are checked before
any path or key is made of them, and nothing may be listed twice or be unknown. Whether the volumes are what the
inventory says is found out by `bundles.volume_layout` and `bundles.verify_volumes`.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence

from ocisync.bundles.blob_table import BlobEntry, BlobTable
from ocisync.bundles.inventory import (
    FORMAT,
    Base,
    BundledImage,
    BundleInventory,
    Kind,
    Removal,
    Volume,
    bundle_id,
    is_bundle_name,
    volume_names,
)
from ocisync.errors import BundleError, InvalidName
from ocisync.model import media_types
from ocisync.model.descriptor import MAX_SIZE, Descriptor
from ocisync.model.digest import Digest, parse_digest
from ocisync.model.image_name import parse_name, parse_tag
from ocisync.model.manifest import MAX_MANIFEST_SIZE
from ocisync.model.text.outside_json import ObjectReader, Pairs

MAX_INVENTORY = 32 * 1024 * 1024  # bytes; some 250,000 blobs
_LEAST_VALUE = 8  # bytes that a value takes on average, at least; of what we write, the shortest removals take 8
_FEW_VALUES = 10_000
MAX_VOLUMES = 100_000
_MAX_SEQUENCE = 99_999_999
_SUM = re.compile(r"[0-9a-f]{64}\Z")
_TOP = frozenset(
    ("format", "kind", "id", "name", "sequence", "base", "index", "volumes", "images", "removed", "omitted", "blobs")
)
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,109}\Z", re.ASCII)


def parse_inventory(raw: bytes, kinds: Sequence[Kind] = ("bundle",)) -> BundleInventory:
    """An inventory or receipt.

    Raises:
        BundleError: it is none, or says what cannot be.
    """
    if len(raw) > MAX_INVENTORY:
        raise BundleError(f"the inventory has {len(raw)} bytes; at most {MAX_INVENTORY} are read")
    if sum(map(raw.count, (b",", b"[", b"{"))) > _FEW_VALUES + len(raw) // _LEAST_VALUE:
        # Millions of empty values would take twenty times their bytes in memory before anything could be said of them.
        raise BundleError("the inventory is not in the form that ocisync writes: it consists of more values than text")
    try:
        document, blobs = _load(raw)
        inventory = _read(_mapping(document, "the inventory", _TOP), blobs, kinds)
    except InvalidName as exc:
        raise BundleError(f"the inventory: {exc.message}") from exc
    except ValueError as exc:
        raise BundleError(f"the inventory is not in the form that ocisync writes: {exc}") from exc
    _check_references(inventory)
    return inventory


def _load(raw: bytes) -> tuple[dict[str, object], BlobTable]:
    """The document but for its blobs, which are taken one by one: as one value they would be by far the largest.

    Raises:
        ValueError: it is none.
        InvalidName: a blob's name is no digest.
    """
    reader = ObjectReader(raw, _make_object, _refuse_constant)
    document: dict[str, object] = {}
    blobs = BlobTable()
    for key in reader.members():
        if key in document:
            raise ValueError("a key appears twice")
        document[key] = None
        if key != "blobs":
            document[key] = reader.value()
            continue
        for digest in map(parse_digest, reader.members()):
            entry = reader.value()
            if not isinstance(entry, BlobEntry):
                raise BundleError(f"{digest}: neither in a volume nor in an earlier bundle")
            if digest in blobs:
                raise ValueError("a key appears twice")
            blobs[digest] = entry
    reader.end()
    return document, blobs


def _read(document: Mapping[str, object], blobs: BlobTable, kinds: Sequence[Kind]) -> BundleInventory:
    if document.get("format") != FORMAT:
        raise BundleError(f"the inventory's format is {str(document.get('format'))[:40]!r}; {FORMAT} is read")
    kind = document.get("kind")
    known = next((one for one in kinds if one == kind), None)
    if known is None:
        raise BundleError(f"a {' or a '.join(kinds)} is expected here; this is a {str(kind)[:20]!r}")
    name, sequence = _text(document, "name"), _number(document, "sequence", _MAX_SEQUENCE, least=1)
    if not is_bundle_name(name) or document.get("id") != bundle_id(name, sequence):
        raise BundleError("the inventory's `name`, `sequence` and `id` do not match each other")
    index, base = document.get("index"), document.get("base")
    inventory = BundleInventory(
        name,
        sequence,
        known,
        base=None if base is None else _base(_mapping(base, "base", frozenset(("id", "digest")))),
        volumes=_volumes(_list(document, "volumes", MAX_VOLUMES), bundle_id(name, sequence)),
        index=None if index is None else _index(_mapping(index, "index", frozenset(("size", "digest")))),
        images=tuple(_images(_list(document, "images"))),
        removed=tuple(_removals(_list(document, "removed"))),
        omitted=_omitted(document.get("omitted")),
        blobs=blobs,
    )
    if known == "receipt" and (
        inventory.volumes or inventory.index or any(one.volume for one in inventory.blobs.values())
    ):
        raise BundleError("a receipt has no volumes")
    if known == "bundle" and not (inventory.volumes and inventory.index):
        raise BundleError("a bundle without volumes")
    return inventory


def _check_references(inventory: BundleInventory) -> None:
    """Whether all that is named is listed."""
    for image in inventory.images:
        for digest in (image.digest, *image.referrers):
            entry = inventory.blobs.get(digest)
            if entry is None or not entry.media_type:
                raise BundleError(f"{image}: {digest} is not among the inventory's manifests")
    tags = [(one.name, one.tag) for one in inventory.images]
    tags += [(one.name, one.tag) for one in inventory.removed]
    if len(set(tags)) < len(tags):
        raise BundleError("the inventory lists a tag twice")
    for digest, entry in inventory.blobs.items():
        last = entry.volume + max(0, len(entry.parts) - 1)
        if last > len(inventory.volumes):
            raise BundleError(f"{digest}: there is no volume {last}")
        if not entry.volume and (entry.bundle == inventory.id and inventory.kind == "bundle"):
            raise BundleError(f"{digest}: it is said to come with an earlier bundle, which is this one")


def _volumes(listed: Sequence[object], bundle: str) -> tuple[Volume, ...]:
    found = []
    for name, item in zip(volume_names(bundle, len(listed)), listed, strict=True):
        volume = _mapping(item, "a volume", frozenset(("file", "size", "sha256")))
        if volume.get("file") != name:
            raise BundleError(f"a volume's file is called {str(volume.get('file'))[:200]!r}, not {name!r}")
        total = _text(volume, "sha256")
        if _SUM.match(total) is None:
            raise BundleError(f"{name}: its `sha256` is not a digest")
        found.append(Volume(_number(volume, "size", MAX_SIZE), total))
    return tuple(found)


def _images(listed: Sequence[object]) -> list[BundledImage]:
    found = []
    for item in listed:
        image = _mapping(item, "an image", frozenset(("name", "tag", "digest", "referrers")))
        referrers = tuple(map(parse_digest, _list(image, "referrers"))) if "referrers" in image else ()
        name, tag = parse_name(_text(image, "name")), parse_tag(_text(image, "tag"))
        found.append(BundledImage(name, tag, parse_digest(image.get("digest")), referrers))
    return found


def _removals(listed: Sequence[object]) -> list[Removal]:
    found = []
    for item in listed:
        one = _mapping(item, "a removed tag", frozenset(("name", "tag", "bundle")))
        found.append(Removal(parse_name(_text(one, "name")), parse_tag(_text(one, "tag")), _id(one, "bundle")))
    return found


def _omitted(value: object) -> dict[str, dict[Digest, list[Digest]]]:
    found: dict[str, dict[Digest, list[Digest]]] = {}
    for name, indexes in _mapping(value, "`omitted`").items():
        listed = _mapping(indexes, "`omitted`")
        found[parse_name(name)] = {parse_digest(one): list(map(parse_digest, _list(listed, one))) for one in listed}
    return found


def _base(value: Mapping[str, object]) -> Base:
    return Base(_id(value, "id"), parse_digest(value.get("digest")))


def _index(value: Mapping[str, object]) -> Descriptor:
    digest = parse_digest(value.get("digest"))
    return Descriptor(media_types.OCI_INDEX, digest, _number(value, "size", MAX_SIZE))


def _make_object(pairs: Pairs) -> object:
    """A dictionary, or the entry of a blob, which takes a fifth of the memory. Raises ValueError."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return _blob(found) if "size" in found and ("volume" in found or "bundle" in found) else found


def _blob(found: dict[str, object]) -> BlobEntry:
    size, volume, bundle = found.pop("size"), found.pop("volume", 0), found.pop("bundle", "")
    parts, kind = found.pop("parts", []), found.pop("type", "")
    if found or not _is_number(size, MAX_SIZE) or not _is_number(volume, MAX_VOLUMES):
        raise ValueError("the entry of a blob is wrong")
    if not isinstance(bundle, str) or bool(bundle) == bool(volume) or (bundle and _ID.match(bundle) is None):
        raise ValueError("a blob is in a volume, or came with an earlier bundle")
    if not isinstance(parts, list) or len(parts) == 1 or not all(_is_number(one, MAX_SIZE) and one for one in parts):
        raise ValueError("the parts of a blob are wrong")
    if parts and (not volume or sum(parts) != size):
        raise ValueError("the parts of a blob are not its size")
    if not isinstance(kind, str) or (kind and kind not in media_types.MANIFESTS):
        raise ValueError("a manifest of a type that is not known")
    if kind and isinstance(size, int) and (size > MAX_MANIFEST_SIZE or parts):
        raise ValueError("a manifest that is too large")
    return BlobEntry(_int(size), _int(volume), tuple(map(_int, parts)), sys.intern(bundle), sys.intern(kind))


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _is_number(value: object, most: int) -> bool:
    return type(value) is int and 0 <= value <= most


def _number(document: Mapping[str, object], key: str, most: int, least: int = 0) -> int:
    value = document.get(key)
    if type(value) is not int or not least <= value <= most:
        raise BundleError(f"the inventory's `{key}` is {str(value)[:40]!r}, not a number from {least} to {most}")
    return value


def _text(document: Mapping[str, object], key: str) -> str:
    value = document.get(key)
    if not isinstance(value, str):
        raise BundleError(f"the inventory's `{key}` is not text")
    return value


def _id(document: Mapping[str, object], key: str) -> str:
    value = _text(document, key)
    if _ID.match(value) is None:
        raise BundleError(f"{value[:120]!r} is not the id of a bundle")
    return sys.intern(value)


def _list(document: Mapping[str, object], key: str, most: int = 10_000_000) -> list[object]:
    value = document.get(key)
    if not isinstance(value, list) or len(value) > most:
        raise BundleError(f"the inventory's `{key[:80]}` is not a list, or too long")
    return value


def _mapping(value: object, what: str, keys: frozenset[str] | None = None) -> dict[str, object]:
    if not isinstance(value, dict):
        raise BundleError(f"{what} is not an object")
    if keys is not None and (unknown := value.keys() - keys):
        raise BundleError(f"{what} has `{min(unknown)[:40]}`, which is not known")
    return value


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def render_inventory(inventory: BundleInventory) -> bytes:
    """JSON that `parse_inventory` reads. Written line by line: there may be hundreds of thousands.

    Raises:
        BundleError: it would be larger than is read.
    """
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
        out.write(f"{_dump(key)}: {_dump(value)},\n".encode())
    names = inventory.file_names
    volumes = (
        {"file": name, "size": volume.size, "sha256": volume.sha256}
        for name, volume in zip(names, inventory.volumes, strict=True)
    )
    _write_list(out, "volumes", map(_dump, volumes))
    _write_list(out, "images", (_dump(_image_json(image)) for image in inventory.images))
    removed = ({"name": one.name, "tag": one.tag, "bundle": one.bundle} for one in inventory.removed)
    _write_list(out, "removed", map(_dump, removed))
    omitted = {
        name: {index: list(images) for index, images in found.items()} for name, found in inventory.omitted.items()
    }
    out.write(f'"omitted": {_dump(omitted)},\n'.encode())
    out.write(b'"blobs": {')
    separator = b"\n"
    for digest, entry in inventory.blobs.items():
        out.write(separator + f'"{digest}": {_dump(_blob_json(entry))}'.encode())
        separator = b",\n"
    out.write(b"\n}}\n")
    if out.tell() > MAX_INVENTORY:
        raise BundleError(
            f"the inventory would have {out.tell()} bytes, and {MAX_INVENTORY} are read at the other side: make "
            "bundles of fewer repositories"
        )
    return out.getvalue()


def _write_list(out: io.BytesIO, key: str, lines: Iterable[str]) -> None:
    out.write(f'"{key}": ['.encode())
    separator = "\n"
    for line in lines:
        out.write(f"{separator}{line}".encode())
        separator = ",\n"
    out.write(b"\n],\n")


def _image_json(image: BundledImage) -> dict[str, object]:
    found: dict[str, object] = {"name": image.name, "tag": image.tag, "digest": image.digest}
    return found | ({"referrers": list(image.referrers)} if image.referrers else {})


def _blob_json(entry: BlobEntry) -> dict[str, object]:
    found: dict[str, object] = {"size": entry.size}
    found |= {"volume": entry.volume} if entry.volume else {"bundle": entry.bundle}
    if entry.parts:
        found["parts"] = list(entry.parts)
    if entry.media_type:
        found["type"] = entry.media_type
    return found


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
