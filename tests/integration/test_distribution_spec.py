"""The distribution specification 1.1.1, clause by clause: its categories Pull and Content Discovery.

Every clause is tried at `ocisync serve` over a directory, at `ocisync serve` over S3, and at a bucket that anybody may
read, without any server of ours. What a bucket cannot do is marked, and must fail there. docs/distribution-spec.md is
the table of these tests; a test sees that both say the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from itertools import count
from typing import TypeVar

import pytest
from aiohttp import ClientSession

from ocisync.content.object_store import ObjectStore
from ocisync.maintenance.reconcile import reconcile
from ocisync.maintenance.tags import remove_tags
from ocisync.model import media_types
from ocisync.model.digest import Digest
from ocisync.stores.static import layout
from ocisync.stores.static.options import StaticOptions
from ocisync.stores.static.registry import StaticRegistry
from tests.contract.graphs import Image, described, make_image, make_index, publish_image
from tests.integration.serving import Registry, served, store_at
from tests.integration.static_targets import make_artifact, put
from tests.servers.seaweed import Seaweed, bucket_front

NAME = "library/demo"
TAGS = ["1.0", "1.1", "2.0", "Latest", "latest"]
IMAGE = make_image("demo")
INDEX = make_index(IMAGE, make_image("other platform"))
LAYER, LAYER_BYTES = IMAGE.blobs[1]
ABSENT = Digest("sha256:" + "0" * 64)
CODES = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED",
    "UNSUPPORTED", "TOOMANYREQUESTS",
}  # fmt: skip
_NUMBERS = count()
_Test = TypeVar("_Test", bound=Callable[..., object])


def not_by_plain_s3(test: _Test) -> _Test:
    """A clause that objects in a bucket cannot fulfil by themselves."""
    vars(test)["is_not_by_plain_s3"] = True
    return test


@pytest.fixture(scope="module", params=["directory", "s3", "plain s3"])
async def registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, s3: Seaweed
) -> AsyncIterator[Registry]:
    """One for all tests; those that write take a repository of their own."""
    bucket = s3.bucket()
    place = tmp_path_factory.mktemp("registry") if request.param == "directory" else bucket
    with bucket_front(bucket) if request.param == "plain s3" else nullcontext("") as bucket_url:
        async with store_at(place) as store, _answering(store, bucket_url) as registry:
            await publish_image(StaticRegistry(store).repository(NAME), IMAGE, *TAGS)
            yield registry


@pytest.fixture(autouse=True)
def expected(request: pytest.FixtureRequest) -> None:
    """What plain S3 cannot do must fail there."""
    if request.node.callspec.params["registry"] == "plain s3" and hasattr(request.function, "is_not_by_plain_s3"):
        request.applymarker(pytest.mark.xfail(strict=True, raises=(AssertionError, KeyError), reason="objects cannot"))


@pytest.fixture
async def own(registry: Registry) -> str:
    """A repository of the test's own, with the image under all tags."""
    name = f"own/n{next(_NUMBERS)}"
    await add(registry, name, IMAGE, *TAGS)
    return name


@asynccontextmanager
async def _answering(store: ObjectStore, bucket_url: str) -> AsyncIterator[Registry]:
    if not bucket_url:
        async with served(store) as registry:
            yield registry
        return
    async with ClientSession(auto_decompress=False, skip_auto_headers=("Accept-Encoding",)) as session:
        yield Registry(store, bucket_url, session)


async def add(registry: Registry, name: str, image: Image, *tags: str) -> None:
    """Publish an image."""
    await publish_image(StaticRegistry(registry.store).repository(name), image, *tags)


def entries(document: dict[str, object]) -> list[dict[str, object]]:
    """The descriptors of an index."""
    found = document["manifests"]
    assert isinstance(found, list)
    return found


# Determining Support


async def test_determining_support_is_200(registry: Registry) -> None:
    assert (await registry.ask("/v2/")).status == 200


# Pulling manifests


async def test_pulling_manifests_by_tag_provides_the_expected_manifest(registry: Registry) -> None:
    reply = await registry.ask(f"/v2/{NAME}/manifests/latest")
    assert (reply.status, reply.body) == (200, IMAGE.raw)


async def test_pulling_manifests_by_digest_provides_the_expected_manifest(registry: Registry, own: str) -> None:
    await add(registry, own, INDEX, "index")
    for image in (IMAGE, INDEX, *INDEX.children):
        reply = await registry.ask(f"/v2/{own}/manifests/{image.desc.digest}")
        assert (reply.status, reply.body) == (200, image.raw)


@pytest.mark.parametrize("reference", [".hidden", "-", "a" * 129, "sha256:short", "sha256:" + "F" * 64, "la%20test"])
async def test_pulling_manifests_by_no_other_format_of_reference(registry: Registry, reference: str) -> None:
    assert (await registry.ask(f"/v2/{NAME}/manifests/{reference}")).status in (400, 404)


@pytest.mark.parametrize("name", ["Library/demo", "-library/demo", "library/demo.", "a" * 256])
async def test_pulling_manifests_by_no_name_out_of_grammar(registry: Registry, name: str) -> None:
    assert (await registry.ask(f"/v2/{name}/manifests/latest")).status in (400, 404)


@pytest.mark.parametrize("media_type", sorted(media_types.MANIFESTS))
async def test_pulling_manifests_content_type_is_what_was_pushed_without_parameters(
    registry: Registry, own: str, media_type: str
) -> None:
    document = json.loads(INDEX.raw if media_type in media_types.INDEXES else IMAGE.raw) | {"mediaType": media_type}
    image = Image(json.dumps(document).encode(), media_type, IMAGE.blobs, INDEX.children)
    await add(registry, own, image, "typed")
    for method in ("GET", "HEAD"):
        for reference in ("typed", image.desc.digest):
            reply = await registry.ask(f"/v2/{own}/manifests/{reference}", method)
            assert reply.headers["content-type"] == media_type


@not_by_plain_s3
async def test_pulling_manifests_docker_content_digest_is_the_manifests(registry: Registry) -> None:
    for reference in ("latest", IMAGE.desc.digest):
        reply = await registry.ask(f"/v2/{NAME}/manifests/{reference}")
        assert reply.headers["docker-content-digest"] == described(reply.body).digest


@pytest.mark.parametrize("path", [f"{NAME}/manifests/none", f"{NAME}/manifests/{ABSENT}", "nobody/manifests/latest"])
async def test_pulling_manifests_that_are_not_found_is_404(registry: Registry, path: str) -> None:
    assert (await registry.ask(f"/v2/{path}")).status == 404


# Pulling blobs


async def test_pulling_blobs_provides_the_expected_blob(registry: Registry) -> None:
    for desc, data in IMAGE.blobs:
        reply = await registry.ask(f"/v2/{NAME}/blobs/{desc.digest}")
        assert (reply.status, reply.body) == (200, data)


@not_by_plain_s3
async def test_pulling_blobs_docker_content_digest_is_the_blobs(registry: Registry) -> None:
    reply = await registry.ask(f"/v2/{NAME}/blobs/{LAYER.digest}")
    assert reply.headers["docker-content-digest"] == described(reply.body).digest


@pytest.mark.parametrize("name", [NAME, "nobody"])
async def test_pulling_blobs_that_are_not_found_is_404(registry: Registry, name: str) -> None:
    assert (await registry.ask(f"/v2/{name}/blobs/{ABSENT}")).status == 404


@pytest.mark.parametrize("asked", [(0, 0), (100, 199), (5000, LAYER.size - 1)])
async def test_pulling_blobs_range_is_answered_in_part(registry: Registry, asked: tuple[int, int]) -> None:
    start, end = asked
    reply = await registry.ask(f"/v2/{NAME}/blobs/{LAYER.digest}", Range=f"bytes={start}-{end}")
    assert (reply.status, reply.body) == (206, LAYER_BYTES[start : end + 1])
    assert reply.headers["content-range"] == f"bytes {start}-{end}/{LAYER.size}"


async def test_pulling_blobs_range_beyond_the_end_is_416(registry: Registry) -> None:
    reply = await registry.ask(f"/v2/{NAME}/blobs/{LAYER.digest}", Range=f"bytes={LAYER.size}-")
    assert reply.status == 416


# Checking if content exists in the registry


CONTENT = [("manifests", "latest"), ("manifests", IMAGE.desc.digest), ("blobs", LAYER.digest)]


@pytest.mark.parametrize(("kind", "reference"), CONTENT)
async def test_checking_content_by_head_is_200(registry: Registry, kind: str, reference: str) -> None:
    reply = await registry.ask(f"/v2/{NAME}/{kind}/{reference}", "HEAD")
    assert (reply.status, reply.body) == (200, b"")


@not_by_plain_s3
@pytest.mark.parametrize(("kind", "reference"), CONTENT)
async def test_checking_content_docker_content_digest_is_sent(registry: Registry, kind: str, reference: str) -> None:
    reply = await registry.ask(f"/v2/{NAME}/{kind}/{reference}", "HEAD")
    assert reply.headers["docker-content-digest"] == (LAYER if kind == "blobs" else IMAGE.desc).digest


@pytest.mark.parametrize(("kind", "reference"), CONTENT)
async def test_checking_content_content_length_is_its_size(registry: Registry, kind: str, reference: str) -> None:
    reply = await registry.ask(f"/v2/{NAME}/{kind}/{reference}", "HEAD")
    assert int(reply.headers["content-length"]) == (LAYER if kind == "blobs" else IMAGE.desc).size


@pytest.mark.parametrize("path", ["manifests/none", f"manifests/{ABSENT}", f"blobs/{ABSENT}"])
async def test_checking_content_that_is_not_found_is_404(registry: Registry, path: str) -> None:
    assert (await registry.ask(f"/v2/{NAME}/{path}", "HEAD")).status == 404


# Listing Tags


async def test_listing_tags_of_a_repository_is_200_with_name_and_tags(registry: Registry) -> None:
    reply = await registry.ask(f"/v2/{NAME}/tags/list")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json() == {"name": NAME, "tags": TAGS}


async def test_listing_tags_may_be_empty(registry: Registry, own: str) -> None:
    await remove_tags(StaticRegistry(registry.store).audit().repository(own), TAGS)
    reply = await registry.ask(f"/v2/{own}/tags/list")
    assert (reply.status, reply.json()["tags"]) == (200, [])


async def test_listing_tags_is_in_lexical_order(registry: Registry, own: str) -> None:
    for tag in ("b", "a.b", "a-b", "a_b", "10", "9", "_"):
        await add(registry, own, IMAGE, tag)
    found = (await registry.ask(f"/v2/{own}/tags/list")).json()["tags"]
    assert found == sorted([*TAGS, "b", "a.b", "a-b", "a_b", "10", "9", "_"])


async def test_listing_tags_of_an_absent_repository_is_404(registry: Registry) -> None:
    assert (await registry.ask("/v2/nobody/tags/list")).status == 404


@not_by_plain_s3
@pytest.mark.parametrize("n", [1, 3, 4])
async def test_listing_tags_n_gives_so_many_from_the_beginning(registry: Registry, n: int) -> None:
    assert (await registry.ask(f"/v2/{NAME}/tags/list?n={n}")).json()["tags"] == TAGS[:n]


async def test_listing_tags_n_beyond_their_number_gives_all_without_link(registry: Registry) -> None:
    reply = await registry.ask(f"/v2/{NAME}/tags/list?n=100")
    assert (reply.json()["tags"], "link" in reply.headers) == (TAGS, False)


@not_by_plain_s3
async def test_listing_tags_link_leads_to_the_next_ones(registry: Registry) -> None:
    found, path = [], f"/v2/{NAME}/tags/list?n=2"
    while path:
        reply = await registry.ask(path)
        tags = reply.json()["tags"]
        assert isinstance(tags, list)
        found.append(tags)
        link = re.fullmatch(r'<(?P<path>/v2/[^>]+)>; rel="next"', reply.headers.get("link", ""))
        path = link["path"] if link else ""
    assert found == [TAGS[:2], TAGS[2:4], TAGS[4:]]


@not_by_plain_s3
async def test_listing_tags_n_of_zero_is_an_empty_list_without_link(registry: Registry) -> None:
    reply = await registry.ask(f"/v2/{NAME}/tags/list?n=0")
    assert (reply.status, reply.json()["tags"], "link" in reply.headers) == (200, [], False)


@not_by_plain_s3
async def test_listing_tags_last_begins_after_it(registry: Registry) -> None:
    reply = await registry.ask(f"/v2/{NAME}/tags/list?n=2&last=1.1")
    assert reply.json()["tags"] == ["2.0", "Latest"]


@not_by_plain_s3
async def test_listing_tags_last_is_a_tag_and_no_index(registry: Registry) -> None:
    assert (await registry.ask(f"/v2/{NAME}/tags/list?n=9&last=1")).json()["tags"] == TAGS
    assert (await registry.ask(f"/v2/{NAME}/tags/list?n=9&last=3")).json()["tags"] == ["Latest", "latest"]


@not_by_plain_s3
async def test_listing_tags_last_needs_no_n(registry: Registry, own: str) -> None:
    assert (await registry.ask(f"/v2/{own}/tags/list?last=2.0")).json()["tags"] == ["Latest", "latest"]


# Listing Referrers


NOTE = make_artifact(IMAGE.desc.digest, "first", artifact_type="application/x.sbom")
SIGNATURE = make_artifact(IMAGE.desc.digest, "second", artifact_type="")
SUBJECT = {"mediaType": IMAGE.media_type, "digest": IMAGE.desc.digest, "size": len(IMAGE.raw)}
ANNOTATED = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [], "subject": SUBJECT}
REFERRING_INDEX = Image(
    json.dumps({**ANNOTATED, "annotations": {"made": "by hand"}}).encode(), media_types.OCI_INDEX
)  # fmt: skip


def path_of(name: str) -> str:
    """Where the list of the image's referrers is."""
    return f"/v2/{name}/referrers/{IMAGE.desc.digest}"


async def referring(registry: Registry, own: str) -> dict[str, dict[str, object]]:
    """Publish what refers to the image; what its list says of each, by digest."""
    for number, image in enumerate((NOTE, SIGNATURE, REFERRING_INDEX)):
        await add(registry, own, image, f"note-{number}")
    reply = await registry.ask(path_of(own))
    assert reply.status == 200
    return {str(one["digest"]): one for one in entries(reply.json())}


async def test_listing_referrers_of_a_repository_is_200(registry: Registry, own: str) -> None:
    await add(registry, own, INDEX, "index")
    for image in (IMAGE, INDEX, *INDEX.children):
        assert (await registry.ask(f"/v2/{own}/referrers/{image.desc.digest}")).status == 200


@not_by_plain_s3
async def test_listing_referrers_is_never_404_where_it_is_supported(registry: Registry) -> None:
    reply = await registry.ask(f"/v2/{NAME}/referrers/{ABSENT}")
    assert reply.status == 200
    assert entries(reply.json()) == []


@not_by_plain_s3
async def test_listing_referrers_of_an_invalid_digest_is_400(registry: Registry) -> None:
    for digest in ("sha256:short", "latest", "md5:" + "0" * 32):
        assert (await registry.ask(f"/v2/{NAME}/referrers/{digest}")).status == 400


async def test_listing_referrers_is_an_image_index(registry: Registry, own: str) -> None:
    await referring(registry, own)
    reply = await registry.ask(path_of(own))
    assert reply.headers["content-type"] == media_types.OCI_INDEX
    document = reply.json()
    assert (document["schemaVersion"], document["mediaType"]) == (2, media_types.OCI_INDEX)


async def test_listing_referrers_names_manifests_whose_subject_it_is(registry: Registry, own: str) -> None:
    found = await referring(registry, own)
    assert found.keys() == {image.desc.digest for image in (NOTE, SIGNATURE, REFERRING_INDEX)}
    for digest, entry in found.items():
        reply = await registry.ask(f"/v2/{own}/manifests/{digest}")
        assert (reply.status, len(reply.body), reply.headers["content-type"]) == (
            200,
            entry["size"],
            entry["mediaType"],
        )
        subject = reply.json()["subject"]
        assert isinstance(subject, dict)
        assert subject["digest"] == IMAGE.desc.digest


async def test_listing_referrers_artifact_type_is_the_manifests(registry: Registry, own: str) -> None:
    assert (await referring(registry, own))[NOTE.desc.digest]["artifactType"] == "application/x.sbom"


async def test_listing_referrers_artifact_type_is_else_that_of_the_config(registry: Registry, own: str) -> None:
    assert (await referring(registry, own))[SIGNATURE.desc.digest]["artifactType"] == media_types.OCI_EMPTY


async def test_listing_referrers_artifact_type_of_an_index_without_one_is_omitted(registry: Registry, own: str) -> None:
    assert "artifactType" not in (await referring(registry, own))[REFERRING_INDEX.desc.digest]


async def test_listing_referrers_includes_annotations(registry: Registry, own: str) -> None:
    found = await referring(registry, own)
    assert found[NOTE.desc.digest]["annotations"] == {"note": "first"}
    assert found[REFERRING_INDEX.desc.digest]["annotations"] == {"made": "by hand"}


async def test_listing_referrers_without_any_is_an_empty_list(registry: Registry, own: str) -> None:
    reply = await registry.ask(path_of(own))
    assert (reply.status, entries(reply.json())) == (200, [])


@not_by_plain_s3
async def test_listing_referrers_link_leads_on_when_one_manifest_cannot_hold_them(registry: Registry, own: str) -> None:
    wanted = [described(str(number).encode()).digest for number in range(3000)]
    annotations = {"note": "x" * 2000}
    listed = [{"mediaType": IMAGE.media_type, "digest": one, "size": 1, "annotations": annotations} for one in wanted]
    body = json.dumps({**ANNOTATED, "manifests": listed}).encode()
    await put(registry.store, layout.referrers_key(own, IMAGE.desc.digest), body, media_types.OCI_INDEX)
    found, pages, path = [], 0, path_of(own)
    while path:
        reply = await registry.ask(path)
        assert (reply.status, reply.headers["content-type"]) == (200, media_types.OCI_INDEX)
        assert len(reply.body) <= 4 * 1024 * 1024
        found += [str(one["digest"]) for one in entries(reply.json())]
        link = re.fullmatch(r'<(?P<path>/v2/[^>]+)>; rel="next"', reply.headers.get("link", ""))
        path, pages = link["path"] if link else "", pages + 1
    assert (sorted(found), pages) == (sorted(wanted), 2)


@not_by_plain_s3
async def test_listing_referrers_filter_is_applied_and_said(registry: Registry, own: str) -> None:
    await referring(registry, own)
    reply = await registry.ask(f"{path_of(own)}?artifactType=application/x.sbom")
    assert [one["digest"] for one in entries(reply.json())] == [NOTE.desc.digest]
    assert reply.headers["oci-filters-applied"] == "artifactType"
    reply = await registry.ask(f"{path_of(own)}?artifactType=application/x.other")
    assert (reply.status, entries(reply.json())) == (200, [])


async def test_listing_referrers_filter_that_is_not_applied_is_not_said(registry: Registry, own: str) -> None:
    await referring(registry, own)
    assert "oci-filters-applied" not in (await registry.ask(path_of(own))).headers
    reply = await registry.ask(f"{path_of(own)}?artifactType=application/x.sbom")
    assert ("oci-filters-applied" in reply.headers) == (len(entries(reply.json())) == 1)


# Referrers Tag Schema


async def test_referrers_tag_schema_tag_is_an_image_index(registry: Registry, own: str) -> None:
    fallback = Image(json.dumps({**ANNOTATED, "manifests": []}).encode(), media_types.OCI_INDEX)
    tag = IMAGE.desc.digest.replace(":", "-")
    await add(registry, own, fallback, tag)
    reply = await registry.ask(f"/v2/{own}/manifests/{tag}")
    assert (reply.status, reply.headers["content-type"]) == (200, media_types.OCI_INDEX)


# Enabling the Referrers API


async def test_enabling_the_referrers_api_includes_manifests_of_the_tag_schema(registry: Registry, own: str) -> None:
    before = StaticRegistry(registry.store, options=StaticOptions(referrers=False))
    listed = {"mediaType": NOTE.media_type, "digest": NOTE.desc.digest, "size": len(NOTE.raw)}
    body = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": [listed]}
    fallback = Image(json.dumps(body).encode(), media_types.OCI_INDEX, children=(NOTE,))
    await publish_image(before.repository(own), fallback, IMAGE.desc.digest.replace(":", "-"))
    assert entries((await registry.ask(path_of(own))).json()) == []
    await reconcile(StaticRegistry(registry.store).audit())
    assert [one["digest"] for one in entries((await registry.ask(path_of(own))).json())] == [NOTE.desc.digest]


async def test_enabling_the_referrers_api_includes_what_is_newly_pushed(registry: Registry, own: str) -> None:
    await add(registry, own, NOTE, "note")
    assert [one["digest"] for one in entries((await registry.ask(path_of(own))).json())] == [NOTE.desc.digest]


# Error Codes


FAILING = [
    "nothing", f"{NAME}/manifests/none", f"{NAME}/manifests/sha256:short", f"{NAME}/blobs/{ABSENT}", f"{NAME}/blobs/x",
    f"{NAME}/referrers/x", "nobody/tags/list", "A/tags/list", f"{NAME}/tags/list?n=-1", f"{NAME}/blobs/{LAYER.digest}",
]  # fmt: skip


@pytest.mark.parametrize("path", FAILING)
async def test_error_codes_in_json_are_of_the_specifications_form(registry: Registry, path: str) -> None:
    reply = await registry.ask(f"/v2/{path}", Range="bytes=1000000-")
    assert 400 <= reply.status < 500 or "?" in path, "plain S3 knows no queries"
    if reply.status >= 400 and "json" in reply.headers.get("content-type", ""):
        errors = json.loads(reply.body)["errors"]
        assert {one["code"] for one in errors} <= CODES
        assert all(isinstance(one["message"], str) for one in errors)
