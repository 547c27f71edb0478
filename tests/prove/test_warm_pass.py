"""The proof on 200 tags; tests/integration/test_warm_pass.py runs the same on fewer."""

from pathlib import Path

import pytest

from tests.integration.mainjob import KINDS, Kind
from tests.integration.test_warm_pass import prove_registry, prove_static
from tests.servers.docker_registry import DockerRegistry
from tests.servers.seaweed import Seaweed

pytestmark = pytest.mark.prove
TAGS = 200


@pytest.mark.parametrize("kind", KINDS)
def test_200_tags_to_a_static_target(kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    prove_static(kind, TAGS, tmp_path, registry, s3)


def test_200_tags_to_a_registry(tmp_path: Path, registry: DockerRegistry) -> None:
    prove_registry(TAGS, tmp_path, registry)
