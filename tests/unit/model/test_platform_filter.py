"""Which entries of an index are wanted: platforms with variants, attestations, nested indexes; new indexes of them."""

from __future__ import annotations

import json

import pytest

from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256
from ocisync.model.manifest import parse_manifest
from ocisync.model.platform import parse_platform
from ocisync.model.platform_filter import Attestations, PlatformChoice, narrow_index, select_entries

UNKNOWN = "unknown/unknown"


def entry(name: str, platform: str = "", about: str = "", media_type: str = media_types.OCI_MANIFEST) -> Descriptor:
    annotations = {"vnd.docker.reference.digest": sha256(about.encode())} if about else {}
    known = parse_platform(platform) if platform else None
    return Descriptor(media_type, sha256(name.encode()), 9, platform=known, annotations=annotations)


ENTRIES = {
    "amd64": entry("amd64", "linux/amd64"),
    "arm64": entry("arm64", "linux/arm64/v8"),
    "v6": entry("v6", "linux/arm/v6"),
    "v7": entry("v7", "linux/arm/v7"),
    "windows": entry("windows", "windows/amd64"),
    "any": entry("any"),
    "nested": entry("nested", media_type=media_types.OCI_INDEX),
    "of amd64": entry("of amd64", UNKNOWN, "amd64"),
    "of arm64": entry("of arm64", UNKNOWN, "arm64"),
    "of nothing": entry("of nothing", UNKNOWN),
}
STATEMENTS = ["of amd64", "of arm64", "of nothing"]


@pytest.mark.parametrize(
    ("platforms", "attestations", "expected"),
    [
        ("", "matching", list(ENTRIES)),
        ("", "all", list(ENTRIES)),
        ("", "none", [name for name in ENTRIES if name not in STATEMENTS]),
        ("linux/amd64", "matching", ["amd64", "any", "nested", "of amd64"]),
        ("linux/amd64", "none", ["amd64", "any", "nested"]),
        ("linux/amd64", "all", ["amd64", "any", "nested", *STATEMENTS]),
        ("linux/arm64", "none", ["arm64", "any", "nested"]),
        ("linux/arm64/v8", "none", ["arm64", "any", "nested"]),
        ("linux/arm", "none", ["v7", "any", "nested"]),
        ("linux/arm/v6 linux/x86_64", "none", ["amd64", "v6", "any", "nested"]),
        ("plan9/386", "matching", ["any", "nested"]),
    ],
)
def test_wanted_entries(platforms: str, attestations: Attestations, expected: list[str]) -> None:
    choice = PlatformChoice(tuple(map(parse_platform, platforms.split())), attestations)
    found = select_entries(list(ENTRIES.values()), choice)
    assert [name for name, one in ENTRIES.items() if one in found] == expected


def test_scopes_are_equal_for_choices_that_mean_the_same() -> None:
    one = PlatformChoice((parse_platform("linux/arm64"), parse_platform("linux/amd64")))
    other = PlatformChoice((parse_platform("linux/x86_64"), parse_platform("linux/arm64/v8")))
    assert one.scope == other.scope
    assert one.scope != PlatformChoice(one.platforms, "none").scope
    assert PlatformChoice().scope == PlatformChoice(attestations="all").scope == ""
    assert PlatformChoice(attestations="none").scope != ""


def test_a_new_index_keeps_everything_but_the_other_entries() -> None:
    one, two = ENTRIES["amd64"], ENTRIES["arm64"]
    listed = [
        {"mediaType": each.media_type, "digest": each.digest, "size": each.size, "x-own": name}
        for name, each in (("one", one), ("two", two))
    ]
    raw = json.dumps({"schemaVersion": 2, "x-other": [1], "manifests": listed, "annotations": {"a": "b"}}).encode()
    inner = Descriptor(one.media_type, sha256(b"inner"), 77)
    made = narrow_index(raw, media_types.OCI_INDEX, {one.digest: inner})
    assert made.data is not None
    assert (made.digest, made.size) == (sha256(made.data), len(made.data))
    assert json.loads(made.data) == {
        "schemaVersion": 2,
        "x-other": [1],
        "manifests": [{**listed[0], "digest": inner.digest, "size": 77}],
        "annotations": {"a": "b"},
    }
    assert parse_manifest(made.data, made.media_type).children == (inner,)
