"""index.json of an OCI layout: its entries, their names, and where the content lies. No I/O.

Spec: image-spec v1.1, image-layout.md and annotations.md ("org.opencontainers.image.ref.name").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ocisync.errors import ArchiveError, InputError, InvalidName, ManifestError
from ocisync.model.descriptor import Descriptor, descriptor_from_json
from ocisync.model.digest import Digest, algorithm, hex_of
from ocisync.model.image_name import parse_image_name
from ocisync.model.manifest import parse_json_object

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
VERSION = "1.0.0"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One manifest that index.json lists."""

    desc: Descriptor

    @property
    def names(self) -> tuple[str, ...]:
        """Every name it has: the full one first where a builder wrote one."""
        found = (self.desc.annotations.get(CONTAINERD_NAME), self.desc.annotations.get(REF_NAME))
        return tuple(dict.fromkeys(name for name in found if name))


def blob_path(digest: Digest) -> str:
    """Where a layout keeps content."""
    return f"blobs/{algorithm(digest)}/{hex_of(digest)}"


def parse_index(raw: bytes) -> tuple[IndexEntry, ...]:
    """The entries of index.json; `manifests: null`, as some builders write it, is an empty list.

    Raises:
        ArchiveError: it is not an index.
    """
    try:
        manifests = parse_json_object(raw).get("manifests") or []
        if isinstance(manifests, list):
            return tuple(IndexEntry(descriptor_from_json(item)) for item in manifests)
    except (ManifestError, InvalidName) as exc:
        raise ArchiveError(f"index.json: {exc.message}") from exc
    raise ArchiveError("index.json: `manifests` is not a list")


def pick_entry(entries: Sequence[IndexEntry], reference: str, where: str) -> IndexEntry:
    """The entry that a reference means; an exact name wins over the same image written otherwise.

    Raises:
        InputError: none, or several with different digests (`name.missing`).
    """
    if reference:
        exact = [entry for entry in entries if reference in entry.names]
        found = exact or [entry for entry in entries if any(_is_meant(name, reference) for name in entry.names)]
    else:
        found = [entry for entry in entries if entry.names] or list(entries)
    if len({entry.desc.digest for entry in found}) == 1:
        return found[0]
    names = ", ".join(name for entry in entries for name in entry.names)[:500] or "none has a name"
    wanted = f"{len(found)} images are" if found else "no image is"
    raise InputError(
        f"{where}: {wanted} called {reference[:200]!r} in the layout; choose one of: {names}"
        if reference
        else f"{where}: the layout holds {len(entries)} images; choose one of: {names}",
        code="name.missing",
    )


def _is_meant(name: str, reference: str) -> bool:
    """Whether a name in the layout and a reference are two spellings: a full name, or only its tag."""
    if name.rpartition(":")[2] == reference and "/" not in reference:
        return True
    try:
        one, other = parse_image_name(name), parse_image_name(reference)
    except InvalidName:
        return False
    return (one.host, one.repository, one.reference) == (other.host, other.repository, other.reference)
