"""Which images of an index a repository lacks on purpose, as a static registry keeps it beside the index. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ocisync.errors import ManifestError
from ocisync.model.digest import Digest, is_digest
from ocisync.model.manifest import parse_json_object


def format_missing_images(omitted: Iterable[Digest]) -> bytes:
    """The bytes to keep; the same for the same digests."""
    return json.dumps({"omitted": sorted(set(omitted))}, separators=(",", ":")).encode()


def read_missing_images(raw: bytes) -> frozenset[Digest]:
    """What was kept; nothing when it is damaged: then what is missing is told."""
    try:
        omitted = parse_json_object(raw).get("omitted")
    except ManifestError:
        return frozenset()
    listed = omitted if isinstance(omitted, list) else []
    return frozenset(Digest(one) for one in listed if is_digest(one))
