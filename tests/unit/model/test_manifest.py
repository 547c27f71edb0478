"""Manifests: strict JSON, types that agree, caps."""

from __future__ import annotations

import base64
import json
from contextlib import nullcontext

import pytest

from ocisync.errors import (
    AmbiguousManifest,
    DigestMismatch,
    InvalidName,
    LimitExceeded,
    ManifestError,
    OcisyncError,
    UnsupportedManifest,
)
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor
from ocisync.model.digest import sha256
from ocisync.model.manifest import MAX_MANIFEST_SIZE, check_index_depth, parse_manifest

CHILD = {"mediaType": media_types.OCI_LAYER_GZIP, "digest": sha256(b"layer"), "size": 5}
CONFIG = {"mediaType": media_types.OCI_CONFIG, "digest": sha256(b"{}"), "size": 2}
IMAGE: dict[str, object] = {"schemaVersion": 2, "config": CONFIG, "layers": [CHILD]}
INDEX: dict[str, object] = {"schemaVersion": 2, "manifests": [{**CHILD, "mediaType": media_types.OCI_MANIFEST}]}


def raw(document: object) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("document", "announced", "expected"),
    [
        (IMAGE, None, media_types.OCI_MANIFEST),
        (IMAGE, media_types.DOCKER_MANIFEST, media_types.DOCKER_MANIFEST),
        (IMAGE, "application/json", media_types.OCI_MANIFEST),
        ({**IMAGE, "config": {**CONFIG, "mediaType": media_types.DOCKER_CONFIG}}, None, media_types.DOCKER_MANIFEST),
        (INDEX, None, media_types.OCI_INDEX),
        ({**INDEX, "mediaType": media_types.DOCKER_LIST}, None, media_types.DOCKER_LIST),
        ({"schemaVersion": 2, "config": CONFIG}, media_types.OCI_MANIFEST, media_types.OCI_MANIFEST),
    ],
)
def test_the_type_is_the_written_the_announced_or_what_the_body_shows(
    document: object, announced: str | None, expected: str
) -> None:
    assert parse_manifest(raw(document), announced).media_type == expected


def test_an_image_lists_its_config_first() -> None:
    manifest = parse_manifest(raw(IMAGE))
    assert manifest.config is not None
    assert manifest.config.digest == CONFIG["digest"]
    assert [layer.digest for layer in manifest.layers] == [CHILD["digest"]]


@pytest.mark.parametrize(
    ("document", "announced"),
    [
        ({**IMAGE, "manifests": []}, None),
        ({**IMAGE, "mediaType": media_types.OCI_MANIFEST}, media_types.DOCKER_MANIFEST),
        (IMAGE, media_types.OCI_INDEX),
        (INDEX, media_types.OCI_MANIFEST),
    ],
)
def test_fault_24_types_that_disagree_are_refused(document: object, announced: str | None) -> None:
    with pytest.raises(AmbiguousManifest) as caught:
        parse_manifest(raw(document), announced)
    assert caught.value.code == "manifest.ambiguous"


@pytest.mark.parametrize(
    "text",
    [
        b'{"schemaVersion":2,"manifests":[],"manifests":[]}',
        b'{"schemaVersion":2,"manifests":[],"x":NaN}',
        b'\xef\xbb\xbf{"schemaVersion":2,"manifests":[]}',
        b'{"schemaVersion":2,"manifests":[]} trailing',
        b'{"schemaVersion":2,"manifests":[],"x":' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[]",
        b"",
        b"\xff\xfe",
        b'{"schemaVersion":2}',
        b'{"schemaVersion":2,"manifests":{}}',
        b'{"schemaVersion":2,"manifests":[7]}',
        b'{"schemaVersion":2,"config":7,"layers":[]}',
        b'{"schemaVersion":2,"layers":[]}',
    ],
)
def test_fault_30_what_is_no_strict_json_manifest_is_invalid(text: bytes) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text)
    assert caught.value.code == "manifest.invalid"


@pytest.mark.parametrize(
    "digest",
    ["sha256:../../x", "sha256:abc", "SHA256:" + "a" * 64, "sha256:" + "A" * 64, "md5:" + "a" * 32, "", None, 7],
)
def test_fault_31_bad_digests_are_refused_before_they_are_used(digest: object) -> None:
    with pytest.raises(InvalidName):
        parse_manifest(raw({**IMAGE, "layers": [{**CHILD, "digest": digest}]}))


def test_a_digest_with_a_line_feed_at_its_end_is_refused() -> None:
    with pytest.raises(InvalidName):
        parse_manifest(raw({**IMAGE, "layers": [{**CHILD, "digest": f"{CHILD['digest']}\n"}]}))


@pytest.mark.parametrize("size", [-1, 1.5, "5", True, None, 1 << 60])
def test_bad_sizes_are_refused(size: object) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(raw({**IMAGE, "layers": [{**CHILD, "size": size}]}))


def test_inline_data_is_kept_when_it_is_what_the_digest_says() -> None:
    data = base64.b64encode(b"layer").decode()
    assert parse_manifest(raw({**IMAGE, "layers": [{**CHILD, "data": data}]})).layers[0].data == b"layer"


def test_inline_data_that_is_other_content_is_refused() -> None:
    data = base64.b64encode(b"LAYER").decode()
    with pytest.raises(DigestMismatch):
        parse_manifest(raw({**IMAGE, "layers": [{**CHILD, "data": data}]}))


@pytest.mark.parametrize(
    ("document", "announced"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, None),
        (IMAGE, media_types.SCHEMA_1_SIGNED),
        ({"schemaVersion": 2, "mediaType": "application/x-other", "layers": [], "config": CONFIG}, None),
    ],
)
def test_schema_1_and_strange_types_are_refused_clearly(document: object, announced: str | None) -> None:
    with pytest.raises(UnsupportedManifest) as caught:
        parse_manifest(raw(document), announced)
    assert caught.value.code == "manifest.unsupported"


def test_a_manifest_just_below_the_limit_is_read_and_one_above_is_not() -> None:
    room = MAX_MANIFEST_SIZE - len(raw({**IMAGE, "annotations": {"pad": ""}}))
    assert parse_manifest(raw({**IMAGE, "annotations": {"pad": "x" * room}})).layers
    with pytest.raises(LimitExceeded) as caught:
        parse_manifest(raw({**IMAGE, "annotations": {"pad": "x" * (room + 1)}}))
    assert caught.value.code == "limit.manifest"


def test_every_error_is_an_ocisync_error() -> None:
    for text in (b"{", b"null", b'"x"', b'{"manifests":[{"digest":[]}]}'):
        with pytest.raises(OcisyncError):
            parse_manifest(text)


@pytest.mark.parametrize(("media_type", "depth", "is_refused"), [
    (media_types.OCI_INDEX, 1, False),
    (media_types.OCI_INDEX, 8, False),
    (media_types.DOCKER_LIST, 9, True),
    (media_types.OCI_MANIFEST, 9, False),  # an image in the deepest index
])  # fmt: skip
def test_how_deep_indexes_may_lie(media_type: str, depth: int, is_refused: bool) -> None:
    desc = Descriptor(media_type, sha256(b""), 0)
    with pytest.raises(LimitExceeded, match="nested more than 8") if is_refused else nullcontext():
        check_index_depth(desc, depth)


INDEX_ENTRY = {"mediaType": media_types.OCI_MANIFEST, "digest": CHILD["digest"], "size": CHILD["size"]}


def index_with(**fields: object) -> dict[str, object]:
    entries = [{**INDEX_ENTRY, **fields}]
    return {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": entries}


@pytest.mark.parametrize(("document", "field"), [
    ({**IMAGE, "schemaVersion": "2"}, "schemaVersion"),
    ({**IMAGE, "schemaVersion": 2.0}, "schemaVersion"),
    ({**IMAGE, "schemaVersion": True}, "schemaVersion"),
    ({**IMAGE, "annotations": {"size": 3}}, "annotations hold a number for 'size'"),
    ({**IMAGE, "annotations": ["a=b"]}, "annotations are a list"),
    ({**IMAGE, "artifactType": 1}, "artifactType"),
    ({**IMAGE, "subject": CHILD["digest"]}, "subject"),
    ({**IMAGE, "subject": {**CHILD, "digest": "latest"}}, "subject"),
    ({**IMAGE, "layers": {}}, "layers"),
    ({**IMAGE, "layers": ""}, "layers"),
    ({**IMAGE, "layers": [{**CHILD, "urls": "https://a/b"}]}, "urls"),
    ({**IMAGE, "layers": [{**CHILD, "urls": [1]}]}, "urls"),
    ({**IMAGE, "layers": [{**CHILD, "annotations": {"a": None, "b": {}}}]}, "annotations hold an object for 'b'"),
    ({**IMAGE, "layers": [{**CHILD, "data": 5}]}, "data"),
    (index_with(platform="linux/amd64"), "platform is text"),
    (index_with(platform={"os": "linux", "architecture": 64}), "platform.architecture is a number"),
    (index_with(platform={"os": "windows", "architecture": "amd64", "os.version": 10}), r"platform.os.version"),
    (index_with(platform={"os": "windows", "architecture": "amd64", "os.features": "win32k"}), "os.features"),
    (index_with(artifactType=[]), "artifactType"),
    ({**index_with(), "manifests": 0}, "manifests"),
    ({**index_with(), "manifests": {}}, "manifests"),
])  # fmt: skip
def test_what_no_client_in_go_can_parse_is_refused_with_the_name_of_the_field(document: object, field: str) -> None:
    with pytest.raises(ManifestError, match=field):
        parse_manifest(raw(document))


def test_null_is_as_good_as_nothing_where_go_takes_it_so() -> None:
    empty = {"annotations": None, "platform": None, "urls": None, "artifactType": None, "data": None}
    image = parse_manifest(raw({**IMAGE, "annotations": None, "subject": None, "layers": [{**CHILD, **empty}]}))
    assert image.layers[0].annotations == {}
    assert image.layers[0].platform is None
    assert image.subject is None
    assert parse_manifest(raw({**IMAGE, "layers": None})).layers == ()


def test_an_index_whose_list_is_null_is_empty() -> None:
    index = parse_manifest(raw({"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": None}))
    assert index.is_index
    assert index.children == ()
