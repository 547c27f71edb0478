"""What leads to the content of an archive: index.json, oci-layout and docker's manifest.json. Pure, and deterministic.

Spec: image-spec v1.1, image-layout.md and annotations.md; moby's image/spec/v1.2.md for manifest.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ocisync.errors import InvalidName
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, descriptor_to_json
from ocisync.model.image_name import is_tag, parse_image_name
from ocisync.model.manifest import Manifest, parse_json_object
from ocisync.stores.archive.index_json import CONTAINERD_NAME, REF_NAME, VERSION, parse_index

LAYOUT = json.dumps({"imageLayoutVersion": VERSION}).encode()
_NAMES = frozenset((REF_NAME, CONTAINERD_NAME))


def render_index(entries: Iterable[Descriptor]) -> bytes:
    """index.json."""
    listed = [descriptor_to_json(entry) for entry in entries]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": listed}
    return json.dumps(document, separators=(",", ":")).encode()


def update_index(
    raw: bytes, tags: Mapping[str, Descriptor], referring: Iterable[Descriptor], going: Collection[str] = ()
) -> bytes:
    """index.json with images under their names and with referrers it does not list yet, without the names that go.

    All else stays as it was.

    Raises:
        ArchiveError: it is not an index.
    """
    entries = parse_index(raw)
    document = parse_json_object(raw)
    listed = document.get("manifests") or []
    kept = [
        (entry.desc.digest, item)
        for entry, item in zip(entries, listed if isinstance(listed, list) else [], strict=True)
        if entry.desc.annotations.get(REF_NAME) not in tags and not any(name in going for name in entry.names)
    ]
    named = [make_named_entry(tag, desc) for tag, desc in sorted(tags.items())]
    known = {*(digest for digest, _ in kept), *(desc.digest for desc in named)}
    more = {desc.digest: desc for desc in referring if desc.digest not in known}
    made = [descriptor_to_json(desc) for desc in (*(one for _, one in sorted(more.items())), *named)]
    return json.dumps({**document, "manifests": [*(item for _, item in kept), *made]}, separators=(",", ":")).encode()


def make_named_entry(name: str, desc: Descriptor) -> Descriptor:
    """An entry of index.json under a name as it was given; a full name is told to containerd and docker too."""
    annotations = {key: text for key, text in desc.annotations.items() if key not in _NAMES}
    full = expand_name(name)
    more = {CONTAINERD_NAME: full} if full else {}
    return replace(desc, annotations={**annotations, REF_NAME: name, **more})


def make_referring_entry(desc: Descriptor) -> Descriptor:
    """An entry for what is found by its subject and needs no name."""
    return Descriptor(desc.media_type, desc.digest, desc.size, artifact_type=desc.artifact_type)


def expand_name(name: str) -> str:
    """`host/name:tag` of a name that has a repository; empty for a mere tag, and for what is no image's name."""
    if is_tag(name):
        return ""
    try:
        image = parse_image_name(name)
    except InvalidName:
        return ""
    return "" if image.digest else f"{image.host}/{image.repository}:{image.reference}"


def is_loadable(manifest: Manifest) -> bool:
    """Whether `docker load` can take a manifest's image: its configuration and layers are of the usual kinds."""
    config = manifest.config
    return (
        config is not None
        and config.media_type in media_types.CONFIGS
        and all(layer.media_type in media_types.LAYERS for layer in manifest.layers)
    )


def render_docker_manifest(
    images: Mapping[str, Manifest], config_path: Callable[[Descriptor], str], layer_path: Callable[[Descriptor], str]
) -> bytes:
    """manifest.json of images by their names; several names of one image make one entry."""
    entries: dict[tuple[str, ...], list[str]] = {}
    for name, manifest in sorted(images.items()):
        config, *layers = manifest.children
        entries.setdefault((config_path(config), *map(layer_path, layers)), []).extend(_list_repo_tags(name))
    document = [
        {"Config": config, "RepoTags": tags or None, "Layers": list(layers)}
        for (config, *layers), tags in entries.items()
    ]
    return json.dumps(document, separators=(",", ":")).encode()


def _list_repo_tags(name: str) -> Sequence[str]:
    full = expand_name(name)
    return (name if full.endswith(name) else full,) if full else ()
