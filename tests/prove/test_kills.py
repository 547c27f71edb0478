"""300 kills at random moments for each target, and one at every time that a named point is passed."""

from pathlib import Path

import pytest

from tests.integration.kills import POINTS, fill_source, killed_run, random_kills, straight_run
from tests.integration.mainjob import KINDS, Kind
from tests.integration.test_kills import EACH
from tests.servers.docker_registry import DockerRegistry
from tests.servers.seaweed import Seaweed

pytestmark = pytest.mark.prove
KILLS = 300


@pytest.mark.parametrize("kind", KINDS)
def test_random_kills(kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    world = random_kills(kind, KILLS, tmp_path, registry, s3, seed=300)
    print(f"{world.kills} kills, {world.daemon_kills} of them of the daemon")  # noqa: T201 (the proof's figure)


@pytest.mark.parametrize(("kind", "point"), EACH)
def test_every_time_a_point_is_passed(
    kind: Kind, point: str, tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    wanted = fill_source(registry)
    straight = straight_run(kind, tmp_path / "straight", registry, s3)
    times = 0
    while found := killed_run(kind, f"{point}@{times + 1}", tmp_path / f"{times}", registry, s3, wanted):
        assert found == straight, f"{point}@{times + 1}"
        times += 1
    assert times >= POINTS[point]
    print(f"{kind}: killed at {point} {times} times")  # noqa: T201 (the proof's figure)
