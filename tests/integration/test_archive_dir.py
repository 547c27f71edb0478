"""skopeo's `dir:` folders: read and written, dropped, and judged by skopeo."""

import json
from pathlib import Path

import pytest

from tests.servers.command import run_ocisync
from tests.servers.images import Image, Index, layout_files, make_image, multi_platform
from tests.servers.skopeo import skopeo


def layout(path: Path, image: Image | Index) -> Path:
    """An OCI layout of one image, for skopeo to read."""
    for name, data in layout_files({"1.0": image}).items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("image", [make_image(), multi_platform()], ids=["image", "index"])
@pytest.mark.parametrize("source", ["dir:{}", "{}"], ids=["named", "plain"])
def test_what_skopeo_writes_is_read(source: str, image: Image | Index, tmp_path: Path) -> None:
    skopeo("copy", "--all", f"oci:{layout(tmp_path / 'layout', image)}:1.0", f"dir:{tmp_path}/app:1.0")
    place = source.format(tmp_path / "app:1.0")
    done = run_ocisync("copy", place, f"static:{tmp_path}/registry//team/app:1.0").expect(0)
    assert image.digest in done.stdout
    run_ocisync("verify", "--deep", f"static:{tmp_path}/registry").expect(0)
    assert image.digest in run_ocisync("digest", place).expect(0).stdout


@pytest.mark.parametrize("image", [make_image(), multi_platform()], ids=["image", "index"])
def test_what_is_written_is_read_by_skopeo(image: Image | Index, tmp_path: Path) -> None:
    source = f"oci:{layout(tmp_path / 'layout', image)}:1.0"
    for _ in range(2):  # a folder that holds such an image is replaced
        run_ocisync("copy", source, f"dir:{tmp_path}/out").expect(0)
    skopeo("copy", "--all", "--preserve-digests", f"dir:{tmp_path}/out", f"oci:{tmp_path}/back:1.0")
    entries = json.loads((tmp_path / "back/index.json").read_bytes())["manifests"]
    assert [entry["digest"] for entry in entries] == [image.digest]


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    source = f"oci:{layout(tmp_path / 'layout', make_image())}:1.0"
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes").write_text("mine")
    assert "other things" in run_ocisync("copy", source, f"dir:{tmp_path}/out").expect(1).stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes"]


def test_a_damaged_blob_is_refused(tmp_path: Path) -> None:
    image = make_image()
    skopeo("copy", f"oci:{layout(tmp_path / 'layout', image)}:1.0", f"dir:{tmp_path}/app")
    (tmp_path / "app" / list(image.blobs)[-1][7:]).write_bytes(b"other")
    assert run_ocisync("copy", f"dir:{tmp_path}/app", f"static:{tmp_path}/registry//app:1").code == 1


@pytest.mark.parametrize("done", ["move", "delete"])
def test_a_dropped_tree_of_skopeo_sync_is_published_under_its_names(done: str, tmp_path: Path) -> None:
    one, two = make_image("one"), multi_platform("two")
    for place, image in (("team/app:1.0", one), ("team/app:2.0", two)):
        source = f"oci:{layout(tmp_path / f'layout-{image.digest[7:]}', image)}:1.0"
        (tmp_path / "drop" / place).parent.mkdir(parents=True, exist_ok=True)
        skopeo("copy", "--all", source, f"dir:{tmp_path / 'drop' / place}")
    (tmp_path / "ocisync.yaml").write_text(
        f"version: 1\ntargets: {{t: {{type: static, path: {tmp_path}/registry}}}}\n"
        f"drop: [{{path: {tmp_path}/drop, target: t, done: {done}, stable: 0s, settle: 0s}}]\n"
        f"daemon: {{state: {tmp_path}/state}}\n"
    )
    run_ocisync("once", "-c", tmp_path / "ocisync.yaml").expect(0)
    published = tmp_path / "registry/v2/team/app/manifests"
    assert (published / "1.0").read_bytes() == one.manifest
    assert (published / "2.0").read_bytes() == two.manifest
    assert not (tmp_path / "drop/team/app:1.0").exists()
    assert (tmp_path / "drop/done/team/app:1.0").exists() == (done == "move")
