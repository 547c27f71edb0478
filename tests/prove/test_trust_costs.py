"""What `verify` costs a pass in which nothing changed: CPU time, in pairs of passes."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import pytest

from bench.measure import run
from bench.peers import OCISYNC
from tests.integration.test_trust import Site
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import make_image

pytestmark = pytest.mark.prove
TAGS, PAIRS = 500, 15
IMAGES_ONLY: dict[str, object] = {"tags": {"deny": ["sha256-.*"]}}


def test_a_pass_with_verify_takes_no_more_than_one_without(tmp_path: Path, registry: DockerRegistry) -> None:
    """Both over the same images. Shown beside it: without `verify` the tags of signatures are tags like others."""
    settings: dict[str, dict[str, object]] = {"signed": {"verify": "ours"}, "all": {}, "images": IMAGES_ONLY}
    for name in settings:
        (tmp_path / name).mkdir()
    sites = {name: Site(tmp_path / name, registry) for name in settings}
    for number in range(TAGS):
        image = make_image(str(number), layers=1, size=100)
        sites["signed"].put(f"v{number}", image, sites["signed"].sign(image))
    spent: dict[str, list[float]] = {name: [] for name in sites}
    for turn in range(PAIRS + 1):
        for name, site in sites.items():
            site.rule(**settings[name])
            cpu = run([OCISYNC, "once", "-q", "-c", site.file], site.folder).cpu
            if turn:  # the first pass copies
                spent[name].append(cpu)
    whole, images = (
        median(one / other for one, other in zip(spent["signed"], spent[name], strict=True))
        for name in ("all", "images")
    )
    print(f"{whole:.3f} of a pass over all tags, {images:.3f} of one over those of images")  # noqa: T201
    assert images <= 1.02
