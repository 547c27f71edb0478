"""index.json of an OCI layout: its entries, their names, and where the content lies. No I/O.

Spec: image-spec v1.1, image-layout.md and annotations.md ("org.opencontainers.image.ref.name").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ocisync.errors import ArchiveError, InputError, InvalidName, ManifestError
from ocisync.model.descriptor import Descriptor, descriptor_from_json
from ocisync.model.digest import Digest, algorithm, hex_of
from ocisync.model.manifest import parse_json_object
from ocisync.stores.archive.names import image_number, is_same_name, name_key, show_choices

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"
LAYOUT_FILE = "oci-layout"
INDEX_FILE = "index.json"
VERSION = "1.0.0"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One manifest that index.json lists."""

    desc: Descriptor
    repo_tag: str = ""  # the same name as docker's manifest.json beside the layout writes it

    @property
    def names(self) -> tuple[str, ...]:
        """Every name it has: docker's own first, then the full one where a builder wrote one.

        Of two spellings of one name (`app:1`, `docker.io/library/app:1`) the one that its user typed comes first.
        """
        full, own = (self.desc.annotations.get(key, "") for key in (CONTAINERD_NAME, REF_NAME))
        found = (self.repo_tag, own, full) if own and is_same_name(own, full) else (self.repo_tag, full, own)
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
    """The entry that a reference means, or the only one; an exact name wins over the same image written otherwise.

    Raises:
        InputError: none, or several with different digests (`name.missing`).
    """
    found = find_entries(entries, reference)
    if len({entry.desc.digest for entry in found}) == 1:
        return found[0]
    choices = show_choices(enumerate(entry.names for entry in entries))
    wanted = f"{len(found)} images are" if found else "no image is"
    raise InputError(
        f"{where}: {wanted} called {reference[:200]!r} in the layout; choose one of: {choices}"
        if reference
        else f"{where}: the layout holds {len(entries)} images; choose one of: {choices}",
        code="name.missing",
    )


def find_entries(entries: Sequence[IndexEntry], reference: str) -> Sequence[IndexEntry]:
    """The entries that a reference may mean; without one those that have a name, or all where none has."""
    number = image_number(reference)
    if number is not None:
        return entries[number : number + 1]
    if not reference:
        return [entry for entry in entries if entry.names] or entries
    exact = [entry for entry in entries if reference in entry.names]
    return exact or [entry for entry in entries if any(_is_meant(name, reference) for name in entry.names)]


def _is_meant(name: str, reference: str) -> bool:
    """Whether a name in the layout and a reference are two spellings: a full name, or only its tag."""
    return is_same_name(name, reference) or (name.rpartition(":")[2] == reference and "/" not in reference)


def adopt_repo_tags(entries: Iterable[IndexEntry], repo_tags: Iterable[str]) -> tuple[IndexEntry, ...]:
    """The entries with the names of docker's manifest.json, where it has them in another spelling.

    `docker save app:1.0` writes `app:1.0` into manifest.json, and since version 25 `docker.io/library/app:1.0` into
    index.json. The first is what every version writes, and what its user typed.
    """
    by_key = {key: tag for tag in repo_tags if (key := name_key(tag))}
    keys = ((entry, [name_key(name) for name in entry.names]) for entry in entries)
    return tuple(
        replace(entry, repo_tag=next((by_key[key] for key in found if key in by_key), "")) for entry, found in keys
    )
