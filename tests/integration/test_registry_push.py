"""Uploads to a real registry: FAULTS 5, 20, 21, 31, 35, and mounts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial

import anyio
import pytest

from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream
from ocisync.errors import (
    AuthError,
    DigestMismatch,
    InvalidName,
    NotFound,
    RedirectRefused,
    RegistryError,
    SizeMismatch,
    Stalled,
)
from ocisync.model.descriptor import Descriptor, describe
from ocisync.model.digest import Digest, sha256
from ocisync.stores.registry.client import open_registries
from tests.contract.graphs import CountingOpener
from tests.integration.bulk_engines import Engine
from tests.integration.registries import (
    BLOB,
    BLOB_PATH,
    LAYER,
    NAME,
    QUICK,
    blob_desc,
    manifest_desc,
    read,
    repository_at,
)
from tests.servers import faults, images
from tests.servers.docker_registry import DockerRegistry
from tests.servers.fault_proxy import FaultProxy

pytestmark = pytest.mark.usefixtures("other_engine")

UPLOADS = f"/v2/{NAME}/blobs/uploads/"
IMAGE = images.make_image()
SMALL = images.noise(3_000, "a small layer")
sizes = pytest.mark.parametrize("body", [BLOB, SMALL], ids=["streamed", "at hand"])


def stored(registry: DockerRegistry, body: bytes = BLOB) -> bool:
    return registry.client.request("HEAD", f"/v2/{NAME}/blobs/{sha256(body)}").status == 200


@sizes
async def test_a_blob_takes_one_post_and_one_put(
    registry: DockerRegistry, registry_proxy: FaultProxy, body: bytes
) -> None:
    async with repository_at(registry_proxy.host) as repository:
        await repository.push(blob_desc(body), BytesOpener(body))
    assert [one.method for one in registry_proxy.requests] == ["POST", "PUT"]
    assert registry_proxy.requests[1].headers["content-length"] == str(len(body))
    assert stored(registry, body)


async def test_an_image_is_pushed_and_published_by_tag(registry: DockerRegistry) -> None:
    async with repository_at(registry.host) as repository:
        for data in IMAGE.blobs.values():
            await repository.push(blob_desc(data), BytesOpener(data))
        await repository.push(manifest_desc(IMAGE), BytesOpener(IMAGE.manifest))
        await repository.publish({"1": describe(IMAGE.manifest, IMAGE.media_type)})
        assert await repository.resolve("1") == manifest_desc(IMAGE)
        assert await repository.exists(manifest_desc(IMAGE))
    reply = registry.client.request("GET", f"/v2/{NAME}/manifests/1", headers={"Accept": IMAGE.media_type})
    assert reply.body == IMAGE.manifest
    assert reply.headers["content-type"] == IMAGE.media_type


async def test_what_the_registry_refuses_is_told(registry: DockerRegistry) -> None:
    async with repository_at(registry.host) as repository:
        with pytest.raises(RegistryError, match="BLOB_UNKNOWN"):
            await repository.publish({"1": describe(IMAGE.manifest, IMAGE.media_type)})


async def test_a_403_means_unknown_and_never_exists(registry_proxy: FaultProxy) -> None:
    registry_proxy.on("HEAD", "", faults.Reply(403))
    async with repository_at(registry_proxy.host) as repository:
        assert not await repository.exists(LAYER)
        assert not await repository.exists(manifest_desc(IMAGE))


@pytest.mark.parametrize("after", [0, 1_000_000])
@sizes
async def test_fault_05_a_reset_in_mid_upload_is_sent_again(
    registry: DockerRegistry, registry_proxy: FaultProxy, after: int, body: bytes
) -> None:
    broken = registry_proxy.on("PUT", UPLOADS, faults.ResetRequest(min(after, len(body) // 2)), times=2)
    async with repository_at(registry_proxy.host) as repository:
        await repository.push(blob_desc(body), BytesOpener(body))
    assert broken.hits == 2
    assert stored(registry, body)


@sizes
async def test_fault_05_a_lost_reply_is_looked_for_and_nothing_sent_twice(
    registry: DockerRegistry, registry_proxy: FaultProxy, body: bytes
) -> None:
    registry_proxy.on("PUT", UPLOADS, faults.LoseReply())
    registry_proxy.on("PUT", "/manifests/", faults.LoseReply(), times=1)
    async with repository_at(registry_proxy.host) as repository:
        await repository.push(blob_desc(body), BytesOpener(body))
        index = images.make_index([])
        await repository.push(manifest_desc(index), BytesOpener(index.manifest))
        assert await repository.exists(manifest_desc(index))
    assert len(registry_proxy.seen("PUT", UPLOADS)) == 1
    assert stored(registry, body)


async def test_fault_05_a_registry_that_stops_reading_is_noticed(registry_proxy: FaultProxy) -> None:
    registry_proxy.on("PUT", UPLOADS, faults.Call(lambda path: registry_proxy_waits()))
    more_than_any_buffer = Descriptor(LAYER.media_type, LAYER.digest, 1 << 40)

    @asynccontextmanager
    async def endless(start: int) -> AsyncIterator[ByteStream]:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield BLOB

        yield chunks()

    options = replace(QUICK, idle_timeout=0.3, retries=0)
    async with repository_at(registry_proxy.host, options) as repository:
        with anyio.fail_after(20), pytest.raises(Stalled):
            await repository.push(more_than_any_buffer, endless)


def registry_proxy_waits() -> None:
    """Hold a request back for longer than any idle time-out of these tests."""
    import threading

    threading.Event().wait(3)


async def test_fault_05_a_slow_source_is_no_stall(registry: DockerRegistry) -> None:
    @asynccontextmanager
    async def slow(start: int) -> AsyncIterator[ByteStream]:
        async def chunks() -> AsyncIterator[bytes]:
            yield BLOB[:1_000_000]
            yield BLOB[1_000_000:2_000_000]
            await anyio.sleep(1.5)
            yield BLOB[2_000_000:]

        yield chunks()

    async with repository_at(registry.host, replace(QUICK, idle_timeout=1.0, retries=0)) as repository:
        await repository.push(LAYER, slow)
    assert stored(registry)


@sizes
async def test_fault_16_an_upload_is_repeated_after_a_server_error(
    registry: DockerRegistry, registry_proxy: FaultProxy, body: bytes
) -> None:
    rules = [registry_proxy.on(method, UPLOADS, faults.Reply(503), times=1) for method in ("POST", "PUT")]
    async with repository_at(registry_proxy.host) as repository:
        await repository.push(blob_desc(body), BytesOpener(body))
    assert [rule.hits for rule in rules] == [1, 1]
    assert stored(registry, body)


@sizes
async def test_fault_17_an_upload_that_is_refused_fails_at_once(registry_proxy: FaultProxy, body: bytes) -> None:
    refused = registry_proxy.on("PUT", UPLOADS, faults.Reply(403))
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(AuthError):
            await repository.push(blob_desc(body), BytesOpener(body))
    assert refused.hits == 1
    assert len(registry_proxy.seen("DELETE", UPLOADS)) == 1


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (BLOB[:-1] + bytes([BLOB[-1] ^ 1]), DigestMismatch),
        (BLOB + b"x", SizeMismatch),
        (BLOB[:-1], SizeMismatch),
        (b"", SizeMismatch),
    ],
    ids=["flipped", "longer", "shorter", "empty"],
)
async def test_fault_20_other_bytes_are_never_sent_whole_and_the_session_is_closed(
    registry_proxy: FaultProxy, body: bytes, error: type[Exception]
) -> None:
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(error):
            await repository.push(LAYER, BytesOpener(body))
        assert not await repository.exists(LAYER)
    assert all(put.received < len(BLOB) for put in registry_proxy.seen("PUT", UPLOADS))
    (delete,) = registry_proxy.seen("DELETE", UPLOADS)
    assert delete.status in (204, 404)


@pytest.mark.parametrize(
    ("body", "error"),
    [(SMALL[:-1] + b"?", DigestMismatch), (SMALL + b"x", SizeMismatch), (SMALL[:-1], SizeMismatch)],
    ids=["other", "longer", "shorter"],
)
async def test_fault_20_of_other_bytes_at_hand_nothing_is_sent(
    registry_proxy: FaultProxy, body: bytes, error: type[Exception]
) -> None:
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(error):
            await repository.push(blob_desc(SMALL), CountingOpener(body))
    assert [one.method for one in registry_proxy.requests] == ["POST", "DELETE"]


async def test_fault_20_a_source_that_breaks_is_not_the_registrys_fault(registry_proxy: FaultProxy) -> None:
    @asynccontextmanager
    async def absent(start: int) -> AsyncIterator[ByteStream]:
        raise NotFound("the source lost it")
        yield  # type: ignore[unreachable]

    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(NotFound, match="the source lost it"):
            await repository.push(LAYER, absent)
    assert len(registry_proxy.seen("POST", UPLOADS)) == 1
    assert len(registry_proxy.seen("DELETE", UPLOADS)) == 1


async def test_a_broken_upload_leaves_the_connection_alone_that_its_source_is_read_on(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    images.push_blob(registry.client, NAME, LAYER.digest, BLOB)
    async with (
        open_registries({registry_proxy.host: replace(QUICK, bulk_from=Engine.bulk_from)}) as client,
        AsyncExitStack() as kept,
    ):
        repository, source = (client.repository(registry_proxy.host, name) for name in ("other/image", NAME))
        opened: list[ByteStream] = []

        @asynccontextmanager
        async def damaged(start: int) -> AsyncIterator[ByteStream]:
            async def chunks() -> AsyncIterator[bytes]:
                opened.append(await kept.enter_async_context(source.open(LAYER)))
                yield BLOB[:100_000]
                raise DigestMismatch("found at the end")

            yield chunks()

        with pytest.raises(DigestMismatch):
            await repository.push(LAYER, damaged)
        assert b"".join([chunk async for chunk in opened[0]]) == BLOB
    assert len(registry_proxy.seen("GET", BLOB_PATH)) == 1


async def test_fault_20_a_source_that_breaks_half_way_is_not_taken_for_a_lost_session(
    registry_proxy: FaultProxy,
) -> None:
    opener = CountingOpener(BLOB, fail_after=1_000_000, error=NotFound("the source lost it"))
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(NotFound, match="the source lost it"):
            await repository.push(LAYER, opener)
        assert not await repository.exists(LAYER)
    assert (opener.opened, opener.still_open) == (1, 0)


@pytest.mark.parametrize("digest", ["sha256:../../x", "sha256:abc", "SHA256:" + "a" * 64, "md5:" + "a" * 32, ""])
async def test_fault_31_a_bad_digest_never_becomes_a_request(registry_proxy: FaultProxy, digest: str) -> None:
    desc = Descriptor(LAYER.media_type, Digest(digest), 1)
    manifest = Descriptor(IMAGE.media_type, Digest(digest), 1)
    async with repository_at(registry_proxy.host) as repository:
        for one in (desc, manifest):
            for attempt in (read(repository, one), repository.exists(one), repository.push(one, BytesOpener(b"x"))):
                with pytest.raises(InvalidName):
                    await attempt
        with pytest.raises(InvalidName):
            await repository.mount(desc, "other/image")
    assert registry_proxy.requests == []


@pytest.mark.parametrize("name", ["../x", "a/../b", "A", "a//b", "a?b", "a b", "x" * 300])
async def test_fault_31_nor_does_a_bad_name_or_tag(registry_proxy: FaultProxy, name: str) -> None:
    async with open_registries({}, QUICK) as client:
        with pytest.raises(InvalidName):
            client.repository(registry_proxy.host, name)
        with pytest.raises(InvalidName):
            client.repository(f"evil@{registry_proxy.host}/", NAME)
        if name != "A":
            with pytest.raises(InvalidName):
                await client.repository(registry_proxy.host, NAME).resolve(name)
    assert registry_proxy.requests == []


async def test_fault_33_schema_1_is_refused_clearly(registry_proxy: FaultProxy) -> None:
    from ocisync.errors import UnsupportedManifest

    old = {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws", "Content-Length": "700"}
    registry_proxy.on("HEAD", "/manifests/", faults.Reply(200, old))
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(UnsupportedManifest, match="schema 1") as caught:
            await repository.resolve("1")
    assert caught.value.code == "manifest.unsupported"


async def test_fault_24_a_type_that_disagrees_with_the_body_is_ambiguous(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    from ocisync.errors import AmbiguousManifest

    images.push(registry.client, NAME, "1", IMAGE)
    wrong = faults.ChangeHeaders(replace={"Content-Type": images.OCI_INDEX}, drop=("Docker-Content-Digest",))
    registry_proxy.on("HEAD|GET", "/manifests/", wrong)
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(AmbiguousManifest) as caught:
            await repository.resolve("1")
    assert caught.value.code == "manifest.ambiguous"


async def test_fault_35_a_lost_session_is_begun_again(registry: DockerRegistry, registry_proxy: FaultProxy) -> None:
    body = b'{"errors": [{"code": "BLOB_UPLOAD_UNKNOWN"}]}'
    lost = registry_proxy.on("PUT", UPLOADS, faults.Reply(404, body=body), times=2)
    async with repository_at(registry_proxy.host) as repository:
        await repository.push(LAYER, BytesOpener(BLOB))
    assert lost.hits == 2
    assert len(registry_proxy.seen("POST", UPLOADS)) == 3
    assert stored(registry)


async def test_fault_35_but_not_for_ever(registry_proxy: FaultProxy) -> None:
    lost = registry_proxy.on("PUT", UPLOADS, faults.Reply(404))
    async with repository_at(registry_proxy.host, replace(QUICK, retries=2)) as repository:
        with pytest.raises(NotFound):
            await repository.push(LAYER, BytesOpener(BLOB))
    assert lost.hits == 3


async def test_a_relative_location_and_its_state_are_kept_to_the_letter(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    place = {"Location": f"{UPLOADS}1234?_state=a%2Fb%3D%3D&x=%20"}
    registry_proxy.on("POST", UPLOADS, faults.Reply(202, place))
    registry_proxy.on("PUT", UPLOADS, faults.Reply(201))
    async with repository_at(registry_proxy.host) as repository:
        await repository.push(LAYER, BytesOpener(BLOB))
    (put,) = registry_proxy.seen("PUT", UPLOADS)
    assert put.path == f"{UPLOADS}1234?_state=a%2Fb%3D%3D&x=%20&digest={LAYER.digest.replace(':', '%3A')}"


async def test_an_upload_elsewhere_gets_no_credentials(registry_proxy: FaultProxy, registry: DockerRegistry) -> None:
    from tests.servers.fault_proxy import fault_proxy

    with fault_proxy(registry.url) as storage:
        registry_proxy.on("POST", UPLOADS, faults.Reply(202, {"Location": f"{storage.url}/put?signature=x"}))
        storage.on("PUT", "/put", faults.Reply(201))
        async with repository_at(registry_proxy.host, replace(QUICK, headers={"X-Own": "1"})) as repository:
            await repository.push(LAYER, BytesOpener(BLOB))
    assert "x-own" in registry_proxy.requests[0].headers
    assert not {"x-own", "authorization", "cookie"} & set(storage.requests[0].headers)


@pytest.mark.parametrize("location", [None, "ftp://127.0.0.1/", "http://169.254.169.254/"])
async def test_an_upload_that_leads_nowhere_is_refused(registry_proxy: FaultProxy, location: str | None) -> None:
    registry_proxy.on("POST", UPLOADS, faults.Reply(202, {"Location": location} if location else {}))
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(RegistryError) as caught:
            await repository.push(LAYER, BytesOpener(BLOB))
    assert isinstance(caught.value, RedirectRefused) == (location is not None)


async def test_a_registry_that_says_it_stored_something_else_is_not_believed(registry_proxy: FaultProxy) -> None:
    lie = faults.ChangeHeaders(replace={"Docker-Content-Digest": "sha256:" + "0" * 64})
    registry_proxy.on("PUT", "", lie)
    index = images.make_index([])
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(DigestMismatch):
            await repository.push(LAYER, BytesOpener(BLOB))
        with pytest.raises(DigestMismatch):
            await repository.publish({"1": describe(index.manifest, index.media_type)})


async def test_a_refused_mounts_session_is_used_for_the_push(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    async with repository_at(registry_proxy.host) as repository:
        assert not await repository.mount(LAYER, "other/image")
        await repository.push(LAYER, BytesOpener(BLOB))
    assert [one.method for one in registry_proxy.requests] == ["POST", "PUT"]
    assert stored(registry)


async def test_a_mount_takes_one_request_for_a_blob_whose_size_was_seen(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    async with open_registries({}, QUICK) as client:
        await client.repository(registry_proxy.host, "other/image").push(LAYER, BytesOpener(BLOB))
        registry_proxy.requests.clear()
        assert await client.repository(registry_proxy.host, NAME).mount(LAYER, "other/image")
    assert [one.method for one in registry_proxy.requests] == ["POST"]
    assert stored(registry)


async def test_a_copy_within_one_host_with_few_places_ends(registry: DockerRegistry) -> None:
    bodies = [images.noise(300_000, str(number)) for number in range(12)]
    for body in bodies:
        images.push_blob(registry.client, NAME, images.digest_of(body), body)
    async with open_registries({}, replace(QUICK, concurrency=1, bulk_from=Engine.bulk_from)) as client:
        source, target = client.repository(registry.host, NAME), client.repository(registry.host, "copy")
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for body in bodies:
                    desc = blob_desc(body)
                    group.start_soon(target.push, desc, lambda start, desc=desc: source.open(desc, start))
        for body in bodies:
            assert await target.exists(blob_desc(body))


async def test_no_more_uploads_at_a_time_than_places(registry: DockerRegistry) -> None:
    bodies = [images.noise(300_000, str(number)) for number in range(8)]
    openers = {body: CountingOpener(body) for body in bodies}
    most = 0

    @asynccontextmanager
    async def counted(body: bytes, start: int) -> AsyncIterator[ByteStream]:
        nonlocal most
        async with openers[body](start) as stream:
            most = max(most, sum(one.still_open for one in openers.values()))
            yield stream

    options = replace(QUICK, concurrency=2)
    async with repository_at(registry.host, options) as repository, anyio.create_task_group() as group:
        for body in bodies:
            group.start_soon(repository.push, blob_desc(body), partial(counted, body))
    assert most == 2
