"""Small graphs in memory, made without ocisync's own builders."""

from __future__ import annotations

import hashlib
import json

from ocisync.content.memory import MemoryRepository
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest


def put(repository: MemoryRepository, data: bytes, media_type: str) -> Descriptor:
    """Store bytes in a memory repository."""
    digest = Digest("sha256:" + hashlib.sha256(data).hexdigest())
    desc = Descriptor(media_type, digest, len(data))
    repository.content[digest] = (desc, data)
    return desc


def as_json(desc: Descriptor) -> dict[str, object]:
    """A descriptor as a manifest writes it."""
    return {"mediaType": desc.media_type, "digest": desc.digest, "size": desc.size}


def image(repository: MemoryRepository, *layers: bytes, note: str = "") -> Descriptor:
    """An image with these layers."""
    config = put(repository, json.dumps({"os": "linux", "note": note}).encode(), media_types.OCI_CONFIG)
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "config": as_json(config),
        "layers": [as_json(put(repository, layer, media_types.OCI_LAYER_GZIP)) for layer in layers],
    }
    return put(repository, json.dumps(document).encode(), media_types.OCI_MANIFEST)


def index(repository: MemoryRepository, *children: Descriptor) -> Descriptor:
    """An index of these manifests."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [as_json(child) for child in children],
    }
    return put(repository, json.dumps(document).encode(), media_types.OCI_INDEX)


def tag(repository: MemoryRepository, name: str, desc: Descriptor) -> None:
    """Point a tag at a manifest."""
    repository.tagged[name] = desc
