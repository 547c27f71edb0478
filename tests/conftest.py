"""Fixtures that every test may ask for; the servers behind them are in tests/servers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from tests.integration.bulk_engines import BY_AIOHTTP, BY_THREADS, Engine
from tests.servers.docker_registry import DockerRegistry, docker_registry
from tests.servers.fault_proxy import FaultProxy, fault_proxy
from tests.servers.postgres import Postgres, postgres
from tests.servers.seaweed import Bucket, Seaweed, bucket_front, seaweed
from tests.servers.tls import Certificate, make_certificate

settings.register_profile("any machine", deadline=None)  # a busy machine is no failure
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """asyncio's own loop, in debug-free form."""
    return "asyncio", {"use_uvloop": False}


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """A blocking call made by ocisync inside an event loop is an error, but for a loop that a thread has to itself."""
    with blockbuster_ctx("ocisync") as blocker:
        for function in blocker.functions.values():
            function.can_block_in("stores/registry/auth/ecr.py", "_call_in_thread")
        yield


_BY_THREADS_AT_LENGTH = pytest.param(BY_THREADS, id="threads", marks=pytest.mark.prove)


@pytest.fixture(params=[pytest.param(BY_AIOHTTP, id="aiohttp"), _BY_THREADS_AT_LENGTH])
def other_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `engine`, the second way only in `make prove`."""
    monkeypatch.setattr(Engine, "bulk_from", request.param)


@pytest.fixture(params=[BY_AIOHTTP, BY_THREADS], ids=["aiohttp", "threads"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs once with each way in which the bytes of large blobs move."""
    monkeypatch.setattr(Engine, "bulk_from", request.param)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """An empty, anonymous docker-registry."""
    with docker_registry(tmp_path / "docker-registry") as running:
        yield running


@pytest.fixture
def registry_proxy(registry: DockerRegistry) -> Iterator[FaultProxy]:
    """A fault proxy in front of `registry`."""
    with fault_proxy(registry.url) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    """SeaweedFS, one for the whole run."""
    with seaweed(tmp_path_factory.mktemp("seaweed")) as running:
        yield running


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgres]:
    """PostgreSQL, one cluster for the whole run."""
    with postgres() as running:
        yield running


@pytest.fixture
def bucket(s3: Seaweed) -> Bucket:
    """A new, empty bucket."""
    return s3.bucket()


@pytest.fixture
def bucket_url(bucket: Bucket) -> Iterator[str]:
    """The bucket at the root of a host, read anonymously."""
    with bucket_front(bucket) as url:
        yield url


@pytest.fixture
def s3_proxy(s3: Seaweed) -> Iterator[FaultProxy]:
    """A fault proxy in front of SeaweedFS."""
    with fault_proxy(s3.endpoint) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A certificate for loopback, and the authority to trust."""
    return make_certificate(tmp_path_factory.mktemp("certificate"))
