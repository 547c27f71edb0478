"""Every kind of content has its type in both families, or is refused."""

from __future__ import annotations

import json

import pytest

from ocisync.errors import UnsupportedManifest
from ocisync.model import media_types as kinds
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest
from ocisync.model.manifest import parse_manifest
from ocisync.model.media_type_families import Format, find_counterpart, is_format, rewrite

A, B = (Digest(f"sha256:{letter * 64}") for letter in "ab")
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


@pytest.mark.parametrize(
    ("oci", "docker"),
    [
        ("index.v1+json", "distribution.manifest.list.v2+json"),
        ("manifest.v1+json", "distribution.manifest.v2+json"),
        ("config.v1+json", "container.image.v1+json"),
        ("layer.v1.tar", "image.rootfs.diff.tar"),
        ("layer.v1.tar+gzip", "image.rootfs.diff.tar.gzip"),
        ("layer.v1.tar+zstd", "image.rootfs.diff.tar.zstd"),
        ("layer.nondistributable.v1.tar", "image.rootfs.foreign.diff.tar"),
        ("layer.nondistributable.v1.tar+gzip", "image.rootfs.foreign.diff.tar.gzip"),
    ],
)
def test_both_families_have_a_type(oci: str, docker: str) -> None:
    assert find_counterpart(OCI + oci, "docker") == find_counterpart(DOCKER + docker, "docker") == DOCKER + docker
    assert find_counterpart(DOCKER + docker, "oci") == find_counterpart(OCI + oci, "oci") == OCI + oci


@pytest.mark.parametrize("wanted", ["oci", "docker"])
def test_other_types_have_none(wanted: Format) -> None:
    assert find_counterpart("application/vnd.in-toto+json", wanted) is None
    assert find_counterpart(OCI + "layer.nondistributable.v1.tar+zstd", "docker") is None


def entry(kind: str, digest: str = A, **more: object) -> dict[str, object]:
    return {"mediaType": kind, "digest": digest, "size": 1, **more}


def manifest(*layers: dict[str, object], kind: str = kinds.OCI_MANIFEST, config: str = kinds.OCI_CONFIG) -> bytes:
    document = {"schemaVersion": 2, "mediaType": kind, "config": entry(config), "layers": list(layers)}
    return json.dumps({**document, "annotations": {"a": "b"}}).encode()


def rewritten(raw: bytes, wanted: Format, made: dict[Digest, Descriptor] | None = None) -> dict[str, object]:
    desc = rewrite(raw, parse_manifest(raw), wanted, made or {})
    assert desc.data
    document: dict[str, object] = json.loads(desc.data)
    assert document["mediaType"] == desc.media_type
    assert is_format(parse_manifest(desc.data), wanted)
    return document


def test_only_types_change_and_what_docker_does_not_know_goes() -> None:
    foreign = entry(OCI + "layer.nondistributable.v1.tar+gzip", B, urls=["https://example.com/x"])
    made = rewritten(manifest(entry(kinds.OCI_LAYER_ZSTD, annotations={"c": "d"}), foreign), "docker")
    assert made == {
        "schemaVersion": 2,
        "mediaType": kinds.DOCKER_MANIFEST,
        "config": entry(kinds.DOCKER_CONFIG),
        "layers": [entry(kinds.DOCKER_LAYER_ZSTD), entry(kinds.DOCKER_FOREIGN_GZIP, B, urls=["https://example.com/x"])],
    }


def test_there_and_back_is_the_same_but_for_annotations() -> None:
    raw = manifest(entry(kinds.OCI_LAYER_GZIP), entry(kinds.OCI_LAYER))
    once = rewrite(raw, parse_manifest(raw), "docker", {})
    back = rewritten(once.data or b"", "oci")
    assert back == {key: value for key, value in json.loads(raw).items() if key != "annotations"}


def test_an_index_lists_what_its_children_became_and_no_others() -> None:
    platform = {"os": "linux", "architecture": "arm64", "variant": "v8", "os.features": ["x"]}
    children = [entry(kinds.OCI_MANIFEST, A, platform=platform), entry(kinds.OCI_MANIFEST, B)]
    raw = json.dumps({"schemaVersion": 2, "mediaType": kinds.OCI_INDEX, "manifests": children}).encode()
    made = rewritten(raw, "docker", {A: Descriptor(kinds.DOCKER_MANIFEST, B, 7)})
    assert made["manifests"] == [{"mediaType": kinds.DOCKER_MANIFEST, "digest": B, "size": 7, "platform": platform}]


def test_what_docker_cannot_hold_is_refused() -> None:
    raw = manifest(entry("application/vnd.dev.cosign.simplesigning.v1+json"))
    with pytest.raises(UnsupportedManifest, match="simplesigning"):
        rewrite(raw, parse_manifest(raw), "docker", {})
    assert is_format(parse_manifest(raw), "oci")


def test_docker_layers_in_an_oci_manifest_are_made_right() -> None:
    raw = manifest(entry(kinds.DOCKER_LAYER_GZIP), entry("application/x-other"))
    assert not is_format(parse_manifest(raw), "oci")
    assert rewritten(raw, "oci")["layers"] == [entry(kinds.OCI_LAYER_GZIP), entry("application/x-other")]
