"""Copies within one registry or directory: blobs are mounted or linked, a tag gets another name by a manifest."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.integration.mainjob import ENV, write_config
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import Access, DockerRegistry
from tests.servers.images import image_of, noise, push, tar

FROM, TO = "team/app", "prod/app"


def fill(registry: DockerRegistry) -> int:
    """An image under a tag; how many blobs it has."""
    made = image_of([tar({"one": noise(20_000, "one")}), tar({"two": noise(20_000, "two")})])
    push(registry.client, FROM, "1", made)
    return 3


def copy(registry: DockerRegistry, source: str, target: str) -> list[Access]:
    """The requests of one copy."""
    before = len(registry.requests())
    run_ocisync("copy", f"docker://{registry.host}/{source}", f"docker://{registry.host}/{target}", env=ENV).expect(0)
    return registry.requests()[before:]


def kinds(requests: list[Access]) -> Counter[str]:
    """How often what was asked for: the method, and manifests, blobs, uploads or mounts."""
    return Counter(f"{one.method} {_kind(one.path)}" for one in requests)


def _kind(path: str) -> str:
    if "mount=" in path:
        return "mount"
    return next(kind for kind in ("uploads", "blobs", "manifests", "tags") if f"/{kind}/" in path)


def test_a_copy_within_one_registry_mounts_and_neither_reads_nor_sends_a_blob(registry: DockerRegistry) -> None:
    blobs = fill(registry)
    asked = kinds(copy(registry, f"{FROM}:1", f"{TO}:1"))
    assert asked["POST mount"] == blobs
    assert not {kind for kind in asked if kind.startswith(("GET blobs", "PUT uploads", "PATCH", "POST uploads"))}


def test_an_unchanged_copy_costs_three_requests(registry: DockerRegistry) -> None:
    fill(registry)
    copy(registry, f"{FROM}:1", f"{TO}:1")
    asked = kinds(copy(registry, f"{FROM}:1", f"{TO}:1"))
    assert asked == {
        "HEAD manifests": 2,
        "PUT manifests": 1,
    }  # the last: whether the registry refuses what is not whole


def test_a_tag_gets_another_name_in_its_repository_by_its_manifest_alone(registry: DockerRegistry) -> None:
    fill(registry)
    once = {"GET manifests": 1, "PUT manifests": 1}
    assert kinds(copy(registry, f"{FROM}:1", f"{FROM}:2")) == once
    assert kinds(copy(registry, f"{FROM}:1", f"{FROM}:2")) == once  # a look whether it is there would cost as much


def test_a_rule_that_gives_tags_another_name_looks_at_what_is_on_record(
    registry: DockerRegistry, tmp_path: Path
) -> None:
    fill(registry)
    target = {"type": "registry", "url": registry.url}
    rule = {"source": f"{registry.host}/{FROM}", "target": f"t/{FROM}", "tags": {"allow": ["1"]}}
    more = {"rename": {"tags": {"1": "stable"}}}
    file = write_config(tmp_path, {"t": target}, sync=[{**rule, **more}])
    counts = []
    for _ in range(2):
        before = len(registry.requests())
        run_ocisync("once", "-c", file, env=ENV).expect(0)
        counts.append(kinds(registry.requests()[before:]))
    assert counts[0]["GET manifests"] == counts[0]["PUT manifests"] == 1
    assert counts[1]["PUT manifests"] == counts[1]["GET manifests"] == 0


@pytest.mark.parametrize("prefix", ["", "/below/a/path"], ids=["root", "path"])
def test_the_second_repository_of_a_target_below_a_path_mounts_what_the_first_has(
    registry: DockerRegistry, tmp_path: Path, prefix: str
) -> None:
    blobs = fill(registry)
    elsewhere = f"localhost:{registry.port}"  # another host, as far as names tell
    file = tmp_path / "ocisync.yaml"
    file.write_text(
        f"""version: 1
registries: {{"{elsewhere}": {{plain_http: true}}}}
targets: {{t: {{type: registry, url: "http://{registry.host}{prefix}"}}}}
sync:
  - {{source: "{elsewhere}/{FROM}", target: t/one}}
  - {{source: "{elsewhere}/{FROM}", target: t/two}}
daemon: {{state: ./state}}
"""
    )
    before = len(registry.requests())
    run_ocisync("once", "-c", file, env=ENV).expect(0)
    asked = registry.requests()[before:]
    mounts = [one for one in asked if "mount=" in one.path]
    assert len(mounts) == blobs
    assert {one.status for one in mounts} == {201}


def test_a_copy_within_one_directory_links(registry: DockerRegistry, tmp_path: Path) -> None:
    fill(registry)
    place = f"static:{tmp_path / 'out'}//"
    run_ocisync("copy", f"docker://{registry.host}/{FROM}:1", f"{place}{FROM}:1", env=ENV).expect(0)
    run_ocisync("copy", f"{place}{FROM}:1", f"{place}{TO}:1", env=ENV).expect(0)
    run_ocisync("copy", f"{place}{FROM}:1", f"{place}{FROM}:2", env=ENV).expect(0)
    blobs = [sorted((tmp_path / "out/v2" / name / "blobs").iterdir()) for name in (FROM, TO)]
    assert [one.stat().st_ino for one in blobs[0]] == [one.stat().st_ino for one in blobs[1]]
    run_ocisync("verify", f"static:{tmp_path / 'out'}", "--deep", env=ENV).expect(0)
