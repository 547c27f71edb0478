"""Docker's and OCI's media types for the same content, and manifests rewritten from one family to the other. Pure.

The layers stay as they are: both families name the same bytes. Only manifests and indexes change, and with them their
digests; so whoever signed or referred to the old digest must be asked first (`ocisync.images.views.signatures`).

Spec: image-spec v1.1, media-types.md, "Compatibility Matrix"; distribution's schema 2 documents for docker's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Literal

from ocisync.errors import UnsupportedManifest
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import Digest
from ocisync.model.manifest import Manifest, parse_json_object

Format = Literal["oci", "docker"]

_PAIRS = (
    (media_types.OCI_INDEX, media_types.DOCKER_LIST),
    (media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST),
    (media_types.OCI_CONFIG, media_types.DOCKER_CONFIG),
    (media_types.OCI_LAYER, media_types.DOCKER_LAYER),
    (media_types.OCI_LAYER_GZIP, media_types.DOCKER_LAYER_GZIP),
    (media_types.OCI_LAYER_ZSTD, media_types.DOCKER_LAYER_ZSTD),
    (media_types.OCI_FOREIGN_PREFIX + "tar", media_types.DOCKER_FOREIGN),
    (media_types.OCI_FOREIGN_PREFIX + "tar+gzip", media_types.DOCKER_FOREIGN_GZIP),
)
_INTO: Mapping[Format, Mapping[str, str]] = {
    "oci": {docker: oci for oci, docker in _PAIRS},
    "docker": dict(_PAIRS),
}
_ONLY_OCI = frozenset(("annotations", "artifactType", "subject"))


def find_counterpart(media_type: str, wanted: Format) -> str | None:
    """The type of the same content in the wanted family: itself when it is of that family, None when there is none."""
    into = _INTO[wanted]
    return media_type if media_type in into.values() else into.get(media_type)


def is_format(manifest: Manifest, wanted: Format) -> bool:
    """Whether a manifest's own type and all types in it are of the wanted family, or of neither."""
    return all(
        find_counterpart(one, wanted) in (one, None)
        for one in (manifest.media_type, *(child.media_type for child in manifest.children))
    )


def rewrite(raw: bytes, manifest: Manifest, wanted: Format, made: Mapping[Digest, Descriptor]) -> Descriptor:
    """A manifest in the wanted family, with its bytes. A pure function of its arguments.

    `made`: what an index's children became, by their old digests; the others are left out. What docker's family has no
    place for (annotations, `subject`, `artifactType`) is dropped.

    Raises:
        UnsupportedManifest: docker's family has no type for something that it lists.
    """
    document = parse_json_object(raw)
    kept = {key: value for key, value in document.items() if wanted == "oci" or key not in _ONLY_OCI}
    kind = _convert_type(manifest.media_type, wanted)
    kept["mediaType"] = kind
    if manifest.is_index:
        entries = zip(_check_list(document.get("manifests")), manifest.children, strict=True)
        kept["manifests"] = [
            _rewrite_entry(entry, wanted, made[old.digest]) for entry, old in entries if old.digest in made
        ]
    else:
        kept["config"] = _rewrite_entry(document.get("config"), wanted)
        kept["layers"] = [_rewrite_entry(layer, wanted) for layer in _check_list(document.get("layers"))]
    return describe(json.dumps(kept, separators=(",", ":"), ensure_ascii=False).encode(), kind)


def _rewrite_entry(old: object, wanted: Format, became: Descriptor | None = None) -> dict[str, object]:
    """A descriptor's JSON with its type in the wanted family, and for a child that was rewritten its new digest."""
    entry = dict(old) if isinstance(old, Mapping) else {}
    new: dict[str, object] = {"mediaType": _convert_type(str(entry.get("mediaType")), wanted)}
    if became is not None:
        new = {"mediaType": became.media_type, "digest": became.digest, "size": became.size}
    gone = {"data"} if became is not None and became.digest != entry.get("digest") else set()
    gone |= _ONLY_OCI if wanted == "docker" else set()
    return {key: value for key, value in {**entry, **new}.items() if key not in gone}


def _convert_type(media_type: str, wanted: Format) -> str:
    """OCI's manifests may list content of any type, docker's may not."""
    found = find_counterpart(media_type, wanted)
    if found is None and wanted == "docker":
        raise UnsupportedManifest(
            f"{media_type[:100]!r} has no counterpart among docker's media types: copy the image as it is"
        )
    return found or media_type


def _check_list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
