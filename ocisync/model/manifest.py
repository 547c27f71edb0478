"""Manifests and indexes: parsed for their children, kept as the bytes they were.

A manifest's digest is that of its bytes, so it is never serialised again on its way: it is parsed to see what it points
to, and copied as it came.

Parsing is strict, because clients disagree about sloppy documents, and a mirror must not publish what one client takes
for an image and another for something else (CVE-2021-41190): no key twice, no `manifests` beside `layers`, no type in
the body that differs from the announced one. Size, nesting and number of children are bounded, as a registry may send
anything.

Spec: image-spec v1.1, manifest.md and image-index.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ocisync.errors import AmbiguousManifest, InvalidName, LimitExceeded, ManifestError, UnsupportedManifest
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, descriptor_from_json, parse_annotations, parse_text
from ocisync.model.text.outside_json import load_json

MAX_MANIFEST_SIZE = 4 * 1024 * 1024  # bytes; distribution-spec v1.1: a registry SHOULD accept at least this
MAX_JSON_DEPTH = 64  # nested JSON values
MAX_CHILDREN = 50_000
MAX_INDEX_DEPTH = 8  # indexes inside indexes; the specification names no limit, and no tool nests more than two


@dataclass(frozen=True, slots=True)
class Manifest:
    """One parsed manifest: its media type and what it points to, in the order it lists them."""

    media_type: str
    children: tuple[Descriptor, ...]  # an image's config and layers, or an index's manifests
    subject: Descriptor | None = None
    artifact_type: str | None = None
    annotations: Mapping[str, str] | None = None

    @property
    def is_index(self) -> bool:
        """Whether the children are manifests."""
        return self.media_type in media_types.INDEXES

    @property
    def config(self) -> Descriptor | None:
        """An image's configuration."""
        return None if self.is_index or not self.children else self.children[0]

    @property
    def layers(self) -> tuple[Descriptor, ...]:
        """An image's layers, the base first."""
        return () if self.is_index else self.children[1:]


def parse_manifest(raw: bytes, media_type: str | None = None) -> Manifest:
    """Parse a manifest of the type that its carrier (Content-Type or descriptor) announces, if any.

    Raises:
        LimitExceeded: over 4 MiB, or more children than any image has.
        UnsupportedManifest: docker's schema 1, or a type that is no manifest.
        AmbiguousManifest: the announced type, `mediaType` and the body disagree.
        ManifestError: not strict JSON, or a field is missing or of another type than the specification's.
    """
    document = parse_json_object(raw)
    kind = _check_media_type(document, media_type)
    lists = document.get("manifests") if kind in media_types.INDEXES else _list_image_parts(document, kind)
    lists = [] if lists is None else lists  # builders in Go write an empty list as null
    if not isinstance(lists, list):
        member = "manifests" if kind in media_types.INDEXES else "layers"
        raise ManifestError(f"a manifest of type {kind} needs a list of {member}")
    if len(lists) > MAX_CHILDREN:
        raise LimitExceeded(f"the manifest lists {len(lists)} children; at most {MAX_CHILDREN} are accepted")
    subject = document.get("subject")
    return Manifest(
        kind,
        tuple(descriptor_from_json(item) for item in lists),
        None if subject is None else _parse_subject(subject),
        parse_text(document.get("artifactType"), "the manifest's", "artifactType"),
        parse_annotations(document.get("annotations"), "the manifest's") or None,
    )


def check_index_depth(desc: Descriptor, depth: int, limit: int = MAX_INDEX_DEPTH) -> None:
    """Refuse an index that lies too deep in others; the outermost has depth 1, and images may lie in the deepest.

    Raises:
        LimitExceeded: deeper than `limit`.
    """
    if desc.is_index and depth > limit:
        raise LimitExceeded(f"{desc.digest}: indexes nested more than {limit} deep")


def parse_json_object(raw: bytes) -> dict[str, object]:
    """Strict JSON whose value is an object; raises as `parse_json` does."""
    document = parse_json(raw)
    if not isinstance(document, dict):
        raise ManifestError(f"expected a JSON object, found {type(document).__name__}")
    return document


def parse_json(raw: bytes) -> object:
    """Strict JSON: UTF-8 without BOM, no duplicate key, no NaN, nothing after it.

    Raises:
        LimitExceeded: over 4 MiB.
        ManifestError: anything else than that.
    """
    if len(raw) > MAX_MANIFEST_SIZE:
        raise LimitExceeded(
            f"the manifest has {len(raw)} bytes; at most {MAX_MANIFEST_SIZE} are accepted", code="limit.manifest"
        )
    try:
        document = load_json(raw.decode(), make_object=_refuse_duplicates, parse_constant=_refuse_constant)
    except ValueError as exc:
        raise ManifestError(f"not valid JSON: {exc}") from exc
    _check_depth(document)
    return document


def media_type_of(raw: bytes, announced: str | None = None) -> str:
    """The media type of a manifest's bytes; raises as `parse_manifest` does."""
    return _check_media_type(parse_json_object(raw), announced)


def stored_media_type(raw: bytes, content_type: str = "") -> str:
    """The media type of a manifest that is stored with a Content-Type: the one rule for all who read it back.

    What the bytes say rules, for other tools store manifests with a wrong Content-Type; that counts only where it fits
    and the bytes leave the type open. Raises as `parse_manifest` does.
    """
    try:
        return media_type_of(raw, content_type.partition(";")[0].strip())
    except ManifestError:
        return media_type_of(raw)


def may_be_manifest(entry: Descriptor) -> bool:
    """Whether an index's entry may be a manifest although its type is none: it is small, and no layer or configuration.

    Only its content tells then, by `retype_entry`.
    """
    known = entry.is_manifest or entry.media_type in media_types.LAYERS | media_types.CONFIGS
    return not known and entry.size <= MAX_MANIFEST_SIZE


def retype_entry(entry: Descriptor, raw: bytes) -> Descriptor:
    """An index's entry with the type that its content has; one that is no manifest keeps its own, and is a blob.

    Raises:
        UnsupportedManifest: docker's schema 1.
    """
    try:
        return replace(entry, media_type=media_type_of(raw))
    except ManifestError as exc:
        if isinstance(exc, UnsupportedManifest) and entry.media_type in media_types.SCHEMA_1_TYPES:
            raise
        return entry


def _check_media_type(document: Mapping[str, object], announced: str | None) -> str:
    version = document.get("schemaVersion")
    if version is not None and type(version) is not int:
        raise ManifestError(f"schemaVersion is {json.dumps(version)[:40]}, not the number 2: no client could read it")
    if version == 1 or announced in media_types.SCHEMA_1_TYPES:
        raise UnsupportedManifest(
            "docker's manifest schema 1 is not supported: push the image again with a builder from after 2016"
        )
    if "manifests" in document and "layers" in document:
        raise AmbiguousManifest("the manifest has both `manifests` and `layers`: clients would disagree on what it is")
    # Web servers announce application/json or octet-stream: a generic type says nothing, the body decides.
    announced = announced if announced in media_types.MANIFESTS else None
    written = document.get("mediaType")
    if written is not None and not isinstance(written, str):
        raise ManifestError("mediaType is not a string")
    if written and announced and written != announced:
        raise AmbiguousManifest(f"announced as {announced}, but its mediaType is {written[:100]!r}")
    kind = written or announced or _guess_media_type(document)
    if kind not in media_types.MANIFESTS:
        raise UnsupportedManifest(f"{kind[:100]!r} is not a manifest type that can be copied")
    if (kind in media_types.INDEXES) != ("manifests" in document):
        raise AmbiguousManifest(f"its type is {kind}, its body is {'an index' if 'manifests' in document else 'none'}")
    return kind


def _parse_subject(value: object) -> Descriptor:
    try:
        return descriptor_from_json(value)
    except (ManifestError, InvalidName) as exc:
        raise ManifestError(f"the manifest's subject: {exc.message}") from exc


def _guess_media_type(document: Mapping[str, object]) -> str:
    if "manifests" in document:
        return media_types.OCI_INDEX
    if "layers" in document or "config" in document:
        config = document.get("config")
        is_docker = isinstance(config, Mapping) and config.get("mediaType") == media_types.DOCKER_CONFIG
        return media_types.DOCKER_MANIFEST if is_docker else media_types.OCI_MANIFEST
    raise ManifestError("neither an index (`manifests`) nor an image (`layers`)")


def _list_image_parts(document: Mapping[str, object], kind: str) -> object:
    if kind == media_types.OCI_ARTIFACT:
        return document.get("blobs")
    layers = document.get("layers")
    layers = [] if layers is None else layers
    if "config" not in document:
        raise ManifestError(f"a manifest of type {kind} needs a config")
    return [document["config"], *layers] if isinstance(layers, list) else layers


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!r} appears twice")
    return found


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _check_depth(document: object) -> None:
    level: list[object] = [document]
    for _ in range(MAX_JSON_DEPTH):
        level = [inner for value in level for inner in _list_inner(value)]
        if not level:
            return
    raise ManifestError(f"nested more than {MAX_JSON_DEPTH} deep")


def _list_inner(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
