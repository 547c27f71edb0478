"""Targets of type layout: an OCI layout per repository, kept fresh by rules and by drop folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.mainjob import write_config
from tests.servers.command import Finished, run_ocisync
from tests.servers.images import Index, docker_archive, make_image, multi_platform, oci_archive
from tests.servers.skopeo import skopeo

ONE = make_image(seed="one")
TWO = multi_platform()


def prepare(folder: Path, *, prune: bool = False, **more: object) -> Path:
    """A source with two tags, and a rule that mirrors it into a layout."""
    archive = docker_archive(folder / "in.tar", {"a:1": ONE})
    run_ocisync("copy", archive, f"static:{folder}/in//team/app:1.0").expect(0)
    index = write_index(folder, TWO)
    run_ocisync("copy", index, f"static:{folder}/in//team/app:2.0").expect(0)
    rule = {"source": f"static:{folder}/in//team/app", "target": "files/team/app", "prune": prune, **more}
    return write_config(folder, {"files": {"type": "layout", "path": "./out"}}, sync=[rule])


def write_index(folder: Path, index: Index) -> str:
    return f"oci-archive:{oci_archive(folder / 'index.tar', {'2': index})}"


def once(config: Path) -> Finished:
    return run_ocisync("once", "-c", config).expect(0)


def names(layout: Path) -> dict[str, str]:
    """Digests in index.json by their names."""
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    return {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in entries}


def test_a_rule_keeps_a_layout_fresh(tmp_path: Path) -> None:
    config = prepare(tmp_path, prune=True, prune_limit=1.0)
    layout = tmp_path / "out/team/app"
    plan = run_ocisync("plan", "-c", config).expect(0).stdout
    assert "1.0" in plan
    assert not layout.exists()
    once(config)
    assert set(names(layout)) == {"1.0", "2.0"}
    assert names(layout)["2.0"] == TWO.digest
    skopeo("copy", "--all", f"oci:{layout}:2.0", f"dir:{tmp_path}/pulled")
    assert (tmp_path / "pulled/manifest.json").read_bytes() == TWO.manifest
    before = (layout / "index.json").stat()
    assert "0 copied" in once(config).stdout
    assert (layout / "index.json").stat().st_ino == before.st_ino
    # a tag moves, and another goes
    run_ocisync("copy", write_index(tmp_path, TWO), f"static:{tmp_path}/in//team/app:1.0").expect(0)
    run_ocisync("rm", f"static:{tmp_path}/in", "team/app:2.0").expect(0)
    once(config)
    assert names(layout) == {"1.0": TWO.digest}
    assert "1.0" in run_ocisync("tags", f"oci:{layout}").expect(0).stdout


@pytest.mark.parametrize("rewrite", [True, False])
def test_one_platform_of_an_index(rewrite: bool, tmp_path: Path) -> None:
    config = prepare(tmp_path, platforms=["linux/arm64"], tags={"allow": ["2.0"]}, rewrite_index=rewrite)
    once(config)
    layout = tmp_path / "out/team/app"
    assert (names(layout)["2.0"] == TWO.digest) is not rewrite
    assert "0 copied" in once(config).stdout
    skopeo("copy", "--override-arch", "arm64", f"oci:{layout}:2.0", f"dir:{tmp_path}/pulled")


def test_a_drop_folder_fills_layouts(tmp_path: Path) -> None:
    drop = tmp_path / "drop"
    config = write_config(
        tmp_path,
        {"files": {"type": "layout", "path": "./out"}},
        drop=[{"path": str(drop), "target": "files", "stable": "0s", "settle": "0s", "done": "delete"}],
    )
    docker_archive(drop / "app.tar", {"team/app:3": ONE})
    once(config)
    assert set(names(tmp_path / "out/team/app")) == {"3"}
    assert list(drop.glob("*.tar")) == []


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (("gc", "files"), "files: it holds layouts; this is for targets of type static or s3"),
        (("serve", "files"), "files: it holds layouts; this is for targets of type static or s3"),
        (("clients", "podman", "files"), "files: no client pulls from layouts; name a target of another type"),
    ],
)
def test_what_layouts_are_not_for(command: tuple[str, ...], told: str, tmp_path: Path) -> None:
    config = write_config(tmp_path, {"files": {"type": "layout", "path": "./out"}})
    assert told in run_ocisync(*command, "-c", config).expect(2).stderr


def test_layouts_cannot_be_served_by_the_daemon(tmp_path: Path) -> None:
    config = write_config(tmp_path, {"files": {"type": "layout", "path": "./out"}}, daemon={"serve": "files"})
    assert "which no client can pull from" in run_ocisync("config", "check", config).expect(2).stderr
