"""A layer of 2 GiB to both targets, from a registry and from an archive: 128 MiB at most."""

from pathlib import Path

import pytest

from tests.integration.big import MIB
from tests.integration.mainjob import KINDS, Kind
from tests.integration.test_memory import prove_from_archive, prove_from_registry
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
