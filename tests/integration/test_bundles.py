"""Bundles, as their two operators have them: written on one side, applied on the other."""

from pathlib import Path

import pytest

from tests.integration.bundling import Site, change
from tests.integration.mainjob import KINDS, Kind, contents, open_place
from tests.servers.docker_registry import DockerRegistry
from tests.servers.seaweed import Seaweed


@pytest.mark.parametrize("kind", KINDS)
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
