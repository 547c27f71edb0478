"""Mirrors of a registry: read in their order, with the registry itself for what none of them gives."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ocisync.content.verify import verify_stream
from ocisync.errors import DigestMismatch, NotFound
from ocisync.stores.registry.client import open_registries
from ocisync.stores.registry.options import MirrorOptions
from ocisync.stores.registry.repository import RegistryRepository
from tests.integration.mainjob import write_config
from tests.integration.registries import BLOB, BLOB_PATH, LAYER, NAME, QUICK, manifest_desc, read
from tests.servers import faults, images
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy, fault_proxy

IMAGE = images.make_image()
PREFIX = "cache/of/it"


@pytest.fixture
def origin(registry: DockerRegistry) -> Iterator[FaultProxy]:
    images.push(registry.client, NAME, "1", IMAGE)
    images.push_blob(registry.client, NAME, LAYER.digest, BLOB)
    with fault_proxy(registry.url) as running:
        yield running


@pytest.fixture
def first(tmp_path: Path) -> Iterator[FaultProxy]:
    """A mirror that has everything, below a path."""
    with docker_registry(tmp_path / "first") as running:
        images.push(running.client, f"{PREFIX}/{NAME}", "1", IMAGE)
        images.push_blob(running.client, f"{PREFIX}/{NAME}", LAYER.digest, BLOB)
        with fault_proxy(running.url) as front:
            yield front


@pytest.fixture
def second(tmp_path: Path) -> Iterator[FaultProxy]:
    """A mirror that has nothing."""
    with docker_registry(tmp_path / "second") as running, fault_proxy(running.url) as front:
        yield front


@asynccontextmanager
async def mirrored(origin: FaultProxy, *mirrors: MirrorOptions) -> AsyncIterator[RegistryRepository]:
    async with open_registries({origin.host: replace(QUICK, mirrors=mirrors)}, QUICK) as client:
        yield client.source(origin.host, NAME)


def at(mirror: FaultProxy, prefix: str = "") -> MirrorOptions:
    return MirrorOptions(mirror.host, prefix)


async def test_mirrors_are_asked_in_their_order_and_the_registry_for_lists(
    origin: FaultProxy, first: FaultProxy, second: FaultProxy
) -> None:
    async with mirrored(origin, at(second), at(first, PREFIX)) as repository:
        root = await repository.resolve("1")
        assert await read(repository, root) == IMAGE.manifest
        assert await read(repository, LAYER) == BLOB
        assert origin.requests == []
        assert [one.status for one in second.requests] == [404, 404, 404]
        assert first.requests[0].path == f"/v2/{PREFIX}/{NAME}/manifests/1"
        assert await repository.tags() == ["1"]
        assert await repository.referrers(root.digest) == []
    assert len(first.requests) == 3
    assert {one.method for one in origin.requests} <= {"GET", "HEAD"}


async def test_what_no_mirror_has_comes_from_the_registry(origin: FaultProxy, second: FaultProxy) -> None:
    async with mirrored(origin, at(second), MirrorOptions("127.0.0.1:1")) as repository:
        assert await read(repository, await repository.resolve("1")) == IMAGE.manifest
        assert await read(repository, LAYER) == BLOB
        with pytest.raises(NotFound):
            await repository.resolve("absent")
    assert len(second.requests) == 4


@pytest.mark.parametrize(
    "fault", [faults.Refuse(), faults.Reply(500), faults.Reply(403), faults.Reply(429, {"Retry-After": "60"})]
)
async def test_a_mirror_that_fails_is_left_out_for_a_while(
    origin: FaultProxy, first: FaultProxy, fault: faults.Action
) -> None:
    first.on(".*", "", fault)
    async with mirrored(origin, at(first, PREFIX)) as repository:
        for _ in range(3):
            assert await read(repository, await repository.resolve("1")) == IMAGE.manifest
    assert len(first.requests) <= 2, "a HEAD that is refused may be a matter of the method"


async def test_fault_02_a_mirror_that_breaks_off_is_followed_by_the_next_from_the_same_byte_on(
    origin: FaultProxy, first: FaultProxy
) -> None:
    first.on("GET", BLOB_PATH[3:], faults.Truncate(after_bytes=2_000_000))
    async with mirrored(origin, at(first, PREFIX)) as repository:
        assert await read(repository, LAYER) == BLOB
    (rest,) = origin.seen("GET", BLOB_PATH)
    start = int(rest.headers["range"].removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 2_000_000
    assert rest.sent == len(BLOB) - start
    assert len(first.requests) == 1


async def test_fault_20_a_mirror_with_wrong_bytes_is_not_asked_for_them_again(
    origin: FaultProxy, first: FaultProxy
) -> None:
    first.on("GET", "/(blobs|manifests)/", faults.Flip(at=7))
    async with mirrored(origin, at(first, PREFIX)) as repository:
        assert await read(repository, manifest_desc(IMAGE)) == IMAGE.manifest
        with pytest.raises(DigestMismatch):
            await read(repository, LAYER)
        assert await read(repository, LAYER) == BLOB
    assert len(first.seen("GET", "/blobs/")) == 1
    assert len(origin.seen("GET", "/blobs/")) == 1


async def test_fault_21_a_mirror_with_another_length_is_passed_over(origin: FaultProxy, first: FaultProxy) -> None:
    first.on("GET", "/blobs/", faults.Reply(200, body=b"short"))
    async with mirrored(origin, at(first, PREFIX)) as repository:
        assert await read(repository, LAYER) == BLOB


async def test_a_later_part_comes_from_a_mirror_too(origin: FaultProxy, first: FaultProxy) -> None:
    async with mirrored(origin, at(first, PREFIX)) as repository:
        async with repository.open(LAYER, 1_000_000) as stream:
            assert b"".join([chunk async for chunk in stream]) == BLOB[1_000_000:]
        async with repository.open(LAYER) as stream:
            assert len([chunk async for chunk in verify_stream(stream, LAYER)]) >= 1
    assert origin.requests == []


def test_a_pass_reads_from_the_mirror_and_survives_its_damage(
    origin: FaultProxy, first: FaultProxy, tmp_path: Path
) -> None:
    first.on("GET", "/blobs/", faults.Flip(at=3), times=1)
    config = write_config(
        tmp_path / "job",
        {"out": {"type": "static", "path": str(tmp_path / "out")}},
        sync=[{"source": f"{origin.host}/{NAME}:1", "target": "out"}],
        registries={origin.host: {"mirrors": [f"{first.host}/{PREFIX}"]}},
    )
    done = run_ocisync("once", "--json", "-c", config).expect()
    assert [tag["verdict"] for job in json.loads(done.stdout)["jobs"] for tag in job["tags"]] == ["copied"]
    assert len(origin.seen("GET", "/blobs/")) == 1, "what the mirror had damaged, and nothing else"
    assert origin.seen("GET", "/manifests/sha256:") == []
