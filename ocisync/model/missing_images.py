"""The images of an index that a repository lacks on purpose, as a static registry records them beside the index. Pure.

With a platform filter the source's index is kept whole, so that its digest stays the same; the images that were left
out are missing below it. `verify` and the survey must not take these for damage, and read this record.
"""

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
