"""The keys and bytes of a static registry."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocisync.errors import InvalidName
from ocisync.model import media_types
from ocisync.model.descriptor import describe
from ocisync.model.digest import sha256
from ocisync.stores.static import layout

DIGEST = sha256(b"content")
INDEX = json.dumps({"schemaVersion": 2, "mediaType": media_types.DOCKER_LIST, "manifests": []}).encode()


def test_keys() -> None:
    assert layout.manifest_key("a/b", "3.1") == "v2/a/b/manifests/3.1"
    assert layout.manifest_key("a", DIGEST) == f"v2/a/manifests/{DIGEST}"
    assert layout.blob_key("a", DIGEST) == f"v2/a/blobs/{DIGEST}"
    assert layout.tags_key("a") == "v2/a/tags/list"
    assert layout.referrers_key("a", DIGEST) == f"v2/a/referrers/{DIGEST}"


def test_content_lies_where_its_type_says() -> None:
    image, blob = describe(b"{}", media_types.OCI_MANIFEST), describe(b"{}", media_types.OCI_CONFIG)
    assert layout.content_key("a", image) == f"v2/a/manifests/{image.digest}"
    assert layout.content_key("a", blob) == f"v2/a/blobs/{blob.digest}"
    assert layout.content_headers(image).content_type == media_types.OCI_MANIFEST
    assert layout.content_headers(blob).content_type == "application/octet-stream"
    assert layout.content_headers(blob).cache_control == "public, max-age=31536000, immutable"
    assert layout.tag_headers(image).cache_control == "no-cache"


@pytest.mark.parametrize(
    "name",
    [
        "manifests", "a/manifests/b", "a/blobs", "tags/a", "a/referrers", "_catalog", "_catalog/a", "index.html",
        "index.html/a", "", "../x", "a/../b", "/a", "a/", "a//b", "A", "a" * 256, "a\n", ".ocisync",
    ],
)  # fmt: skip
def test_fault_76_names_that_break_the_grammar_or_collide(name: str) -> None:
    with pytest.raises(InvalidName):
        layout.tags_key(name)


@pytest.mark.parametrize("reference", ["../x", "sha256:../../x", "sha256:" + "A" * 64, "", ".a", "a" * 129, "a/b"])
def test_fault_31_references_are_refused_before_a_key_is_built(reference: str) -> None:
    with pytest.raises(InvalidName):
        layout.manifest_key("a", reference)


def test_a_component_may_be_named_index_html_further_in() -> None:
    assert layout.tags_key("a/index.html") == "v2/a/index.html/tags/list"


@pytest.mark.parametrize(
    "key",
    [
        "v2/", "v2/index.html", "v2/_catalog", "v2/a", "v2/manifests/x", "x/v2/a/manifests/b", "v2/a/manifests/",
        "v2/a/blobs/latest", "v2/a/tags/lists", "v2/a/manifests/sha256:12", ".ocisync/tmp/a/manifests/b",
    ],
)  # fmt: skip
def test_other_keys_are_no_part_of_a_repository(key: str) -> None:
    assert layout.parse_key(key) is None


@given(
    st.from_regex(r"\A[a-z0-9]{1,5}([._-][a-z0-9]{1,5})?(/[a-z0-9]{1,5}){0,3}\Z"),
    st.from_regex(r"\A[A-Za-z0-9_][A-Za-z0-9._-]{0,20}\Z"),
)
def test_keys_are_read_back(name: str, tag: str) -> None:
    tagged, digested = layout.manifest_key(name, tag), layout.blob_key(name, DIGEST)
    assert layout.parse_key(tagged) == layout.Key(name, "manifests", tag)
    assert layout.parse_key(digested) == layout.Key(name, "blobs", DIGEST)
    assert str(layout.parse_key(tagged)) == tagged


def test_content_types() -> None:
    assert layout.content_type_of("v2/") == layout.content_type_of("v2/index.html") == "application/json"
    assert layout.content_type_of("v2/a/tags/list") == "application/json"
    assert layout.content_type_of(f"v2/a/referrers/{DIGEST}") == media_types.OCI_INDEX
    assert layout.content_type_of("v2/a/manifests/b", INDEX) == media_types.DOCKER_LIST
    assert layout.content_type_of("v2/a/manifests/b", b"garbage") == ""
    assert layout.content_type_of("somewhere/else") == ""


def test_the_list_of_tags_is_compact_and_in_lexical_order() -> None:
    assert layout.tags_list_body("a/b", {"b", "B", "10", "9", "_"}) == b'{"name":"a/b","tags":["10","9","B","_","b"]}'
