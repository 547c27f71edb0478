"""The configuration, manifest and index of a packed image: pure functions of what goes in.

Spec: image-spec v1.1, config.md, manifest.md and image-index.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ocisync.images.pack.settings import DEFAULT_USER, PackSettings
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe, descriptor_to_json
from ocisync.model.digest import Digest
from ocisync.model.platform import Platform

CREATED_BY = "ocisync pack"
_LAYER_TYPES = {
    "oci": {
        "none": media_types.OCI_LAYER,
        "gzip": media_types.OCI_LAYER_GZIP,
        "zstd": media_types.OCI_LAYER_ZSTD,
    },
    "docker": {
        "none": media_types.DOCKER_LAYER,
        "gzip": media_types.DOCKER_LAYER_GZIP,
        "zstd": media_types.DOCKER_LAYER_ZSTD,
    },
}


@dataclass(frozen=True, slots=True)
class Layers:
    """Layers, the base first, and what they are uncompressed."""

    descs: tuple[Descriptor, ...]
    diff_ids: tuple[Digest, ...]


def layer_type(form: str, kind: str) -> str:
    """The media type of a layer compressed by `gzip`, `zstd` or `none`."""
    return _LAYER_TYPES[form][kind]


def convert_layer(layer: Descriptor, form: str) -> Descriptor:
    """The same layer with its media type in another family."""
    for types in _LAYER_TYPES.values():
        for kind, media_type in types.items():
            if media_type == layer.media_type:
                return replace(layer, media_type=layer_type(form, kind))
    return layer


def build_config(
    settings: PackSettings, parent: Mapping[str, object], layers: Layers, platform: Platform, created: int, added: bool
) -> bytes:
    """The configuration: the parent's, with what the settings say laid over it.

    `created` in seconds since the epoch; `added`: whether a layer was put on top of the parent's.
    """
    moment = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    entry: dict[str, object] = {"created": moment, "created_by": CREATED_BY}
    inherited, history = parent.get("config"), parent.get("history")
    document = {
        **parent,
        "created": moment,
        "architecture": platform.architecture,
        "os": platform.os,
        **({"variant": platform.variant} if platform.variant else {}),
        "config": _merge_settings(settings, inherited if isinstance(inherited, Mapping) else {}),
        "rootfs": {"type": "layers", "diff_ids": list(layers.diff_ids)},
        "history": [
            *(history if isinstance(history, list) else []),
            entry if added else {**entry, "empty_layer": True},
        ],
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def build_manifest(config: bytes, layers: Layers, platform: Platform, settings: PackSettings) -> list[Descriptor]:
    """The manifest's and the configuration's descriptors, each with its bytes."""
    is_oci = settings.format == "oci"
    config_desc = describe(config, media_types.OCI_CONFIG if is_oci else media_types.DOCKER_CONFIG)
    media_type = media_types.OCI_MANIFEST if is_oci else media_types.DOCKER_MANIFEST
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": descriptor_to_json(config_desc),
        "layers": [descriptor_to_json(convert_layer(layer, settings.format)) for layer in layers.descs],
    }
    if settings.annotations:
        document["annotations"] = dict(sorted(settings.annotations.items()))
    manifest = describe(json.dumps(document, separators=(",", ":")).encode(), media_type)
    return [replace(manifest, platform=platform), config_desc]


def build_index(manifest: Descriptor, blobs: Sequence[Descriptor]) -> Descriptor:
    """An index of the image and of blobs that go with it."""
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [descriptor_to_json(entry) for entry in (manifest, *blobs)],
    }
    return describe(json.dumps(document, separators=(",", ":")).encode(), media_types.OCI_INDEX)


def _merge_settings(settings: PackSettings, parent: Mapping[str, object]) -> dict[str, object]:
    """What a container starts with; a new entrypoint comes without the parent's command, as in a Dockerfile."""
    out = dict(parent)
    if settings.entrypoint is not None:
        out["Entrypoint"] = settings.entrypoint
        out.pop("Cmd", None)
    if settings.cmd is not None:
        out["Cmd"] = settings.cmd
    if settings.dir is not None:
        out["WorkingDir"] = settings.dir
    out["User"] = settings.user if settings.user is not None else (parent.get("User") or DEFAULT_USER)
    out["Env"] = [f"{name}={value}" for name, value in {**_parse_environment(parent), **settings.env}.items()]
    out["Labels"] = {**_to_mapping(parent.get("Labels")), **settings.labels}
    out["ExposedPorts"] = {**_to_mapping(parent.get("ExposedPorts")), **{port: {} for port in settings.ports}}
    out["Volumes"] = {**_to_mapping(parent.get("Volumes")), **{path: {} for path in settings.volumes}}
    return {key: value for key, value in out.items() if value not in (None, [], {})}


def _parse_environment(parent: Mapping[str, object]) -> dict[str, str]:
    listed = parent.get("Env")
    pairs = (str(item).partition("=") for item in listed) if isinstance(listed, list) else ()
    return {name: value for name, _, value in pairs}


def _to_mapping(value: object) -> dict[str, object]:
    return {str(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}
