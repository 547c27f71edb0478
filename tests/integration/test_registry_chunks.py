"""Uploads in chunks, gone on with where they broke; lost sessions; types that are refused. FAULTS 5, 20, 35."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import anyio
import pytest

from ocisync.content.openers import BytesOpener
from ocisync.content.repository import ByteStream
from ocisync.errors import DigestMismatch, Stalled, UnsupportedManifest
from tests.integration.big import MIB, push_big
from tests.integration.mainjob import ENV, write_config
from tests.integration.registries import NAME, QUICK, blob_desc, manifest_desc, repository_at
from tests.servers import faults, images
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy, fault_proxy

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("engine")]
BLOB = images.noise(5 * MIB + 12_345, "chunks")
DESC = blob_desc(BLOB)
UPLOADS = f"/v2/{NAME}/blobs/uploads/"
CHUNKED = replace(QUICK, chunk_size=2 * MIB)


@dataclass
class Source:
    """An opener that remembers where it was opened."""

    data: bytes = BLOB
    opened: list[int] = field(default_factory=list)

    @asynccontextmanager
    async def __call__(self, start: int = 0) -> AsyncIterator[ByteStream]:
        self.opened.append(start)
        async with BytesOpener(self.data)(start) as stream:
            yield stream


def stored(registry: DockerRegistry) -> bool:
    reply = registry.client.request("GET", f"/v2/{NAME}/blobs/{DESC.digest}")
    return reply.body == BLOB


async def test_a_blob_in_chunks(registry: DockerRegistry, registry_proxy: FaultProxy) -> None:
    async with repository_at(registry_proxy.host, CHUNKED) as repository:
        await repository.push(DESC, Source())
        await repository.push(blob_desc(b"small"), BytesOpener(b"small"))
    assert [one.method for one in registry_proxy.requests] == ["POST", "PATCH", "PATCH", "PATCH", "PUT", "POST", "PUT"]
    ranges = [one.headers["content-range"] for one in registry_proxy.seen("PATCH")]
    assert ranges == [f"0-{2 * MIB - 1}", f"{2 * MIB}-{4 * MIB - 1}", f"{4 * MIB}-{len(BLOB) - 1}"]
    assert stored(registry)


async def test_a_body_that_is_too_large_for_a_proxy_is_sent_in_chunks(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    refused = registry_proxy.on("PUT", UPLOADS, faults.Reply(413), times=1)
    async with repository_at(registry_proxy.host) as repository:
        await repository.push(DESC, Source())
        other = images.noise(5 * MIB, "other")
        await repository.push(blob_desc(other), BytesOpener(other))
    assert refused.hits == 1
    assert len(registry_proxy.seen("PATCH")) == 6  # half of it in whole MiB; the other blob is sent so at once
    assert stored(registry)


async def test_fault_05_after_a_chunk_that_never_came_the_upload_goes_on(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    broken = registry_proxy.on("PATCH", UPLOADS, faults.Refuse(), skip=1, times=1)
    source = Source()
    async with repository_at(registry_proxy.host, CHUNKED) as repository:
        await repository.push(DESC, source)
    assert broken.hits == 1
    assert source.opened == [0, 2 * MIB]
    assert [one.method for one in registry_proxy.requests] == ["POST", "PATCH", "PATCH", "GET", "PATCH", "PATCH", "PUT"]
    assert stored(registry)


@dataclass
class LoseReplyOnce(faults.Action):
    """The registry has the chunk; only it knows where to go on."""

    location: str = ""

    async def after(self, answer: faults.Answer) -> None:
        self.location = answer.headers.get("Location")
        await faults.LoseReply().after(answer)


@dataclass
class Tell(faults.Action):
    """What a registry answers that can be asked at any time; docker-registry 2.8 knows sessions by their state only."""

    lost: LoseReplyOnce
    size: int  # bytes that it has

    async def before(self, exchange: faults.Exchange) -> faults.Answer | None:
        headers = {"Location": self.lost.location, "Range": f"0-{self.size - 1}"}
        return await faults.Reply(204, headers).before(exchange)


async def test_fault_05_a_chunk_whose_reply_is_lost_is_not_sent_again(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    lost = LoseReplyOnce()
    registry_proxy.on("PATCH", UPLOADS, lost, skip=1, times=1)
    registry_proxy.on("GET", UPLOADS, Tell(lost, 4 * MIB))
    source = Source()
    async with repository_at(registry_proxy.host, CHUNKED) as repository:
        await repository.push(DESC, source)
    assert source.opened == [0, 2 * MIB]  # what came with the lost reply is hashed again, and not sent
    assert [one.method for one in registry_proxy.requests] == ["POST", "PATCH", "PATCH", "GET", "PATCH", "PUT"]
    assert stored(registry)


@pytest.mark.parametrize("after", [0, MIB + 777])
async def test_fault_35_a_registry_that_cannot_go_on_gets_it_anew(
    registry: DockerRegistry, registry_proxy: FaultProxy, after: int
) -> None:
    broken = registry_proxy.on("PATCH", UPLOADS, faults.ResetRequest(after), skip=1, times=1)
    async with repository_at(registry_proxy.host, CHUNKED) as repository:
        await repository.push(DESC, Source())
    assert broken.hits == 1
    assert stored(registry)


async def test_fault_35_a_session_lost_between_chunks_begins_anew(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    registry_proxy.on("PATCH", UPLOADS, faults.Reply(404), skip=1, times=1)
    source = Source()
    async with repository_at(registry_proxy.host, CHUNKED) as repository:
        await repository.push(DESC, source)
    assert source.opened == [0, 0]
    assert len(registry_proxy.seen("POST", UPLOADS)) == 2
    assert stored(registry)


async def test_fault_20_other_bytes_are_never_sent_whole_in_chunks(
    registry: DockerRegistry, registry_proxy: FaultProxy
) -> None:
    async with repository_at(registry_proxy.host, CHUNKED) as repository:
        with pytest.raises(DigestMismatch):
            await repository.push(DESC, Source(BLOB[:-1] + b"x"))
    assert registry_proxy.seen("PUT") == []
    assert len(registry_proxy.seen("DELETE")) == 1
    assert not stored(registry)


async def test_fault_05_a_registry_that_stops_reading_a_chunk_is_noticed(registry_proxy: FaultProxy) -> None:
    registry_proxy.on("PATCH", UPLOADS, faults.Stall(-1))
    options = replace(CHUNKED, idle_timeout=0.3, commit_timeout=0.3, retries=0)
    async with repository_at(registry_proxy.host, options) as repository:
        with anyio.fail_after(60), pytest.raises(Stalled):
            await repository.push(DESC, Source())


@pytest.mark.parametrize("status", [400, 415])
async def test_a_type_that_the_registry_does_not_take_is_told_with_the_cure(
    registry_proxy: FaultProxy, status: int
) -> None:
    registry_proxy.on("PUT", "/manifests/", faults.Reply(status, body=b'{"errors":[{"code":"MANIFEST_INVALID"}]}'))
    index = images.make_index([])
    async with repository_at(registry_proxy.host) as repository:
        with pytest.raises(UnsupportedManifest, match="format: docker") as caught:
            await repository.push(manifest_desc(index), BytesOpener(index.manifest))
    assert "MANIFEST_INVALID" in caught.value.message
    assert index.media_type in caught.value.message


def test_fault_35_what_a_lost_session_took_comes_from_the_spool(tmp_path: Path, registry: DockerRegistry) -> None:
    layer = push_big(registry, "big/app", "1", 64 * MIB)
    with docker_registry(tmp_path / "target") as target, fault_proxy(target.url) as proxy:
        proxy.on("PUT", "/blobs/uploads/", faults.Reply(404), times=1)
        proxy.on("PUT", "/blobs/uploads/", faults.ResetRequest(40 * MIB), times=1)
        settings = {"out": {"type": "registry", "url": proxy.url}}
        rule = {"source": f"{registry.host}/big/app", "target": "out"}
        file = write_config(tmp_path, settings, sync=[rule], daemon={"spool_from": "64MiB"})
        run_ocisync("once", "-c", file, env=ENV, timeout=300).expect(0)
        reads = [one for one in registry.requests() if one.method == "GET" and layer.digest in one.path]
        assert sum(one.size for one in reads) < layer.size + 16 * MIB  # what the buffers held when it broke
        assert target.client.request("HEAD", f"/v2/big/app/blobs/{layer.digest}").status == 200
