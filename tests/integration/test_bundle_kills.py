"""A kill at every named point of `bundle create` and `apply`; tests/prove/test_bundles.py has the long version."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.bundle_kills import APPLY_POINTS, kill_each_apply, kill_each_create, make_site
from tests.integration.bundling import Site
from tests.integration.mainjob import Directory
from tests.servers.docker_registry import docker_registry


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Both sides."""
    folder = tmp_path_factory.mktemp("bundles")
    with docker_registry(folder / "registry") as registry:
        yield make_site(folder / "site", registry)


def test_kills_while_a_bundle_is_written(site: Site, tmp_path: Path) -> None:
    kill_each_create(site, tmp_path)


_SOME = dict(list(APPLY_POINTS.items())[::3])


@pytest.mark.parametrize("points", [_SOME, pytest.param(APPLY_POINTS, marks=pytest.mark.prove)], ids=["some", "all"])
def test_kills_while_a_bundle_is_applied(points: dict[str, int], site: Site, tmp_path: Path) -> None:
    straight, killed = Directory(tmp_path / "straight"), Directory(tmp_path / "killed")
    for place in (straight, killed):
        place.path.mkdir()
    own = Site(tmp_path, site.registry, {"out": straight, "killed": killed})
    own.media.symlink_to(site.media)
    kill_each_apply(own, straight, killed, tmp_path, points)
