"""What S3's headers say of an object, and what we say of one."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from ocisync.content.object_store import ObjectHeaders, ObjectInfo
from ocisync.model.digest import Digest, is_digest
from ocisync.model.media_types import OCTET_STREAM
from ocisync.stores.s3.options import S3Options
from ocisync.stores.static.layout import IMMUTABLE, MANIFESTS, NO_CACHE, parse_key

DIGEST_METADATA = "x-amz-meta-docker-content-digest"


def object_headers(headers: ObjectHeaders, options: S3Options) -> dict[str, str]:
    """What is kept beside an object, as headers of whatever makes it; the storage class is for blobs."""
    is_blob = headers.content_type == OCTET_STREAM
    given = {
        "Content-Type": headers.content_type,
        "Cache-Control": _cache_control(headers.cache_control, options),
        "x-amz-acl": options.acl,
        "x-amz-storage-class": options.storage_class if is_blob else "",
        "x-amz-server-side-encryption": options.encryption,
        "x-amz-server-side-encryption-aws-kms-key-id": options.encryption_key,
    }
    return {name: value for name, value in given.items() if value}


def _cache_control(meant: str, options: S3Options) -> str:
    return {IMMUTABLE: options.cache_immutable, NO_CACHE: options.cache_mutable}.get(meant, meant)


def copied_metadata(key: str) -> dict[str, str]:
    """The metadata of a copy whose key tells its digest; what the copied object had is not taken over."""
    named = parse_key(key)
    return digest_metadata(key, Digest(named.reference)) if named and is_digest(named.reference) else {}


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
        _parse_date(headers.get("Last-Modified", "")),
        headers.get("Content-Type", ""),
    )


def _size(headers: Mapping[str, str]) -> int:
    total = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    return (
        int(total) if total.isascii() and total.isdigit() and len(total) < 20 else -1
    )  # unlike any size that is looked for


def _parse_date(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, OverflowError):
        return 0.0
