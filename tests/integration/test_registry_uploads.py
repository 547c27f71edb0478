"""Uploads as registries want them: any 2xx, redirects, least chunks, the Range of an answer, PATCH, lost commits."""

import json
from dataclasses import dataclass, replace

import pytest
from aiohttp import web

from ocisync.content.openers import BytesOpener
from ocisync.errors import OcisyncError, RedirectRefused, RegistryError, UnsupportedManifest
from ocisync.model import media_types
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import Digest, sha256
from tests.integration.registries import NAME, QUICK, blob_desc, repository_at
from tests.integration.test_registry_push import stored
from tests.servers import faults, images
from tests.servers.docker_registry import DockerRegistry
from tests.servers.fault_proxy import FaultProxy, fault_proxy
from tests.servers.simulated import Reply, Simulated, error
from tests.servers.simulated_kinds import simulated

pytestmark = pytest.mark.usefixtures("other_engine")

MIB = 1 << 20
UPLOADS = f"/v2/{NAME}/blobs/uploads/"
SMALL = b"a small layer"
LARGE = images.noise(5 * MIB + 17, "large")
INDEX = images.make_index([])
ROOT = Descriptor(INDEX.media_type, Digest(INDEX.digest), len(INDEX.manifest), data=INDEX.manifest)


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_any_2xx_means_stored(status: int) -> None:
    with simulated("the specification", Choosy) as registry:
        registry.stored = status
        async with repository_at(registry.host) as repository:
            await repository.push(blob_desc(SMALL), BytesOpener(SMALL))
            await repository.publish({"1": ROOT})
        assert registry.blobs[sha256(SMALL)] == SMALL
        assert [one.status for one in registry.asked if one.method == "PUT"] == [status, status]


@dataclass
class Answer(faults.Action):
    """The registry does as it is told, and another status comes back."""

    status: int

    async def after(self, answer: faults.Answer) -> None:
        answer.status = self.status


@pytest.mark.parametrize("status", [405, 400, 411, 415, 416, 422, 501])
@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
async def test_a_body_that_the_put_may_not_have_goes_by_patch(
    registry: DockerRegistry, registry_proxy: FaultProxy, status: int, body: bytes
) -> None:
    refused = registry_proxy.on("PUT", UPLOADS, faults.Reply(status), times=1)
    async with repository_at(registry_proxy.host) as repository:
        await repository.push(blob_desc(body), BytesOpener(body))
        await repository.push(blob_desc(b"another"), BytesOpener(b"another"))
    assert refused.hits == 1
    assert stored(registry, body)
    methods = [one.method for one in registry_proxy.requests]
    assert methods[-3:] == ["POST", "PATCH", "PUT"], "the host is known now"


@pytest.mark.parametrize("status", [401, 403])
async def test_a_put_that_is_not_allowed_is_not_tried_in_another_way(registry_proxy: FaultProxy, status: int) -> None:
    registry_proxy.on("PUT", UPLOADS, faults.Reply(status, body=b"quota exceeded"))
    async with repository_at(registry_proxy.host, replace(QUICK, retries=0)) as repository:
        with pytest.raises(OcisyncError) as caught:
            await repository.push(blob_desc(SMALL), BytesOpener(SMALL))
    assert registry_proxy.seen("PATCH") == []
    assert status == 401 or ("quota exceeded" in caught.value.message and sha256(SMALL) in caught.value.message)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("chunk", [0, 2 * MIB])
@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirected_upload_is_followed_and_secrets_stay(
    registry: DockerRegistry, registry_proxy: FaultProxy, body: bytes, chunk: int, status: int
) -> None:
    with fault_proxy(registry.url) as elsewhere:
        registry_proxy.on("PUT|PATCH", UPLOADS, faults.Redirect(elsewhere.url + "{path}", status))
        options = replace(QUICK, chunk_size=chunk, headers={"X-Own": "s3cr3t"})
        async with repository_at(registry_proxy.host, options) as repository:
            await repository.push(blob_desc(body), BytesOpener(body))
        assert stored(registry, body)
        assert elsewhere.requests
        assert not [one for one in elsewhere.requests if {"x-own", "authorization", "cookie"} & set(one.headers)]


@pytest.mark.parametrize("to", ["ftp://127.0.0.1/", "http://169.254.169.254/x"])
async def test_an_upload_is_not_sent_where_nothing_may_go(registry_proxy: FaultProxy, to: str) -> None:
    registry_proxy.on("PUT", UPLOADS, faults.Redirect(to, 307))
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(RedirectRefused):
            await repository.push(blob_desc(SMALL), BytesOpener(SMALL))


async def test_an_upload_that_is_redirected_for_ever_ends(registry_proxy: FaultProxy) -> None:
    registry_proxy.on("PUT", UPLOADS, faults.Redirect(registry_proxy.url + "{path}", 307))
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(RedirectRefused, match="more than 10 redirects"):
            await repository.push(blob_desc(SMALL), BytesOpener(SMALL))
    assert len(registry_proxy.seen("PUT")) == 11


class Choosy(Simulated):
    """A registry with a minimum chunk, which takes part of a chunk, or loses one."""

    least = 0  # bytes
    takes_at_first = 0  # bytes of the first chunk; 0: all
    position_after_first = -1  # where it stands, whatever it said; a chunk from elsewhere is 416

    def session_headers(self, request: web.Request, name: str, session: str) -> dict[str, str]:
        return super().session_headers(request, name, session) | {"OCI-Chunk-Min-Length": str(self.least)}

    async def upload(self, request: web.Request, name: str, session: str) -> Reply:
        held = self.uploads.get(session, b"")
        if request.method == "PATCH":
            first = int(request.headers["Content-Range"].partition("-")[0])
            body = await request.read()
            if first != len(held):
                return error(416, "BLOB_UPLOAD_INVALID", "the range does not fit")
            if len(body) < self.least and len(held) + len(body) < len(LARGE):
                return error(400, "SIZE_INVALID", "the chunk is too small")
            taken = self.takes_at_first or len(body)
            self.takes_at_first = 0
            self.uploads[session] = held + body[:taken]
            reply = web.Response(status=202, headers=self.session_headers(request, name, session))
            if self.position_after_first >= 0:
                self.uploads[session], self.position_after_first = held[: self.position_after_first], -1
            return reply
        if request.method == "GET":
            return web.Response(status=204, headers=self.session_headers(request, name, session))
        return await super().upload(request, name, session)

    def refuse(self, request: web.Request, name: str) -> web.Response | None:
        return None


async def push_large(registry: Simulated, chunk: int = MIB) -> list[str]:
    """The requests of one upload, by method."""
    async with repository_at(registry.host, replace(QUICK, chunk_size=chunk)) as repository:
        await repository.push(blob_desc(LARGE), BytesOpener(LARGE))
    assert registry.blobs[sha256(LARGE)] == LARGE
    return [one.method for one in registry.asked]


@pytest.mark.parametrize("least", [3 * MIB, 3 * MIB + 1])
async def test_chunks_are_as_long_as_the_registry_wants_them(least: int) -> None:
    with simulated("the specification", Choosy) as registry:
        assert isinstance(registry, Choosy)
        registry.least = least
        patches = [one for one in await push_large(registry) if one == "PATCH"]
    assert len(patches) == 2


async def test_an_upload_goes_on_after_what_the_registry_took() -> None:
    with simulated("the specification", Choosy) as registry:
        assert isinstance(registry, Choosy)
        registry.takes_at_first = MIB + 100
        methods = await push_large(registry, 2 * MIB)
    assert methods == ["POST", "PATCH", "PATCH", "PATCH", "PUT"], "its answer said where to go on"


async def test_an_upload_goes_on_where_the_registry_stands_after_a_416() -> None:
    with simulated("the specification", Choosy) as registry:
        assert isinstance(registry, Choosy)
        registry.position_after_first = 0  # it lost the first chunk, of which it had said that it took it
        methods = await push_large(registry, 2 * MIB)
    assert methods.count("POST") == 1
    assert methods[:4] == ["POST", "PATCH", "PATCH", "GET"]


@pytest.mark.parametrize("status", [500, 502, 504, 408])
@pytest.mark.parametrize("chunk", [0, 2 * MIB])
async def test_fault_05_what_was_stored_in_spite_of_an_error_is_found(
    registry: DockerRegistry, registry_proxy: FaultProxy, status: int, chunk: int
) -> None:
    failing = registry_proxy.on("PUT", UPLOADS, Answer(status))
    async with repository_at(registry_proxy.host, replace(QUICK, chunk_size=chunk)) as repository:
        await repository.push(blob_desc(LARGE), BytesOpener(LARGE))
    assert failing.hits == 1, "looked for before it is sent again"
    assert stored(registry, LARGE)


@pytest.mark.parametrize("reference", ["1", INDEX.digest])
async def test_fault_05_a_manifest_that_was_stored_in_spite_of_an_error_is_found(
    registry: DockerRegistry, registry_proxy: FaultProxy, reference: str
) -> None:
    failing = registry_proxy.on("PUT", "/manifests/", Answer(504))
    async with repository_at(registry_proxy.host) as repository:
        if reference == "1":
            await repository.publish({"1": ROOT})
        else:
            await repository.push(ROOT, BytesOpener(INDEX.manifest))
    assert failing.hits == 1


async def test_fault_05_a_manifest_that_was_not_stored_is_sent_again_but_not_for_ever(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    failing = registry_proxy.on("PUT", "/manifests/", faults.Reply(504), times=2)
    async with repository_at(registry_proxy.host) as repository:
        await repository.publish({"1": ROOT})
    assert (failing.hits, len(registry_proxy.seen("PUT", "/manifests/"))) == (2, 3)
    failing = registry_proxy.on("PUT", "/manifests/2", faults.Reply(504))
    async with repository_at(registry_proxy.host, replace(QUICK, retries=2)) as repository:
        with pytest.raises(RegistryError, match="504"):
            await repository.publish({"2": ROOT})
    assert failing.hits == 3


async def test_a_foreign_layer_that_is_refused_is_named_with_the_cure(registry: DockerRegistry) -> None:
    config = b"{}"
    layer = {
        "mediaType": media_types.DOCKER_FOREIGN_GZIP,
        "digest": sha256(b"far"),
        "size": 3,
        "urls": ["http://x.test/l"],
    }
    document = {
        "schemaVersion": 2,
        "mediaType": media_types.DOCKER_MANIFEST,
        "config": {"mediaType": media_types.DOCKER_CONFIG, "digest": sha256(config), "size": 2},
        "layers": [layer],
    }
    async with repository_at(registry.host) as repository:
        await repository.push(blob_desc(config), BytesOpener(config))
        with pytest.raises(UnsupportedManifest, match=r"validation\.manifests\.urls") as caught:
            await repository.publish({"1": describe(json.dumps(document).encode(), media_types.DOCKER_MANIFEST)})
    assert sha256(b"far") in caught.value.message
    assert "include_external" in caught.value.message


async def test_a_head_without_a_length_says_nothing_of_the_size(registry_proxy: FaultProxy) -> None:
    desc = blob_desc(SMALL)
    for headers, is_there in (({"Content-Length": "0"}, True), ({"Content-Length": "7"}, False)):
        registry_proxy.rules.clear()
        registry_proxy.on("HEAD", "/blobs/", faults.Reply(200, headers))
        async with repository_at(registry_proxy.host) as repository:
            assert await repository.exists(desc) is is_there
    registry_proxy.rules.clear()
    registry_proxy.on("HEAD", "/blobs/", faults.Reply(200, {"Content-Type": "text/html"}))
    async with repository_at(registry_proxy.host) as repository:
        assert not await repository.exists(desc), "a sign-in page"
