"""What docker made before 1.10: entries and configurations."""

from __future__ import annotations

import json

import pytest

from ocisync.errors import ManifestError
from ocisync.model.digest import Digest
from ocisync.stores.archive.docker_v1 import build_legacy_config
from ocisync.stores.archive.open_any import ArchiveKind, detect_kind

ONE = "1" * 64
IDS = [Digest(f"sha256:{letter * 64}") for letter in "ab"]


def test_it_is_told_by_its_folders() -> None:
    names = {f"{ONE}/VERSION", f"{ONE}/json", f"{ONE}/layer.tar", "repositories"}
    assert detect_kind(names, [ONE, "repositories"]) is ArchiveKind.LEGACY
    assert detect_kind(names | {"manifest.json"}, [ONE]) is ArchiveKind.DOCKER
    assert detect_kind({f"{ONE}/json", "repositories"}, [ONE, "repositories"]) is ArchiveKind.UNKNOWN


def test_the_configuration_is_the_topmost_layers_with_all_histories() -> None:
    base = {
        "id": "1",
        "created": "2014",
        "container_config": {"Cmd": ["/bin/sh", "-c", "ADD"]},
        "config": {"Env": ["A"]},
    }
    top = {
        "id": "2",
        "parent": "1",
        "created": "2015",
        "author": "me",
        "os": "linux",
        "Size": 7,
        "config": {"Cmd": ["b"]},
    }
    made = json.loads(build_legacy_config([json.dumps(base).encode(), json.dumps(top).encode()], IDS))
    assert made == {
        "author": "me",
        "config": {"Cmd": ["b"]},
        "created": "2015",
        "history": [{"created": "2014", "created_by": "/bin/sh -c ADD"}, {"created": "2015", "author": "me"}],
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": IDS},
    }


def test_a_layer_without_json_is_refused() -> None:
    with pytest.raises(ManifestError):
        build_legacy_config([b"[]"], IDS[:1])
