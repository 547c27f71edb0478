"""Bundles, as their two operators have them: written on one side, applied on the other."""

from pathlib import Path

import pytest

from tests.integration.bundling import Site, change
from tests.integration.mainjob import Kind, contents, open_place
from tests.servers.docker_registry import DockerRegistry
from tests.servers.seaweed import Seaweed


@pytest.mark.parametrize("kind", ["directory", pytest.param("s3", marks=pytest.mark.prove)])
def test_full_and_five_deltas_equal_a_direct_mirror(
    kind: Kind, tmp_path: Path, registry: DockerRegistry, s3: Seaweed
) -> None:
    with open_place(kind, tmp_path / "out", s3) as out, open_place(kind, tmp_path / "inner", s3) as inner:
        site = Site(tmp_path / "site", registry, {"out": out, "inner": inner})
        for number in range(6):
            change(site, number)
            base = ("--base", site.inventory(number)) if number else ()
            site.create(*base)
            site.mirror()
            site.apply(*site.files(number + 1), options=("--prune",))
            assert contents(inner) == contents(out), number
        assert len(site.files(6)) == 2


def test_the_same_bundle_is_not_written_twice(tmp_path: Path, registry: DockerRegistry, s3: Seaweed) -> None:
    with open_place("directory", tmp_path / "out", s3) as out:
        site = Site(tmp_path / "site", registry, {"out": out})
        change(site, 0)
        site.create()
        before = {path: path.stat().st_mtime_ns for path in site.media.iterdir()}
        assert "mirror-0001" in site.create().stdout
        assert {path: path.stat().st_mtime_ns for path in site.media.iterdir()} == before
        site.inventory(1).with_name("mirror-0001.tar").unlink()
        assert "mirror-0002" in site.create().stdout
        assert "no bundle was written" in site.create("--base", site.inventory(2)).stdout
