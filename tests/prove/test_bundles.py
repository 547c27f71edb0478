"""Bundles at length: 2,000 flipped bits, 50 kills at random moments of each kind, 100,000 blobs, a blob of 40 GiB."""

from pathlib import Path

import pytest

from tests.integration.bundle_flips import flip_bits, make_flipping_site
from tests.integration.bundle_kills import make_site, random_kills
from tests.integration.test_bundle_memory import prove_huge, prove_many
from tests.servers.docker_registry import DockerRegistry

pytestmark = [pytest.mark.prove, pytest.mark.timeout(7200)]
GIB = 1 << 30


def test_2000_flipped_bits(tmp_path: Path, registry: DockerRegistry) -> None:
    flip_bits(make_flipping_site(tmp_path, registry), 2000, seed=2000)


def test_50_kills_at_random_moments(tmp_path: Path, registry: DockerRegistry) -> None:
    kills = random_kills(make_site(tmp_path / "site", registry), tmp_path, 50, seed=50)
    print(f"{kills} kills")  # noqa: T201 (the proof's figure)


def test_100_000_blobs(tmp_path: Path) -> None:
    prove_many(tmp_path, repositories=20, images=50, layers=100)


def test_a_blob_of_40_gib(tmp_path: Path) -> None:
    prove_huge(tmp_path, 40 * GIB, "15GiB")
