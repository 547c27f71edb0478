"""A layer of 2 GiB to both targets, from a registry and an archive: 128 MiB at most; a thousand slow readers: 160."""

import resource
from pathlib import Path

import pytest

from tests.integration.big import MIB
from tests.integration.mainjob import KINDS, Kind
from tests.integration.test_memory import prove_from_archive, prove_from_registry
from tests.integration.test_serve_bounds import memory_of_slow_readers
from tests.servers.docker_registry import DockerRegistry
from tests.servers.seaweed import Seaweed

pytestmark = pytest.mark.prove
SIZE = 2048 * MIB


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_registry(kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    prove_from_registry(kind, SIZE, tmp_path, registry, s3)


@pytest.mark.parametrize("kind", KINDS)
def test_from_an_archive(kind: Kind, tmp_path: Path, s3: Seaweed) -> None:
    prove_from_archive(kind, SIZE, tmp_path, s3)


@pytest.mark.parametrize("is_tls", [False, True], ids=["plain", "TLS"])
def test_a_thousand_slow_readers_of_a_bucket(is_tls: bool, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("a thousand readers need 4,096 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    try:
        _, held = memory_of_slow_readers(1000, is_tls, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert held < 160 * MIB
    print(f"{held // MIB} MiB")  # noqa: T201 (the proof's figure)
