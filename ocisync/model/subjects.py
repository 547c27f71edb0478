"""What refers to what: manifests' `subject` fields, and the lists of referrers that follow from them.

A referrer (signature, SBOM, attestation) points at its subject; nothing in the subject points back. So somebody has to
keep the list of a subject's referrers: a registry with the referrers API does, for others the client keeps an index
under a tag (`ocisync.model.digest_tags`), and a static registry has both as files that are derived from the manifests.
The bytes of a list depend on its entries only, so that writers who derive it at the same time agree.

Spec: distribution-spec v1.1.1, "Listing Referrers".
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ocisync.errors import ManifestError, OcisyncError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, descriptor_to_json
from ocisync.model.digest import Digest, is_digest
from ocisync.model.manifest import Manifest, parse_json_object, parse_manifest
from ocisync.model.text.outside_json import load_json

_REMEMBERED = 200_000  # manifests; most of them refer to nothing

Entry = Mapping[str, object]
Entries = Mapping[Digest, Entry]


class SubjectReference(NamedTuple):
    """A manifest that has a subject, as the subject's list of referrers shows it."""

    subject: Digest
    entry: Entry


def read_subject(digest: Digest, raw: bytes) -> SubjectReference | None:
    """What a manifest refers to; None when to nothing, or when it is no manifest at all."""
    if b'"subject"' not in raw:
        return None
    try:
        manifest = parse_manifest(raw)
    except OcisyncError:
        return None
    if manifest.subject is None:
        return None
    shown = Descriptor(
        manifest.media_type,
        digest,
        len(raw),
        artifact_type=_find_artifact_type(manifest),
        annotations=_select_texts(manifest.annotations or {}),
    )
    return SubjectReference(manifest.subject.digest, descriptor_to_json(shown))


def _select_texts(annotations: Mapping[str, object]) -> dict[str, str]:
    return {key: text for key, text in annotations.items() if isinstance(text, str)}


def _find_artifact_type(manifest: Manifest) -> str | None:
    """Spec: without an artifactType, an image manifest's is its config's media type."""
    if manifest.artifact_type or manifest.media_type == media_types.OCI_ARTIFACT or manifest.config is None:
        return manifest.artifact_type
    return manifest.config.media_type


def add_entries(body: bytes | None, entries: Entries) -> bytes:
    """A list of referrers with more entries at its end; what it says already is kept.

    Raises:
        ManifestError: it is no list.
    """
    document = parse_json_object(body or format_referrers({}))
    listed = document.get("manifests")
    if not isinstance(listed, list):
        raise ManifestError("no list of referrers")
    document["manifests"] = [*listed, *(entries[digest] for digest in sorted(entries))]
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def format_referrers(entries: Entries) -> bytes:
    """The bytes of a list of referrers, the same for the same entries."""
    listed = [entries[digest] for digest in sorted(entries)]
    document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": listed}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def read_entries(body: bytes | None) -> dict[Digest, Entry]:
    """What a list of referrers names; a damaged one names nothing."""
    try:
        document = load_json(body or b"{}")
    except ValueError:
        return {}
    listed = document.get("manifests") if isinstance(document, dict) else None
    found = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    found = [entry for entry in found if is_digest(entry.get("digest"))]
    return {Digest(str(entry["digest"])): entry for entry in found}


class SubjectReferences:
    """What manifests refer to, remembered: a digest's content never changes."""

    def __init__(self) -> None:
        self._known: OrderedDict[Digest, SubjectReference | None] = OrderedDict()

    def learn(self, digest: Digest, raw: bytes) -> SubjectReference | None:
        """Take note of a manifest whose bytes are at hand."""
        found = self._known[digest] = read_subject(digest, raw)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return found

    def list_unknown(self, digests: Iterable[Digest]) -> list[Digest]:
        """Those of which nothing is remembered."""
        return [digest for digest in digests if digest not in self._known]

    def get(self, digest: Digest) -> SubjectReference | None:
        """What is remembered."""
        return self._known.get(digest)
