"""The values of a docker-archive: its manifest.json, configurations, and the manifest a conversion makes. No I/O.

Spec: moby's image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ocisync.errors import ArchiveError, DiffIdMismatch, InputError, InvalidName, ManifestError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe, descriptor_from_json, descriptor_to_json
from ocisync.model.digest import Digest, parse_digest
from ocisync.model.manifest import parse_json, parse_json_object
from ocisync.model.media_type_families import Format, find_counterpart
from ocisync.model.platform import Platform, platform_from_json
from ocisync.stores.archive.names import NameKey, image_number, is_publishable, name_key, show_choices

_LAYER_TYPES: Mapping[tuple[Format, str], str] = {
    ("oci", "none"): media_types.OCI_LAYER,
    ("oci", "gzip"): media_types.OCI_LAYER_GZIP,
    ("oci", "zstd"): media_types.OCI_LAYER_ZSTD,
    ("docker", "none"): media_types.DOCKER_LAYER,
    ("docker", "gzip"): media_types.DOCKER_LAYER_GZIP,
    ("docker", "zstd"): media_types.DOCKER_LAYER_ZSTD,
}
_KINDS = {media_type: kind for (_, kind), media_type in _LAYER_TYPES.items()}


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image of manifest.json."""

    config: str  # a member's name
    tags: tuple[str, ...]  # name:tag
    layers: tuple[str, ...]  # members' names, the base first
    documents: tuple[str, ...] = ()  # before docker 1.10: each layer's json, of which the configuration is made
    sources: Mapping[Digest, Descriptor] = field(default_factory=dict)  # diff ID -> what a registry has of the layer


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a conversion needs of a configuration; its bytes are kept as they are."""

    raw: bytes
    diff_ids: tuple[Digest, ...]
    platform: Platform | None


def parse_entries(raw: bytes) -> tuple[ImageEntry, ...]:
    """Read manifest.json.

    Raises:
        ArchiveError: not strict JSON, no image in it, or fields missing.
    """
    try:
        document = parse_json(raw)
    except ManifestError as exc:
        raise ArchiveError(f"manifest.json: {exc.message}") from exc
    if not isinstance(document, list) or not document:
        raise ArchiveError("manifest.json names no image: expected a list with one entry per image")
    return tuple(_parse_entry(item) for item in document)


def parse_config(raw: bytes) -> ImageConfig:
    """Read an image's configuration.

    Raises:
        ManifestError: not strict JSON, or without a list of diff IDs.
        InvalidName: a diff ID is no digest.
    """
    document = parse_json_object(raw)
    rootfs = document.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, Mapping) else None
    if diff_ids is None and isinstance(rootfs, Mapping):
        diff_ids = []
    if not isinstance(diff_ids, list):
        raise ManifestError("the configuration has no rootfs.diff_ids: it is not an image's")
    return ImageConfig(raw, tuple(parse_digest(item) for item in diff_ids), platform_from_json(document))


class ImageEntries:
    """The images of manifest.json, found by name in constant time: an archive may have thousands of names."""

    def __init__(self, entries: Iterable[ImageEntry]) -> None:
        self.entries = tuple(entries)
        self._numbers = {id(entry): number for number, entry in enumerate(self.entries)}
        self._by_name: dict[str, list[ImageEntry]] = {}
        self._by_key: dict[NameKey, list[ImageEntry]] = {}
        for entry in self.entries:
            for tag in entry.tags:
                self._by_name.setdefault(tag, []).append(entry)
                if key := name_key(tag):
                    self._by_key.setdefault(key, []).append(entry)

    def pick(self, reference: str) -> ImageEntry:
        """The image that a reference (`name:tag`, `@N` for the N-th, or empty for the only one) means.

        Raises:
            InputError: none or several fit; the message lists what there is (`name.missing`).
        """
        found = self._find(reference)
        if found and all(entry == found[0] for entry in found):
            return found[0]
        named = f"has no image {reference[:200]!r}" if not found else f"has {len(found)} images {reference[:200]!r}"
        what = named if reference else f"holds {len(self.entries)} images"
        choices = show_choices(enumerate(entry.tags for entry in self.entries))
        raise InputError(f"the archive {what}; choose one of: {choices}", code="name.missing")

    def number_of(self, reference: str) -> str:
        """`@N` of the image that a reference means; the reference itself where none or several fit."""
        try:
            return f"@{self._numbers[id(self.pick(reference))]}"
        except InputError:
            return reference

    def _find(self, reference: str) -> Sequence[ImageEntry]:
        if not reference:
            return self.entries
        number = image_number(reference)
        if number is not None:
            return self.entries[number : number + 1]
        key = name_key(reference)
        same = self._by_key.get(key, []) if key else []
        return self._by_name.get(reference, same)

    def unnamed(self) -> list[str]:
        """`@N` for each image without a name that can be published, when others have one."""
        named = [any(map(is_publishable, entry.tags)) for entry in self.entries]
        return [f"@{number}" for number, is_named in enumerate(named) if not is_named] if any(named) else []


def pair_layers(entry: ImageEntry, config: ImageConfig) -> dict[Digest, str]:
    """Which member holds which uncompressed content, each once.

    Raises:
        DiffIdMismatch: manifest.json and the configuration list different numbers of layers.
    """
    if len(entry.layers) != len(config.diff_ids):
        raise DiffIdMismatch(
            f"manifest.json lists {len(entry.layers)} layers, but the configuration {entry.config[:100]} has "
            f"{len(config.diff_ids)} diff IDs: save the image again"
        )
    return dict(zip(config.diff_ids, entry.layers, strict=True))


def find_foreign_layers(entry: ImageEntry, wanted: Format) -> dict[Digest, Descriptor]:
    """Foreign layers by their diff IDs: pullers fetch these from their own URLs, so they are named and not sent."""
    return {
        diff_id: replace(source, media_type=find_counterpart(source.media_type, wanted) or source.media_type)
        for diff_id, source in entry.sources.items()
        if media_types.is_foreign(source.media_type) and source.urls
    }


def layer_type(wanted: Format, kind: str) -> str:
    """The media type of a layer compressed by `gzip`, `zstd` or `none`."""
    return _LAYER_TYPES[wanted, kind]


def convert_layer(layer: Descriptor, wanted: Format) -> Descriptor:
    """The same layer with its media type in the wanted family."""
    kind = _KINDS.get(layer.media_type)
    return layer if kind is None else Descriptor(layer_type(wanted, kind), layer.digest, layer.size)


def build_manifest(config: ImageConfig, layers: Sequence[Descriptor], wanted: Format) -> tuple[Descriptor, Descriptor]:
    """The manifest's and the configuration's descriptors, each with its bytes; a pure function of its arguments."""
    is_oci = wanted == "oci"
    config_desc = describe(config.raw, media_types.OCI_CONFIG if is_oci else media_types.DOCKER_CONFIG)
    media_type = media_types.OCI_MANIFEST if is_oci else media_types.DOCKER_MANIFEST
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor_to_json(config_desc),
        "layers": [descriptor_to_json(layer) for layer in layers],
    }
    raw = json.dumps(document, separators=(",", ":")).encode()
    made = describe(raw, media_type)
    return Descriptor(media_type, made.digest, made.size, platform=config.platform, data=raw), config_desc


_NO_NAME = "<none>:<none>"  # what docker shows where an image has no name


def _parse_entry(item: object) -> ImageEntry:
    """One entry; its keys in any case, as Go's clients take them (Jib wrote them in lower case)."""
    fields = {str(key).lower(): value for key, value in item.items()} if isinstance(item, Mapping) else {}
    if isinstance(item, Mapping) and len(fields) != len(item):
        raise ArchiveError("manifest.json: a key appears twice, in different cases: which one is meant is unclear")
    config = fields.get("config")
    if not isinstance(config, str) or not config:
        raise ArchiveError("manifest.json: an image without a Config")
    tags, layers = _parse_names(fields, "RepoTags"), _parse_names(fields, "Layers")
    tags = tuple(tag for tag in tags if tag != _NO_NAME)
    return ImageEntry(config, tags, layers, sources=_parse_sources(fields))


def _parse_sources(fields: Mapping[str, object]) -> dict[Digest, Descriptor]:
    """LayerSources, which docker writes for foreign layers, and since version 25 for all."""
    found = fields.get("layersources") or {}
    if not isinstance(found, Mapping):
        raise ArchiveError("manifest.json: LayerSources is not a mapping of diff IDs to descriptors")
    try:
        return {parse_digest(diff_id): descriptor_from_json(source) for diff_id, source in found.items()}
    except (ManifestError, InvalidName) as exc:
        raise ArchiveError(f"manifest.json: LayerSources: {exc.message}") from exc


def _parse_names(fields: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = fields.get(key.lower()) or []
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise ArchiveError(f"manifest.json: {key} is not a list of names")
    return tuple(value)
