"""Names in an OCI layout, and kinds of archives."""

from __future__ import annotations

import pytest

from ocisync.errors import ArchiveError, InputError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.stores.archive.index_json import CONTAINERD_NAME, REF_NAME, IndexEntry, parse_index, pick_entry
from ocisync.stores.archive.open_any import ArchiveKind, detect_kind


def entry(letter: str, **names: str) -> IndexEntry:
    digest = Digest(f"sha256:{letter * 64}")
    annotations = {{"ref": REF_NAME, "full": CONTAINERD_NAME}[key]: value for key, value in names.items()}
    return IndexEntry(Descriptor(media_types.OCI_MANIFEST, digest, 1, annotations=annotations))


LATEST = entry("a", ref="latest", full="docker.io/library/alpine:latest")
OLD = entry("b", ref="3.1")
FULL = entry("c", ref="quay.io/some/where:edge")
UNNAMED = entry("d")


@pytest.mark.parametrize(
    ("reference", "found"),
    [
        ("latest", LATEST),
        ("alpine", LATEST),
        ("alpine:latest", LATEST),
        ("3.1", OLD),
        ("quay.io/some/where:edge", FULL),
        ("edge", FULL),
    ],
)
def test_an_entry_is_picked_by_its_names(reference: str, found: IndexEntry) -> None:
    assert pick_entry((LATEST, OLD, FULL, UNNAMED), reference, "x") is found


def test_the_only_image_needs_no_name() -> None:
    assert pick_entry((UNNAMED,), "", "x") is UNNAMED
    assert pick_entry((UNNAMED, OLD), "", "x") is OLD
    assert pick_entry((OLD, entry("b", ref="same")), "", "x") is OLD


@pytest.mark.parametrize("reference", ["", "4", "busybox:latest"])
def test_fault_74_several_entries_or_none_of_that_name(reference: str) -> None:
    with pytest.raises(InputError, match=r"3\.1") as caught:
        pick_entry((LATEST, OLD), reference, "x")
    assert caught.value.code == "name.missing"


def test_one_name_for_two_digests_is_refused() -> None:
    with pytest.raises(InputError):
        pick_entry((OLD, entry("e", ref="3.1")), "3.1", "x")


@pytest.mark.parametrize("raw", [b"[]", b"{", b'{"manifests":{"a":1}}', b'{"manifests":[1]}'])
def test_a_broken_index_is_refused(raw: bytes) -> None:
    with pytest.raises(ArchiveError, match=r"index\.json"):
        parse_index(raw)


def test_null_manifests_are_none() -> None:
    assert parse_index(b'{"manifests":null}') == ()


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("manifest.json a.json", ArchiveKind.DOCKER),
        ("manifest.json index.json", ArchiveKind.DOCKER),
        ("manifest.json index.json oci-layout", ArchiveKind.HYBRID),
        ("index.json oci-layout", ArchiveKind.LAYOUT),
        ("index.json", ArchiveKind.LAYOUT),
        ("bin/sh etc/passwd usr/bin/x dev/null", ArchiveKind.ROOTFS),
        ("etc/passwd readme", ArchiveKind.UNKNOWN),
    ],
)
def test_kinds_are_told_by_content(names: str, kind: ArchiveKind) -> None:
    found = names.split()
    assert detect_kind(found, {name.partition("/")[0] for name in found}) is kind
