"""What `serve` does beyond the specification's clauses (test_distribution_spec): caching, damage, hostile paths."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ocisync.content.object_store import ObjectHeaders
from ocisync.model import media_types
from ocisync.model.descriptor import describe
from ocisync.model.digest import Digest, sha256
from ocisync.stores.static import layout
from tests.integration.serving import Image, Registry, publish, push, put, raw_request, served, store_at
from tests.servers.seaweed import Bucket

NAME = "library/demo"
ABSENT = Digest("sha256:" + "0" * 64)
LAYER = bytes(range(256)) * 40


@pytest.fixture(params=["directory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | Bucket:
    """Where the registry lies."""
    if request.param == "directory":
        return tmp_path / "registry"
    bucket = request.getfixturevalue("bucket")
    assert isinstance(bucket, Bucket)
    return bucket


@pytest.fixture
async def registry(place: Path | Bucket) -> AsyncIterator[Registry]:
    async with store_at(place) as store, served(store) as registry:
        yield registry


@pytest.fixture
async def image(registry: Registry) -> Image:
    return await publish(registry.store, NAME, "1.0", "1.1", "2.0", "latest", layer=LAYER)


# end-1: the API


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_determining_support_is_200(registry: Registry, path: str, method: str) -> None:
    reply = await registry.ask(path, method)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["docker-distribution-api-version"] == "registry/2.0"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.body == (b"{}" if method == "GET" else b"")


# end-3: pulling manifests


async def test_get_of_an_existing_manifest_by_tag_is_200_with_the_expected_manifest(
    registry: Registry, image: Image
) -> None:
    reply = await registry.ask(f"/v2/{NAME}/manifests/latest")
    assert (reply.status, reply.body) == (200, image.manifest.data)
    assert reply.headers["cache-control"] == "no-cache"


async def test_get_of_an_existing_manifest_by_digest_is_200_with_the_expected_manifest(
    registry: Registry, image: Image
) -> None:
    reply = await registry.ask(f"/v2/{NAME}/manifests/{image.manifest.digest}")
    assert (reply.status, reply.body) == (200, image.manifest.data)
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_content_type_without_a_media_type_field_is_told_by_the_body(registry: Registry) -> None:
    desc = describe(b'{"schemaVersion":2,"manifests":[]}', media_types.OCI_INDEX)
    await push(registry.store, NAME, desc)
    reply = await registry.ask(f"/v2/{NAME}/manifests/{desc.digest}")
    assert reply.headers["content-type"] == media_types.OCI_INDEX


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("kind", ["tag", "digest"])
async def test_docker_content_digest_is_the_digest_of_the_manifest(
    registry: Registry, image: Image, method: str, kind: str
) -> None:
    reference = "latest" if kind == "tag" else image.manifest.digest
    reply = await registry.ask(f"/v2/{NAME}/manifests/{reference}", method)
    assert reply.headers["docker-content-digest"] == image.manifest.digest
    assert reply.headers["etag"] == f'"{image.manifest.digest}"'


async def test_sha512_names_manifests_too(registry: Registry) -> None:
    import hashlib

    data = b'{"schemaVersion":2,"manifests":[]}'
    digest = "sha512:" + hashlib.sha512(data).hexdigest()
    await put(registry.store, f"v2/{NAME}/manifests/{digest}", data, ObjectHeaders(media_types.OCI_INDEX))
    reply = await registry.ask(f"/v2/{NAME}/manifests/{digest}")
    assert (reply.status, reply.headers["docker-content-digest"]) == (200, digest)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", [f"{NAME}/manifests/none", f"{NAME}/manifests/{ABSENT}", "nobody/manifests/latest"])
async def test_a_manifest_that_is_not_found_is_404(registry: Registry, image: Image, method: str, path: str) -> None:
    reply = await registry.ask(f"/v2/{path}", method)
    assert reply.status == 404
    assert method == "HEAD" or reply.error() == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_if_none_match_of_an_unchanged_tag_is_304(registry: Registry, image: Image, method: str) -> None:
    path = f"/v2/{NAME}/manifests/latest"
    same = await registry.ask(path, method, If_None_Match=f'"{image.manifest.digest}"')
    other = await registry.ask(path, method, If_None_Match=f'"{ABSENT}"')
    assert (same.status, same.body, other.status) == (304, b"", 200)
    assert same.headers["docker-content-digest"] == image.manifest.digest


async def test_a_moved_tag_is_seen_at_once(registry: Registry, image: Image) -> None:
    before = await registry.ask(f"/v2/{NAME}/manifests/latest", "HEAD")
    moved = await publish(registry.store, NAME, "latest", layer=b"another layer")
    after = await registry.ask(f"/v2/{NAME}/manifests/latest", "HEAD", If_None_Match=before.headers["etag"])
    assert (after.status, after.headers["docker-content-digest"]) == (200, moved.manifest.digest)


async def test_a_corrupt_manifest_is_never_given_out_under_a_digest(registry: Registry, image: Image) -> None:
    await put(registry.store, layout.manifest_key(NAME, image.manifest.digest), b'{"schemaVersion":2,"manifests":[]}')
    reply = await registry.ask(f"/v2/{NAME}/manifests/{image.manifest.digest}")
    assert (reply.status, reply.error()) == (500, "MANIFEST_INVALID")


async def test_a_manifest_over_four_mebibytes_is_refused(registry: Registry) -> None:
    await put(registry.store, layout.manifest_key(NAME, "huge"), b" " * (4 * 1024 * 1024 + 1))
    reply = await registry.ask(f"/v2/{NAME}/manifests/huge")
    assert (reply.status, reply.error()) == (500, "MANIFEST_INVALID")


# end-2: pulling blobs


async def test_get_of_an_existing_blob_is_200_with_the_expected_blob(registry: Registry, image: Image) -> None:
    reply = await registry.ask(f"/v2/{NAME}/blobs/{image.layer.digest}")
    assert (reply.status, reply.body) == (200, LAYER)
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["docker-content-digest"] == image.layer.digest
    assert reply.headers["etag"] == f'"{image.layer.digest}"'
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_an_encoded_colon_means_the_same(registry: Registry, image: Image) -> None:
    reply = await registry.ask(f"/v2/{NAME}/blobs/{image.layer.digest.replace(':', '%3A')}")
    assert (reply.status, reply.body) == (200, LAYER)


async def test_head_of_a_blob_has_its_length_and_no_body(registry: Registry, image: Image) -> None:
    reply = await registry.ask(f"/v2/{NAME}/blobs/{image.layer.digest}", "HEAD", Range="bytes=0-1")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["content-length"]) == len(LAYER)
    assert reply.headers["docker-content-digest"] == image.layer.digest


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", [NAME, "nobody"])
async def test_a_blob_that_is_not_found_is_404(registry: Registry, image: Image, method: str, name: str) -> None:
    reply = await registry.ask(f"/v2/{name}/blobs/{ABSENT}", method, Range="bytes=0-1", If_None_Match=f'"{ABSENT}"')
    assert reply.status == 404
    assert method == "HEAD" or reply.error() == "BLOB_UNKNOWN"


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-0", 0, 0), ("bytes=100-199", 100, 199), ("bytes=10000-", 10000, 10239), ("bytes=-40", 10200, 10239)],
)
async def test_a_range_of_a_blob_is_206(registry: Registry, image: Image, asked: str, start: int, end: int) -> None:
    reply = await registry.ask(f"/v2/{NAME}/blobs/{image.layer.digest}", Range=asked)
    assert (reply.status, reply.body) == (206, LAYER[start : end + 1])
    assert reply.headers["content-range"] == f"bytes {start}-{end}/{len(LAYER)}"
    assert int(reply.headers["content-length"]) == end - start + 1


async def test_a_range_beyond_the_end_of_a_blob_is_416(registry: Registry, image: Image) -> None:
    reply = await registry.ask(f"/v2/{NAME}/blobs/{image.layer.digest}", Range=f"bytes={len(LAYER)}-")
    assert (reply.status, reply.error()) == (416, "SIZE_INVALID")
    assert reply.headers["content-range"] == f"bytes */{len(LAYER)}"


async def test_if_range_with_another_etag_gives_the_whole_blob(registry: Registry, image: Image) -> None:
    path = f"/v2/{NAME}/blobs/{image.layer.digest}"
    same = await registry.ask(path, Range="bytes=0-1", If_Range=f'"{image.layer.digest}"')
    other = await registry.ask(path, Range="bytes=0-1", If_Range='"other"')
    assert (same.status, other.status, other.body) == (206, 200, LAYER)


async def test_if_none_match_of_a_blob_is_304(registry: Registry, image: Image) -> None:
    reply = await registry.ask(f"/v2/{NAME}/blobs/{image.layer.digest}", If_None_Match=f'"{image.layer.digest}"')
    assert (reply.status, reply.body) == (304, b"")


async def test_an_empty_blob_can_be_pulled(registry: Registry) -> None:
    empty = describe(b"", media_types.OCI_LAYER)
    await push(registry.store, NAME, empty)
    reply = await registry.ask(f"/v2/{NAME}/blobs/{empty.digest}")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")


# end-8: listing tags


async def test_the_list_of_tags_is_200_in_lexical_order(registry: Registry, image: Image) -> None:
    newest_first = b'{"name":"library/demo","tags":["latest","2.0","1.1","1.0"]}'
    await put(registry.store, layout.tags_key(NAME), newest_first)
    reply = await registry.ask(f"/v2/{NAME}/tags/list")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json() == {"name": NAME, "tags": ["1.0", "1.1", "2.0", "latest"]}
    assert "link" not in reply.headers


@pytest.mark.parametrize("stored", [b"", b"no JSON", b"[]", b'{"name":"x"}', b'{"tags":7}'])
async def test_a_list_of_tags_that_is_useless_is_derived(registry: Registry, image: Image, stored: bytes) -> None:
    await put(registry.store, layout.tags_key(NAME), stored)
    reply = await registry.ask(f"/v2/{NAME}/tags/list")
    assert reply.json()["tags"] == ["1.0", "1.1", "2.0", "latest"]


async def test_a_list_of_tags_that_is_absent_is_derived(registry: Registry, image: Image) -> None:
    await registry.store.delete([layout.tags_key(NAME)])
    reply = await registry.ask(f"/v2/{NAME}/tags/list")
    assert reply.json()["tags"] == ["1.0", "1.1", "2.0", "latest"]


async def test_the_list_of_tags_of_an_absent_repository_is_404(registry: Registry, image: Image) -> None:
    reply = await registry.ask("/v2/library/tags/list")
    assert (reply.status, reply.error()) == (404, "MANIFEST_UNKNOWN")


async def test_n_that_is_no_number_is_400(registry: Registry, image: Image) -> None:
    reply = await registry.ask(f"/v2/{NAME}/tags/list?n=-1")
    assert (reply.status, reply.error()) == (400, "UNSUPPORTED")


async def test_an_unchanged_list_of_tags_is_304(registry: Registry, image: Image) -> None:
    first = await registry.ask(f"/v2/{NAME}/tags/list")
    again = await registry.ask(f"/v2/{NAME}/tags/list", If_None_Match=first.headers["etag"])
    page = await registry.ask(f"/v2/{NAME}/tags/list?n=1", If_None_Match=first.headers["etag"])
    assert (again.status, again.body, page.status) == (304, b"", 200)


# _catalog


async def test_the_catalog_is_paged_when_it_is_kept(registry: Registry) -> None:
    await put(registry.store, layout.CATALOG_KEY, b'{"repositories":["c","a/b","a"]}')
    first = await registry.ask("/v2/_catalog?n=2")
    assert first.json() == {"repositories": ["a", "a/b"]}
    assert first.headers["link"] == '</v2/_catalog?n=2&last=a/b>; rel="next"'
    second = await registry.ask("/v2/_catalog?n=2&last=a/b")
    assert second.json() == {"repositories": ["c"]}


async def test_a_catalog_that_is_not_kept_is_404(registry: Registry, image: Image) -> None:
    reply = await registry.ask("/v2/_catalog")
    assert (reply.status, reply.error()) == (404, "UNSUPPORTED")


# end-12: listing referrers


async def test_referrers_that_are_not_kept_are_404_so_that_clients_use_the_fallback_tag(
    registry: Registry, image: Image
) -> None:
    reply = await registry.ask(f"/v2/{NAME}/referrers/{image.manifest.digest}")
    assert (reply.status, reply.error()) == (404, "MANIFEST_UNKNOWN")


async def test_referrers_of_an_invalid_digest_are_400(registry: Registry, image: Image) -> None:
    reply = await registry.ask(f"/v2/{NAME}/referrers/sha256:short")
    assert (reply.status, reply.error()) == (400, "DIGEST_INVALID")


# Error codes, and what a read-only registry refuses


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{NAME}/blobs/uploads/"),
        ("PUT", f"{NAME}/manifests/latest"),
        ("PATCH", f"{NAME}/blobs/uploads/1"),
        ("DELETE", f"{NAME}/manifests/latest"),
        ("DELETE", f"{NAME}/blobs/{ABSENT}"),
    ],
)
async def test_writes_are_405_unsupported(registry: Registry, image: Image, method: str, path: str) -> None:
    reply = await registry.ask(f"/v2/{path}", method)
    assert (reply.status, reply.error()) == (405, "UNSUPPORTED")
    assert reply.headers["allow"] == "GET, HEAD"
    assert (await registry.ask(f"/v2/{NAME}/manifests/latest")).status == 200


HOSTILE = [
    "/v2/../../secret",
    "/v2/%2e%2e/%2e%2e/secret",
    "/v2/..%2f..%2fsecret/manifests/latest",
    "/v2/a/manifests/..%2f..%2f..%2f..%2fsecret",
    "/v2/a/blobs/..%2f..%2f..%2f..%2fsecret",
    "/v2/a/../../../secret",
    "/v2//secret/manifests/latest",
    "/v2/a%00/manifests/latest",
    "/v2/a/manifests/latest%00",
    "/v2/.ocisync/tmp/manifests/latest",
    "/v2/a\\..\\secret/manifests/latest",
    "/v2/" + "a" * 10_000 + "/manifests/latest",
    "/v2/" + "a/" * 2_000 + "manifests/latest",
    "/v2/a/manifests/b/tags/list",
]


@pytest.mark.parametrize("place", ["directory"], indirect=True)
@pytest.mark.parametrize("path", HOSTILE)
async def test_fault_76_hostile_paths_are_refused_and_never_leave_the_root(
    registry: Registry, image: Image, tmp_path: Path, path: str
) -> None:
    (tmp_path / "secret").write_text("the secret")
    answer = await raw_request(registry.url, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ", 2)[1].startswith(b"4")
    assert b"the secret" not in answer


@pytest.mark.parametrize("place", ["directory"], indirect=True)
async def test_fault_76_a_link_out_of_the_root_is_not_followed(
    registry: Registry, image: Image, tmp_path: Path, place: Path | Bucket
) -> None:
    assert isinstance(place, Path)
    secret = tmp_path / "secret"
    secret.write_bytes(b"the secret")
    digest = sha256(b"the secret")
    (place / layout.blob_key(NAME, digest)).symlink_to(secret)
    reply = await registry.ask(f"/v2/{NAME}/blobs/{digest}")
    assert reply.status >= 400
    assert b"the secret" not in reply.body
