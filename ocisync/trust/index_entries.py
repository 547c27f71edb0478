"""What of an index must be signed where the index itself is not. Pure.

Clients choose among an index's entries by their platforms and open what they like: an entry that calls itself a
statement, or has a type that nobody knows, is copied with the index all the same. So every entry must be signed itself.
Only what BuildKit puts beside an image, and nobody signs, need not be: a statement about an image that is signed. It
must be nothing else: no platform that a client would choose, and no layer that could be run.

Spec: BuildKit's docs/attestations/attestation-storage.md.
"""

from __future__ import annotations

from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.manifest import Manifest

_KIND = "vnd.docker.reference.type"
_SUBJECT = "vnd.docker.reference.digest"
_STATEMENT = "attestation-manifest"
_STATEMENTS = (media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST)
_IN_TOTO = "application/vnd.in-toto"
_NO_PLATFORM = ("unknown", "unknown")


def find_subject(entry: Descriptor) -> str | None:
    """The digest that a builder's statement says it is about; None for every other entry of an index."""
    platform = entry.platform and (entry.platform.os, entry.platform.architecture)
    is_statement = entry.annotations.get(_KIND) == _STATEMENT and entry.media_type in _STATEMENTS
    return entry.annotations.get(_SUBJECT) if is_statement and platform == _NO_PLATFORM else None


def holds_only_statements(manifest: Manifest) -> bool:
    """Whether a manifest has nothing but in-toto statements for layers."""
    return bool(manifest.layers) and all(layer.media_type.startswith(_IN_TOTO) for layer in manifest.layers)
