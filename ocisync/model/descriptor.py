"""Descriptors: typed, sized, verifiable pointers to content.

Spec: image-spec v1.1, descriptor.md.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from ocisync.errors import DigestMismatch, InvalidName, ManifestError
from ocisync.model import media_types
from ocisync.model.digest import Digest, digest_of, parse_digest, sha256
from ocisync.model.platform import Platform, platform_from_json

_NO_ANNOTATIONS: Mapping[str, str] = {}
_ATTESTATION = "vnd.docker.reference.type"  # an annotation of BuildKit's
MAX_SIZE = 1 << 50  # bytes; a larger claim is a mistake or an attack


@dataclass(frozen=True, slots=True, init=False)
class Descriptor:
    """A pointer to content: its media type, digest and size.

    Two descriptors are equal when these three are: platform and annotations say what an index thinks of the content,
    not what the content is, and the same content may be listed twice with different ones. `data` are the content's own
    bytes when they are at hand (manifests during a copy, inline `data` of a descriptor).

    A pass makes one for each tag, and a copy one for each blob: the usual `__init__` of a frozen class would take three
    times as long as this one.
    """

    media_type: str
    digest: Digest
    size: int  # bytes
    platform: Platform | None = field(default=None, compare=False)
    artifact_type: str | None = field(default=None, compare=False)
    annotations: Mapping[str, str] = field(default_factory=lambda: _NO_ANNOTATIONS, compare=False)
    urls: tuple[str, ...] = field(default=(), compare=False)
    data: bytes | None = field(default=None, compare=False, repr=False)

    def __init__(
        self,
        media_type: str,
        digest: Digest,
        size: int,
        platform: Platform | None = None,
        artifact_type: str | None = None,
        annotations: Mapping[str, str] = _NO_ANNOTATIONS,
        urls: tuple[str, ...] = (),
        data: bytes | None = None,
    ) -> None:
        _set_media_type(self, media_type)
        _set_digest(self, digest)
        _set_size(self, size)
        _set_platform(self, platform)
        _set_artifact_type(self, artifact_type)
        _set_annotations(self, annotations)
        _set_urls(self, urls)
        _set_data(self, data)

    @property
    def is_manifest(self) -> bool:
        """Whether it is stored under manifests/."""
        return self.media_type in media_types.MANIFESTS

    @property
    def is_index(self) -> bool:
        """Whether it lists manifests."""
        return self.media_type in media_types.INDEXES

    @property
    def is_attestation(self) -> bool:
        """Whether, as an index's entry, it is a builder's statement about another of its entries."""
        return _ATTESTATION in self.annotations or (self.platform is not None and self.platform.is_unknown)

    @property
    def is_elsewhere(self) -> bool:
        """Whether pullers fetch it from its own URLs, so that a registry need not have it: a foreign layer."""
        return bool(self.urls) and media_types.is_foreign(self.media_type)

    def with_data(self, data: bytes) -> Descriptor:
        """The same descriptor, carrying its content."""
        return replace(self, data=data)


_set_media_type, _set_digest, _set_size, _set_platform, _set_artifact_type, _set_annotations, _set_urls, _set_data = (
    Descriptor.__dict__[slot.name].__set__ for slot in fields(Descriptor)
)


def describe(data: bytes, media_type: str) -> Descriptor:
    """A descriptor of bytes at hand, which it carries."""
    return Descriptor(media_type, sha256(data), len(data), data=data)


def descriptor_from_json(value: object) -> Descriptor:
    """Read one descriptor of a manifest; unknown fields are left alone.

    Known fields must be of the specification's types, or null. Clients in Go refuse the whole manifest for one of
    another type, so an image with `"annotations": {"size": 3}` could be published, but not pulled.

    Raises:
        ManifestError: a field is missing or of a wrong type.
        InvalidName: the digest breaks its grammar.
        DigestMismatch: inline `data` is not what the digest says.
    """
    if not isinstance(value, Mapping):
        raise ManifestError(f"a descriptor must be an object, not {type(value).__name__}")
    try:
        digest = parse_digest(value.get("digest"))
    except InvalidName as exc:
        raise exc.at("a descriptor's digest") from exc
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_SIZE:
        raise ManifestError(f"{digest}: the descriptor's size {str(size)[:40]!r} is not a number of bytes")
    media_type = value.get("mediaType")
    if not isinstance(media_type, str) or not media_type:
        raise ManifestError(f"{digest}: the descriptor has no mediaType")
    if len(value) == 3:  # as most are
        return Descriptor(media_type, digest, size)
    of = f"{digest}: the descriptor's"
    return Descriptor(
        media_type,
        digest,
        size,
        platform=_parse_platform(value.get("platform"), of),
        artifact_type=parse_text(value.get("artifactType"), of, "artifactType"),
        annotations=parse_annotations(value.get("annotations"), of),
        urls=_parse_texts(value.get("urls"), of, "urls"),
        data=_parse_data(value.get("data"), digest, size),
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


def parse_text(value: object, of: str, field: str) -> str | None:
    """A field that holds text; None when it is missing, null or empty. The error names `of` whom it is, and the field.

    Raises:
        ManifestError: it is of another type.
    """
    if value is None or isinstance(value, str):
        return value or None
    raise ManifestError(f"{of} {field} is {_kind(value)}, not text: no client could read it")


def parse_annotations(value: object, of: str) -> Mapping[str, str]:
    """Annotations, of which every value is text; raises as `parse_text` does."""
    if value is None:
        return _NO_ANNOTATIONS
    if not isinstance(value, Mapping):
        raise ManifestError(f"{of} annotations are {_kind(value)}, not an object: no client could read it")
    for key, text in value.items():
        if text is not None and not isinstance(text, str):
            told = f"{_kind(text)} for {str(key)[:60]!r}"
            raise ManifestError(f"{of} annotations hold {told}, not text: no client could read it")
    return {str(key): text or "" for key, text in value.items()}


def _parse_platform(value: object, of: str) -> Platform | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ManifestError(f"{of} platform is {_kind(value)}, not an object: no client could read it")
    for key in ("os", "architecture", "variant", "os.version"):
        parse_text(value.get(key), of, f"platform.{key}")
    for key in ("os.features", "features"):
        _parse_texts(value.get(key), of, f"platform.{key}")
    return platform_from_json(value)


def _parse_texts(value: object, of: str, field: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ManifestError(f"{of} {field} is not a list of text: no client could read it")
    return tuple(value)


def _kind(value: object) -> str:
    """JSON's word for a value's type."""
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


def _parse_data(value: object, digest: Digest, size: int) -> bytes | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ManifestError(f"{digest}: the descriptor's data is {_kind(value)}, not text: no client could read it")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ManifestError(f"{digest}: the descriptor's inline data is not base64") from exc
    if len(data) != size or digest_of(data, digest) != digest:
        raise DigestMismatch(f"{digest}: the descriptor's inline data does not match its digest")
    return data
