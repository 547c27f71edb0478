"""What S3's headers say of an object, and what we say of one."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from ocisync.content.protocols import ObjectHeaders, ObjectInfo
from ocisync.spec.digest import Digest
from ocisync.stores.static.layout import MANIFESTS, parse_key

DIGEST_METADATA = "x-amz-meta-docker-content-digest"


def object_headers(headers: ObjectHeaders) -> dict[str, str]:
    """The headers of a PUT."""
    kept = {"Content-Type": headers.content_type}
    return kept | ({"Cache-Control": headers.cache_control} if headers.cache_control else {})


def object_arguments(headers: ObjectHeaders) -> dict[str, str]:
    """The same as arguments of aiobotocore's operations."""
    return {name.replace("-", ""): value for name, value in object_headers(headers).items()}


def digest_metadata(key: str, digest: Digest | None) -> dict[str, str]:
    """A manifest's digest, kept beside it for fronts to send as Docker-Content-Digest: S3 itself cannot."""
    named = parse_key(key)
    return {DIGEST_METADATA: digest} if digest and named and named.kind == MANIFESTS else {}


def info_from_headers(key: str, headers: Mapping[str, str], size: int | None = None) -> ObjectInfo:
    """What a reply says of an object, whole or in part."""
    return ObjectInfo(
        key,
        _size(headers) if size is None else size,
        headers.get("ETag", ""),
        _modified(headers.get("Last-Modified", "")),
        headers.get("Content-Type", ""),
    )


def _size(headers: Mapping[str, str]) -> int:
    total = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return int(total) if total.isascii() and total.isdigit() else -1  # unlike any size that is looked for


def _modified(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp()
    except ValueError:
        return 0.0
