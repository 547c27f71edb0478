"""Descriptors: typed, sized, verifiable pointers to content.

Spec: image-spec v1.1, descriptor.md.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ocisync.errors import DigestMismatch, ManifestError
from ocisync.model import media_types
from ocisync.model.digest import Digest, digest_of, parse_digest, sha256
from ocisync.model.platform import Platform, platform_from_json

_NO_ANNOTATIONS: Mapping[str, str] = {}
_ATTESTATION = "vnd.docker.reference.type"  # an annotation of BuildKit's
MAX_SIZE = 1 << 50  # bytes; a larger claim is a mistake or an attack


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What content is and how long; equal when type, digest and size are.

    `data` are the content's own bytes when they are at hand (manifests during a copy, inline `data` of a descriptor).
    """

    media_type: str
    digest: Digest
    size: int  # bytes
    platform: Platform | None = field(default=None, compare=False)
    artifact_type: str | None = field(default=None, compare=False)
    annotations: Mapping[str, str] = field(default_factory=lambda: _NO_ANNOTATIONS, compare=False)
    urls: tuple[str, ...] = field(default=(), compare=False)
    data: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def is_manifest(self) -> bool:
        """Whether it is stored under manifests/."""
        return media_types.is_manifest(self.media_type)

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests."""
        return media_types.is_index(self.media_type)

    @property
    def is_attestation(self) -> bool:
        """Whether, as an index's entry, it is a builder's statement about another of its entries."""
        return _ATTESTATION in self.annotations or (self.platform is not None and self.platform.is_unknown)

    def with_data(self, data: bytes) -> Descriptor:
        """The same descriptor, carrying its content."""
        return replace(self, data=data)


def describe(data: bytes, media_type: str) -> Descriptor:
    """A descriptor of bytes at hand, which it carries."""
    return Descriptor(media_type, sha256(data), len(data), data=data)


def descriptor_from_json(value: object) -> Descriptor:
    """Read one descriptor of a manifest; unknown fields are left alone.

    Raises:
        ManifestError: a field is missing or of a wrong type.
        InvalidName: the digest breaks its grammar.
        DigestMismatch: inline `data` is not what the digest says.
    """
    if not isinstance(value, Mapping):
        raise ManifestError(f"a descriptor must be an object, not {type(value).__name__}")
    digest = parse_digest(value.get("digest"))
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
        raise ManifestError(f"{digest}: the descriptor's size {str(size)[:40]!r} is not a number of bytes")
    media_type = value.get("mediaType")
    if not isinstance(media_type, str) or not media_type:
        raise ManifestError(f"{digest}: the descriptor has no mediaType")
    return Descriptor(
        media_type,
        digest,
        size,
        platform=platform_from_json(value.get("platform")),
        artifact_type=_text(value.get("artifactType")),
        annotations=_annotations(value.get("annotations")),
        urls=_urls(value.get("urls")),
        data=_inline_data(value.get("data"), digest, size),
    )


def descriptor_to_json(desc: Descriptor) -> dict[str, object]:
    """The descriptor as an index or manifest lists it, without its data."""
    out: dict[str, object] = {"mediaType": desc.media_type, "digest": desc.digest, "size": desc.size}
    if desc.artifact_type:
        out["artifactType"] = desc.artifact_type
    if desc.platform is not None:
        out["platform"] = _platform_to_json(desc.platform)
    if desc.urls:
        out["urls"] = list(desc.urls)
    if desc.annotations:
        out["annotations"] = dict(sorted(desc.annotations.items()))
    return out


def _platform_to_json(platform: Platform) -> dict[str, str]:
    named = {
        "architecture": platform.architecture,
        "os": platform.os,
        "os.version": platform.os_version,
        "variant": platform.variant,
    }
    return {key: text for key, text in named.items() if text}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _annotations(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        return _NO_ANNOTATIONS
    return {str(key): text for key, text in value.items() if isinstance(text, str)}


def _urls(value: object) -> tuple[str, ...]:
    return tuple(url for url in value if isinstance(url, str)) if isinstance(value, list) else ()


def _inline_data(value: object, digest: Digest, size: int) -> bytes | None:
    if not isinstance(value, str):
        return None
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ManifestError(f"{digest}: the descriptor's inline data is not base64") from exc
    if len(data) != size or digest_of(data, digest) != digest:
        raise DigestMismatch(f"{digest}: the descriptor's inline data is other content than its digest says")
    return data
