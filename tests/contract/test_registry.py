"""A repository of a real docker-registry keeps the targets' contract."""

from collections.abc import AsyncIterator

import pytest

from ocisync.stores.registry.client import RegistryClient, open_registries
from ocisync.stores.registry.options import RegistryOptions
from ocisync.stores.registry.repository import RegistryRepository
from tests.contract.target_contract import TargetContract
from tests.servers.docker_registry import DockerRegistry

FAST = RegistryOptions(first_wait=0.01, idle_timeout=5.0)


class TestRegistryRepository(TargetContract):
    @pytest.fixture
    async def client(self) -> AsyncIterator[RegistryClient]:
        async with open_registries({}, FAST) as client:
            yield client

    @pytest.fixture
    def target(self, registry: DockerRegistry, client: RegistryClient) -> RegistryRepository:
        return client.repository(registry.host, "library/app")

    @pytest.fixture
    def neighbour(self, registry: DockerRegistry, client: RegistryClient) -> tuple[str, RegistryRepository]:
        return "other", client.repository(registry.host, "other")
