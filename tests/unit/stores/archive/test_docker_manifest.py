"""manifest.json, configurations, and the manifest made of them."""

from __future__ import annotations

import json

import pytest

from ocisync.errors import ArchiveError, DiffIdMismatch, InputError, ManifestError
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import Digest, sha256
from ocisync.model.manifest import parse_manifest
from ocisync.stores.archive.docker_manifest import (
    ImageConfig,
    ImageEntries,
    ImageEntry,
    build_manifest,
    convert_layer,
    find_foreign_layers,
    pair_layers,
    parse_config,
    parse_entries,
)

A, B = (Digest(f"sha256:{letter * 64}") for letter in "ab")
ONE = ImageEntry("a.json", ("docker.io/library/alpine:3", "mine/alpine:old"), ("a.tar",))
TWO = ImageEntry("b.json", ("other:latest",), ())


@pytest.mark.parametrize(
    "raw",
    [
        b"null",
        b"[]",
        b"{}",
        b"[1]",
        b'[{"Layers":[]}]',
        b'[{"Config":""}]',
        b'[{"Config":"a","Layers":[1]}]',
        b'[{"Config":"a","Layers":"x"}]',
        b'[{"Config":"a","RepoTags":{"a":1}}]',
        b'[{"Config":"a","Config":"b"}]',
        b'[{"Config":"a","LayerSources":[1]}]',
        b'[{"Config":"a","LayerSources":{"x":{}}}]',
        b'[{"Config":"a","LayerSources":{"sha256:1":{}}}]',
        b"[{",
        b"\xff",
    ],
)
def test_fault_71_manifest_json_without_an_image(raw: bytes) -> None:
    with pytest.raises(ArchiveError, match=r"manifest\.json"):
        parse_entries(raw)


def test_entries_are_read() -> None:
    raw = json.dumps([{"Config": "c", "RepoTags": None, "Layers": None}, {"Config": "d", "RepoTags": ["x:1"]}])
    assert parse_entries(raw.encode()) == (ImageEntry("c", (), ()), ImageEntry("d", ("x:1",), ()))


def test_foreign_layers_are_named_as_their_source_says() -> None:
    url = "https://example.com/base"
    foreign = {"mediaType": media_types.DOCKER_FOREIGN_GZIP, "digest": B, "size": 5, "urls": [url]}
    plain = {"mediaType": media_types.OCI_LAYER, "digest": B, "size": 5}
    for source, expected in ((foreign, [A]), (plain, []), ({**foreign, "urls": []}, [])):
        (entry,) = parse_entries(json.dumps([{"Config": "c", "LayerSources": {A: source}}]).encode())
        assert list(find_foreign_layers(entry, "oci")) == expected
    (entry,) = parse_entries(json.dumps([{"Config": "c", "LayerSources": {A: foreign}}]).encode())
    for wanted, kind in (
        ("docker", media_types.DOCKER_FOREIGN_GZIP),
        ("oci", f"{media_types.OCI_FOREIGN_PREFIX}tar+gzip"),
    ):
        (found,) = find_foreign_layers(entry, wanted).values()  # type: ignore[arg-type]
        assert (found.media_type, found.digest, found.urls) == (kind, B, (url,))


def test_names_of_one_image_have_one_number() -> None:
    images = ImageEntries([ONE, TWO])
    names = ("alpine:3", "docker.io/library/alpine:3", "mine/alpine:old", "@0", "other:latest", "nope:1", "")
    assert [images.number_of(name) for name in names] == ["@0", "@0", "@0", "@0", "@1", "nope:1", ""]


@pytest.mark.parametrize(
    ("reference", "found"),
    [("alpine:3", ONE), ("mine/alpine:old", ONE), ("docker.io/library/alpine:3", ONE), ("other", TWO), ("@1", TWO)],
)
def test_images_are_picked_by_any_spelling(reference: str, found: ImageEntry) -> None:
    assert ImageEntries((ONE, TWO)).pick(reference) is found


@pytest.mark.parametrize("reference", ["", "alpine:4", "@2", "UPPER:x", "mine/alpine"])
def test_fault_74_several_images_or_none_of_that_name(reference: str) -> None:
    with pytest.raises(InputError, match="other:latest") as caught:
        ImageEntries((ONE, TWO)).pick(reference)
    assert caught.value.code == "name.missing"


def test_fault_72_counts_differ() -> None:
    with pytest.raises(DiffIdMismatch) as caught:
        pair_layers(ONE, ImageConfig(b"", (A, B), None))
    assert caught.value.code == "verify.diffid"


@pytest.mark.parametrize("raw", [b"{}", b'{"rootfs":[]}', b'{"rootfs":{"diff_ids":{}}}', b"[]"])
def test_a_configuration_needs_diff_ids(raw: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_config(raw)


@pytest.mark.parametrize(
    ("wanted", "manifest_type", "config_type", "layer"),
    [
        ("oci", media_types.OCI_MANIFEST, media_types.OCI_CONFIG, media_types.OCI_LAYER_ZSTD),
        ("docker", media_types.DOCKER_MANIFEST, media_types.DOCKER_CONFIG, media_types.DOCKER_LAYER_ZSTD),
    ],
)
def test_the_manifest_is_a_function_of_its_parts(wanted: str, manifest_type: str, config_type: str, layer: str) -> None:
    config = parse_config(b'{"os":"linux","architecture":"arm64","rootfs":{"diff_ids":["%s"]}}' % A.encode())
    layers = [convert_layer(Descriptor(media_types.OCI_LAYER_ZSTD, B, 7), wanted)]  # type: ignore[arg-type]
    made, config_desc = build_manifest(config, layers, wanted)  # type: ignore[arg-type]
    assert made.data is not None
    assert (made.digest, made.size) == (sha256(made.data), len(made.data))
    assert str(made.platform) == "linux/arm64"
    parsed = parse_manifest(made.data, manifest_type)
    assert [child.media_type for child in parsed.children] == [config_type, layer]
    assert parsed.config == config_desc
    assert config_desc.data == config.raw
