"""Indexes that ocisync builds."""

from __future__ import annotations

import json

from ocisync.model import media_types
from ocisync.model.built_index import build_index
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.platform import Platform


def child(media_type: str, letter: str, platform: Platform) -> Descriptor:
    return Descriptor(media_type, Digest(f"sha256:{letter * 64}"), 1, platform=platform)


def test_one_docker_child_makes_a_docker_list() -> None:
    only = child(media_types.DOCKER_MANIFEST, "a", Platform("linux", "amd64"))
    assert build_index([only]).media_type == media_types.DOCKER_LIST


def test_the_order_of_the_images_does_not_matter_and_versions_of_windows_count() -> None:
    old = child(media_types.OCI_MANIFEST, "a", Platform("windows", "amd64", os_version="10.0.17763.1"))
    new = child(media_types.OCI_MANIFEST, "b", Platform("windows", "amd64", os_version="10.0.20348.1"))
    arm = child(media_types.OCI_MANIFEST, "c", Platform("linux", "arm64"))
    index = build_index([new, arm, old])
    assert index.digest == build_index([old, new, arm]).digest
    listed = [entry["platform"] for entry in json.loads(index.data or b"")["manifests"]]
    assert listed == [
        {"architecture": "arm64", "os": "linux"},
        {"architecture": "amd64", "os": "windows", "os.version": "10.0.17763.1"},
        {"architecture": "amd64", "os": "windows", "os.version": "10.0.20348.1"},
    ]
