"""A kill in the middle of 2 GiB: less than a tenth is read from the source again."""

from pathlib import Path

import pytest

from tests.integration.big import MIB
from tests.integration.test_resume import KINDS, Kind, prove_resume
from tests.servers.docker_registry import DockerRegistry
from tests.servers.seaweed import Seaweed

pytestmark = pytest.mark.prove


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_in_the_middle_of_2_gib(kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    prove_resume(kind, 2048 * MIB, tmp_path, registry, s3)
