"""A hundred kills at random moments while a policy holds."""

from pathlib import Path

import pytest

from tests.integration.trust_kills import random_kills
from tests.servers.docker_registry import DockerRegistry


@pytest.mark.prove
def test_no_refused_image_is_ever_visible(tmp_path: Path, registry: DockerRegistry) -> None:
    world = random_kills(100, tmp_path, registry, seed=20)
    print(f"{world.kills} kills, {len(world.signed)} images were signed, {len(world.refused)} were not")  # noqa: T201
