"""Rules whose source is no registry: static registries, layouts, archives, and other targets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.servers.command import run_ocisync
from tests.servers.images import Image, Index, docker_archive, make_image, make_index, oci_archive

ONE, TWO = make_image(seed="one"), make_index([make_image(seed="two")])


def once(folder: Path, rule: str, more: str = "") -> dict[str, str]:
    """Run one rule into a static registry; what is there then, by tag."""
    config = folder / "ocisync.yaml"
    config.write_text(
        f"version: 1\ntargets: {{out: {{type: static, path: ./out}}{more}}}\n"
        f"sync:\n  - {rule}\ndaemon: {{state: ./state}}\n"
    )
    run_ocisync("plan", "-c", config).expect(0)
    run_ocisync("once", "-c", config).expect(0)
    again = run_ocisync("once", "-c", config).expect(0).stdout
    assert "0 copied" in again
    tags = json.loads(run_ocisync("ls", "out/app", "-c", config, "--json").expect(0).stdout)
    return {tag["tag"]: tag["digest"] for tag in tags}


def test_a_static_registry_and_another_target(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "in.tar", {"a:1": ONE})
    for tag in ("1.0", "2.0"):
        run_ocisync("copy", archive, f"static:{tmp_path}/in//team/app:{tag}").expect(0)
    found = once(tmp_path, "{source: 'static:./in//team/app', target: out/app}")
    assert set(found) == {"1.0", "2.0"}
    only = tmp_path / "only"
    only.mkdir()
    assert set(once(only, "{source: 'static:../in//team/app:1.0', target: out/app}")) == {"1.0"}
    other = tmp_path / "other"
    other.mkdir()
    rule = "{source: 'target:inner/team/app', target: out/app, tags: {allow: ['2.*']}}"
    assert set(once(other, rule, ", inner: {type: static, path: ../in}")) == {"2.0"}


def test_a_layout_with_plain_tags(tmp_path: Path) -> None:
    archive = oci_archive(tmp_path / "in.tar", {"1": ONE, "2": TWO})
    run_ocisync("copy", "--all", archive, f"oci:{tmp_path}/lay").expect(0)
    assert once(tmp_path, "{source: 'oci:./lay', target: out/app}") == {"1": ONE.digest, "2": TWO.digest}


def test_an_archive_whose_images_have_full_names(tmp_path: Path) -> None:
    named: dict[str, Image | Index] = {
        "docker.io/team/app:1": ONE,
        "docker.io/team/app:2": TWO,
        "docker.io/team/tool:9": ONE,
    }
    oci_archive(tmp_path / "in.tar", named)
    found = once(tmp_path, "{source: 'oci-archive:./in.tar:team/app', target: out/app}")
    assert found == {"1": ONE.digest, "2": TWO.digest}


def test_a_docker_archive(tmp_path: Path) -> None:
    docker_archive(tmp_path / "in.tar", {"team/app:1": ONE})
    assert set(once(tmp_path, "{source: 'docker-archive:./in.tar', target: out/app}")) == {"1"}


def test_one_tag_under_two_names_is_told(tmp_path: Path) -> None:
    oci_archive(tmp_path / "in.tar", {"a/x:1": ONE, "b/x:1": TWO})
    config = tmp_path / "ocisync.yaml"
    config.write_text(
        "version: 1\ntargets: {out: {type: static, path: ./out}}\n"
        "sync: [{source: 'oci-archive:./in.tar', target: out/app}]\ndaemon: {state: ./state}\n"
    )
    assert "have one tag" in run_ocisync("once", "-c", config).expect(1).stderr


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("static:./in", "needs the form static:DIR//NAME"),
        ("target:nowhere/app", 'no target is named "nowhere"'),
        ("dir:./x", "is not"),
    ],
)
def test_a_place_that_is_none(source: str, told: str, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    head = "version: 1\ntargets: {out: {type: static, path: ./o}}\n"
    config.write_text(f"{head}sync: [{{source: '{source}', target: out/a}}]\n")
    assert told in run_ocisync("config", "check", config).expect(2).stderr
