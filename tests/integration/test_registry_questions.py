"""What a look-up of a tag costs a real registry, by what is known of the tag and of the host."""

from dataclasses import replace

import pytest

from ocisync.errors import DigestMismatch, NotFound
from ocisync.stores.registry.options import RateLimitOptions
from tests.integration.registries import NAME, QUICK, manifest_desc, repository_at
from tests.servers import faults, images
from tests.servers.docker_registry import DockerRegistry
from tests.servers.fault_proxy import FaultProxy

IMAGE, OTHER = images.make_image(), images.make_image("other")
HUBS = {"RateLimit-Limit": "100;w=21600", "RateLimit-Remaining": "76;w=21600"}


@pytest.fixture
def proxy(registry: DockerRegistry, registry_proxy: FaultProxy) -> FaultProxy:
    """In front of a registry with two tags."""
    images.push(registry.client, NAME, "1", IMAGE)
    images.push(registry.client, NAME, "2", OTHER)
    return registry_proxy


async def test_a_tag_that_did_not_move_is_not_looked_into(proxy: FaultProxy, registry: DockerRegistry) -> None:
    async with repository_at(proxy.host) as repository:
        start = len(registry.requests())
        assert await repository.revalidate("1", manifest_desc(IMAGE)) == manifest_desc(IMAGE)
    assert [(one.method, one.status) for one in registry.requests()[start:]] == [("HEAD", 304)]


async def test_a_tag_that_moved_is_told_by_the_same_request(proxy: FaultProxy, registry: DockerRegistry) -> None:
    async with repository_at(proxy.host) as repository:
        start = len(registry.requests())
        assert await repository.revalidate("2", manifest_desc(IMAGE)) == manifest_desc(OTHER)
        with pytest.raises(NotFound):
            await repository.revalidate("3", manifest_desc(IMAGE))
    assert [(one.method, one.status) for one in registry.requests()[start:]] == [("HEAD", 200), ("HEAD", 404)]


async def test_a_registry_that_refuses_to_be_asked_so_is_asked_otherwise(proxy: FaultProxy) -> None:
    proxy.on("HEAD", "/manifests/", faults.Reply(400))
    async with repository_at(proxy.host) as repository:
        found = await repository.revalidate("1", manifest_desc(IMAGE))
        assert found == manifest_desc(IMAGE)
        assert found.data == IMAGE.manifest


async def test_fault_23_as_known_but_another_is_a_lie(proxy: FaultProxy) -> None:
    proxy.on("HEAD", "/manifests/", faults.Reply(304, {"Docker-Content-Digest": manifest_desc(OTHER).digest}))
    async with repository_at(proxy.host) as repository:
        with pytest.raises(DigestMismatch, match=r"still sha256:.* says the registry, and that it is sha256:"):
            await repository.revalidate("1", manifest_desc(IMAGE))


async def test_a_wanted_manifest_comes_with_its_tag_once_the_host_is_known_to_count_nothing(proxy: FaultProxy) -> None:
    async with repository_at(proxy.host) as repository:
        assert (await repository.resolve_with_manifest("1")).data is None
        pulled = await repository.resolve_with_manifest("1")
        assert pulled == manifest_desc(IMAGE)
        assert pulled.data == IMAGE.manifest
    assert [one.method for one in proxy.seen("GET|HEAD", "/manifests/1")] == ["HEAD", "GET"]


async def test_where_pulls_are_counted_every_look_up_is_a_head(proxy: FaultProxy) -> None:
    proxy.on("GET|HEAD", "/manifests/", faults.ChangeHeaders(add=HUBS))
    async with repository_at(proxy.host) as repository:
        for _ in range(3):
            assert (await repository.resolve_with_manifest("1")).data is None


async def test_where_a_budget_is_configured_every_look_up_is_a_head(proxy: FaultProxy) -> None:
    async with repository_at(proxy.host, replace(QUICK, rate_limit=RateLimitOptions())) as repository:
        for _ in range(3):
            assert (await repository.resolve_with_manifest("1")).data is None
