"""Paths to endpoints."""

import pytest

from ocisync.serve.errors import ApiError, ErrorCode
from ocisync.serve.routes import Endpoint, EndpointKind, parse_path

SHA = "sha256:" + "a" * 64
SHA512 = "sha512:" + "b" * 128


@pytest.mark.parametrize(
    ("path", "endpoint"),
    [
        ("/v2", Endpoint(EndpointKind.BASE)),
        ("/v2/", Endpoint(EndpointKind.BASE)),
        ("/v2/_catalog", Endpoint(EndpointKind.CATALOG)),
        ("/v2/a/b-c/tags/list", Endpoint(EndpointKind.TAGS, "a/b-c", "list")),
        ("/v2/alpine/manifests/3.20", Endpoint(EndpointKind.MANIFEST, "alpine", "3.20")),
        (f"/v2/a/manifests/{SHA}", Endpoint(EndpointKind.MANIFEST, "a", SHA)),
        (f"/v2/a/blobs/{SHA512}", Endpoint(EndpointKind.BLOB, "a", SHA512)),
        (f"/v2/a/blobs/{SHA.replace(':', '%3A')}", Endpoint(EndpointKind.BLOB, "a", SHA)),
        (f"/v2/a/referrers/{SHA}", Endpoint(EndpointKind.REFERRERS, "a", SHA)),
    ],
)
def test_a_path_names_one_endpoint(path: str, endpoint: Endpoint) -> None:
    assert parse_path(path) == endpoint


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/v2/_catalog", "v2/_catalog"),
        ("/v2/a/b/tags/list", "v2/a/b/tags/list"),
        ("/v2/a/manifests/1", "v2/a/manifests/1"),
        (f"/v2/a/blobs/{SHA.replace(':', '%3A')}", f"v2/a/blobs/{SHA}"),
    ],
)
def test_the_key_is_where_the_layout_puts_it(path: str, key: str) -> None:
    assert parse_path(path).key == key


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/x", 404, ErrorCode.UNSUPPORTED),
        ("/v2/a/b/c", 404, ErrorCode.UNSUPPORTED),
        ("/v2/a/tags/other", 404, ErrorCode.UNSUPPORTED),
        ("/v2/a/blobs/uploads/", 404, ErrorCode.UNSUPPORTED),
        ("/v2/a/manifests/.INVALID", 404, ErrorCode.MANIFEST_UNKNOWN),
        ("/v2/a/manifests/" + "t" * 129, 404, ErrorCode.MANIFEST_UNKNOWN),
        ("/v2/a/manifests/", 404, ErrorCode.MANIFEST_UNKNOWN),
        ("/v2/a/manifests/sha256:abc", 400, ErrorCode.DIGEST_INVALID),
        (f"/v2/a/manifests/{SHA.upper()}", 400, ErrorCode.DIGEST_INVALID),
        ("/v2/a/blobs/latest", 400, ErrorCode.DIGEST_INVALID),
        ("/v2/a/referrers/latest", 400, ErrorCode.DIGEST_INVALID),
        ("/v2/A/tags/list", 400, ErrorCode.NAME_INVALID),
        ("/v2/../tags/list", 400, ErrorCode.NAME_INVALID),
        ("/v2/%2e%2e/tags/list", 400, ErrorCode.NAME_INVALID),
        ("/v2/a%2fb/tags/list", 400, ErrorCode.NAME_INVALID),
        ("/v2/a%00/tags/list", 400, ErrorCode.NAME_INVALID),
        ("/v2/a%0a/tags/list", 400, ErrorCode.NAME_INVALID),
        ("/v2/a%ff/tags/list", 400, ErrorCode.NAME_INVALID),
        ("/v2//tags/list", 400, ErrorCode.NAME_INVALID),
        ("/v2/a/manifests/b/tags/list", 400, ErrorCode.NAME_INVALID),
        ("/v2/" + "a" * 256 + "/tags/list", 400, ErrorCode.NAME_INVALID),
        ("/v2/" + "a" * 10_000 + "/tags/list", 400, ErrorCode.NAME_INVALID),
        ("/v2/a/manifests/..%2f..%2fetc%2fpasswd", 400, ErrorCode.NAME_INVALID),
    ],
)
def test_what_breaks_the_grammar_is_refused_before_a_key_is_built(path: str, status: int, code: ErrorCode) -> None:
    with pytest.raises(ApiError) as refusal:
        parse_path(path)
    assert (refusal.value.status, refusal.value.code) == (status, code)
