"""An index may list manifests and blobs under types that nobody knows: each is read back as what it was stored as.

Spec: image-spec v1.1, image-index.md: "Implementations MUST NOT generate an error when encountering an unknown
mediaType"; buildkit's caches and OCI artifacts have such entries.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.mainjob import ENV, KINDS, Directory, Kind, contents, open_place, write_config
from tests.servers.command import run_ocisync, served
from tests.servers.images import Index, digest_of, layout_files, make_image, make_index, write_archive
from tests.servers.seaweed import Seaweed

UNKNOWN = "application/vnd.example.thing.v1+json"
BLOB, JSON = b"no manifest at all", b'{"schemaVersion": 2, "mediaType": "application/vnd.example.other"}'


def odd_index() -> tuple[Index, dict[str, bytes]]:
    """An image, one whose entry has an unknown type, and two entries that are no manifests."""
    children = [make_image("known"), make_image("unknown", platform=("linux", "arm64", ""))]
    made = make_index(children)
    document = json.loads(made.manifest)
    document["manifests"][1]["mediaType"] = UNKNOWN
    for data in (BLOB, JSON):
        document["manifests"].append({"mediaType": UNKNOWN, "digest": digest_of(data), "size": len(data)})
    index = replace(made, manifest=json.dumps(document).encode())
    files = layout_files({"app:1": index})
    return index, files | {f"blobs/sha256/{digest_of(data)[7:]}": data for data in (BLOB, JSON)}


@pytest.mark.parametrize("kind", KINDS)
def test_entries_of_unknown_types_survive_every_way(kind: Kind, tmp_path: Path, s3: Seaweed) -> None:
    index, files = odd_index()
    archive = write_archive(tmp_path / "app.tar", files)
    with open_place(kind, tmp_path / "registry", s3) as place, open_place(kind, tmp_path / "second", s3) as second:
        settings = {"gc": "1h", "grace": "1s"}
        file = write_config(tmp_path, {"a": place.settings | settings, "b": second.settings | settings})
        config = ("-c", file)
        run_ocisync("copy", archive, "target:a/app:1", *config, env=ENV).expect(0)
        for image in index.children:
            assert place.read(f"v2/app/manifests/{image.digest}") == image.manifest
        for data in (BLOB, JSON):
            assert place.read(f"v2/app/blobs/{digest_of(data)}") == data
        run_ocisync("copy", "target:a/app:1", "target:b/app:1", *config, env=ENV).expect(0)
        assert contents(second) == contents(place)
        told = run_ocisync("gc", "a", "--grace", "0s", *config, env=ENV).expect(0).stdout
        assert "0 unreferenced" in told, "what an entry of an unknown type needs is needed"
        assert contents(second) == contents(place)
        run_ocisync("verify", "a", "--deep", *config, env=ENV).expect(0)
        place.remove(f"v2/app/blobs/{next(iter(index.children[1].blobs))}")
        assert "missing" in run_ocisync("verify", "a", *config, env=ENV).expect(1).stdout


def test_entries_of_unknown_types_are_read_from_a_registry(tmp_path: Path) -> None:
    index, files = odd_index()
    run_ocisync("copy", write_archive(tmp_path / "app.tar", files), f"static:{tmp_path}/a//app:1").expect(0)
    with served(tmp_path / "a") as url:
        image = f"docker://{urlsplit(url).netloc}/app:1"
        run_ocisync("copy", image, f"static:{tmp_path}/b//app:1").expect(0)
        run_ocisync("copy", image, f"static:{tmp_path}/c//app:1", "--cache", tmp_path / "cache").expect(0)
        run_ocisync("unpack", image, tmp_path / "root", "--platform", "linux/arm64").expect(0)
        shown = json.loads(run_ocisync("inspect", image, "--json").expect(0).stdout)
    assert {one["digest"] for one in shown["images"]} == {one.digest for one in index.children}
    first, *others = (contents(Directory(tmp_path / name)) for name in "abc")
    assert others == [first, first]
