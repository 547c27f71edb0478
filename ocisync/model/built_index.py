"""Indexes that ocisync builds itself: the same bytes for the same images, whatever the order they came in.

Spec: image-spec v1.1, image-index.md.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe, descriptor_to_json
from ocisync.model.platform import Platform, normalize


def build_index(children: Sequence[Descriptor]) -> Descriptor:
    """An index of children in the order of their platforms, a docker list when all are docker's; carries its bytes."""
    is_docker = all(child.media_type == media_types.DOCKER_MANIFEST for child in children)
    media_type = media_types.DOCKER_LIST if is_docker else media_types.OCI_INDEX
    ordered = sorted(children, key=lambda child: normalize(child.platform) if child.platform else Platform("", ""))
    document = {
        "schemaVersion": 2,
        "mediaType": media_type,
        "manifests": [descriptor_to_json(child) for child in ordered],
    }
    return describe(json.dumps(document, separators=(",", ":")).encode(), media_type)
