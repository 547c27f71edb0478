"""Kills at random moments and at every named point; tests/prove/test_kills.py has the long version."""

from pathlib import Path

import pytest

from tests.integration.kills import ONLY, POINTS, fill_source, killed_run, random_kills, straight_run
from tests.integration.mainjob import KINDS, Kind
from tests.servers.docker_registry import DockerRegistry
from tests.servers.seaweed import Seaweed

KILLS = 6
EACH = [(kind, point) for kind in KINDS for point in POINTS if ONLY.get(point, kind) == kind]


@pytest.mark.parametrize("kind", KINDS)
def test_fault_57_kills_at_random_moments(kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    random_kills(kind, KILLS, tmp_path, registry, s3, seed=57)


@pytest.mark.parametrize("kind", KINDS)
def test_fault_57_a_kill_at_every_named_point(
    kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    wanted = fill_source(registry)
    straight = straight_run(kind, tmp_path / "straight", registry, s3)
    assert straight.files == {"done", "done/docker.tar", "done/oci.tar"}
    for point in (point for of, point in EACH if of == kind):
        found = killed_run(kind, point, tmp_path / point, registry, s3, wanted)
        assert found is not None, f"{point} was not reached"
        assert found.files == straight.files, point
        assert found.content.keys() == straight.content.keys(), point
        assert found == straight, point
