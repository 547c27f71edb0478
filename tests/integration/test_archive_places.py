"""Where archives and layouts lie: plain files in every command, odd names, folders of members, what cannot be read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.mainjob import Directory, tags
from tests.integration.test_drop_sets import index, members, write
from tests.servers.command import run_ocisync
from tests.servers.images import docker_archive, image_of, layout_files, make_image, oci_archive, tar

IS_ROOT = os.geteuid() == 0
NOBODY = 65534


def test_a_plain_file_will_do_everywhere(tmp_path: Path) -> None:
    docker_archive(tmp_path / "app:1.tar", {"team/app:1": make_image()})
    run_ocisync("unpack", "app:1.tar", "root", cwd=tmp_path).expect()
    assert (tmp_path / "root" / "image" / "1").is_file()
    (tmp_path / "empty").mkdir()
    run_ocisync("pack", "empty", "on-it.tar", "--parent", "app:1.tar:team/app:1", cwd=tmp_path).expect()
    shown = run_ocisync("inspect", "on-it.tar", cwd=tmp_path).expect()
    assert "ocisync pack" in shown.stdout
    missing = run_ocisync("unpack", "app:2.tar", "other", cwd=tmp_path).expect(2)
    assert "no such file" in missing.stderr


def test_a_folder_of_archives_and_layouts_is_pushed(tmp_path: Path) -> None:
    amd, arm = members()
    oci_archive(tmp_path / "set/linux.amd64.tbz2", amd)
    write(tmp_path / "set/linux.arm64", layout_files({"": arm}))
    (tmp_path / "set/linux.s390x").mkdir()  # no layout
    (tmp_path / "set/linux.riscv64.tar.part").touch()
    (tmp_path / "set/sums.txt").touch()
    (tmp_path / "set/app.tar").touch()
    told = run_ocisync("push", tmp_path / "set", f"static:{tmp_path}/registry", "--tag", "team/app:1").expect().stderr
    assert index(tmp_path) == [("amd64", amd.digest), ("arm64", arm.digest)]
    for name, why in {
        "linux.s390x": "a folder that is no OCI layout",
        "linux.riscv64.tar.part": "its name is that of a file which is being written",
        "sums.txt": "its name is not that of an archive",
        "app.tar": "its name is not OS.ARCH",
    }.items():
        assert f"{tmp_path}/set/{name} is skipped: {why}" in told


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("linux-arm64.tar.gz", "linux.arm64.tar.gz"),
        ("app_linux_arm64.tar", "linux.arm64.tar"),
        ("arm64.tar", "linux.arm64.tar"),
    ],
)
def test_a_slip_in_a_name_is_refused_with_the_right_one(tmp_path: Path, name: str, wanted: str) -> None:
    amd, arm = members()
    docker_archive(tmp_path / "set/linux.amd64.tar", {"": amd})
    docker_archive(tmp_path / "set" / name, {"": arm})
    refused = run_ocisync("push", tmp_path / "set", f"static:{tmp_path}/registry", "--tag", "team/app:1").expect(2)
    assert f"{name}: it looks like one platform's archive" in refused.stderr
    assert f"call it {wanted} " in refused.stderr
    assert not (tmp_path / "registry").exists()


def test_a_bad_member_of_a_set_is_named(tmp_path: Path) -> None:
    amd, arm = members()
    docker_archive(tmp_path / "set/linux.amd64.tar", amd)
    wrong = tmp_path / "set/linux.s390x.tar"
    for made, told in (({"": arm}, "the file's name says linux/s390x"), ({"a:1": amd, "b:1": arm}, "holds one image")):
        docker_archive(wrong, made)
        failed = run_ocisync("push", tmp_path / "set", f"static:{tmp_path}/registry", "--tag", "a:1").expect(1)
        assert f"{wrong}: " in failed.stderr
        assert told in failed.stderr


def test_fault_67_the_configuration_says_how_far_content_may_grow(tmp_path: Path) -> None:
    image = image_of([tar({"zeros": bytes(70 * 1024**2)})])  # gzip makes it a thousandth
    docker_archive(tmp_path / "a.tar.gz", {"a:1": image}, compress=True)
    (tmp_path / "more.yaml").write_text("version: 1\narchives: {ratio: 5000, size: 1GiB}\n")
    (tmp_path / "less.yaml").write_text("version: 1\narchives: {ratio: 5000, size: 70MiB}\n")
    (tmp_path / "few.yaml").write_text("version: 1\narchives: {ratio: 5000, members: 2}\n")
    for more, told in (
        ((), "`archives.ratio`"),
        (("-c", "less.yaml"), "`archives.size`"),
        (("-c", "few.yaml"), "`archives.members`"),
    ):
        refused = run_ocisync("inspect", "a.tar.gz", *more, cwd=tmp_path).expect(1)
        assert told in refused.stderr
        assert "[limit.exceeded]" in refused.stderr
    run_ocisync("copy", "a.tar.gz", "oci:layout", "-c", "more.yaml", cwd=tmp_path).expect()
    refused = run_ocisync("unpack", "oci:layout", "root", "-c", "less.yaml", cwd=tmp_path).expect(1)
    assert "`archives.size`" in refused.stderr
    run_ocisync("unpack", "oci:layout", "root", "-c", "more.yaml", cwd=tmp_path).expect()


def test_fault_76_hostile_names_stop_no_other_image_and_move_no_cursor(tmp_path: Path) -> None:
    names = ("team/good:1", "../../evil:1", "a:\x1b[31mred")
    docker_archive(tmp_path / "a.tar", {name: make_image(name) for name in names})
    copied = run_ocisync("copy", "--all", "a.tar", "static:registry", cwd=tmp_path).expect(1)
    assert "static:registry//team/good:1\nsha256:" in copied.stdout
    assert copied.stderr.count("[name.invalid]") == 2
    assert "'../../evil:1': " in copied.stderr
    assert [path.name for path in (tmp_path / "registry/v2").iterdir() if path.is_dir()] == ["team"]
    listed = run_ocisync("tags", "a.tar", cwd=tmp_path).expect()
    packed = run_ocisync("copy", "--all", "a.tar", "oci-archive:b.tar", cwd=tmp_path).expect()
    for said in (copied, listed, packed):
        assert "\x1b" not in said.stdout + said.stderr
    assert "name.invalid" in run_ocisync("copy", "--all", "a.tar", "docker:registry", cwd=tmp_path).expect(2).stderr


def unprivileged(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`ocisync` without root's right to read everything."""
    fewer = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if IS_ROOT else ()
    command = [*fewer, sys.executable, "-m", "ocisync", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def close(folder: Path) -> None:
    """Make a folder somebody else's."""
    if IS_ROOT:
        os.chown(folder, NOBODY, NOBODY)
    folder.chmod(0o700 if IS_ROOT else 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "closed/a.tar"),
        ("inspect", "archive:closed/a.tar"),
        ("inspect", "oci:closed/layout"),
        ("inspect", "oci:closed"),
        ("copy", "a.tar", "oci:closed/new"),
        ("copy", "a.tar", "oci-archive:closed/new.tar"),
        ("unpack", "a.tar", "closed/root"),
        ("pack", "closed", "new.tar"),
        ("push", "closed", "static:registry", "--tag", "a:1"),
    ],
)
def test_a_folder_without_permission_is_said_in_one_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    docker_archive(tmp_path / "a.tar", make_image())
    docker_archive(tmp_path / "closed/a.tar", make_image())
    write(tmp_path / "closed/layout", layout_files({"1": make_image()}))
    close(tmp_path / "closed")
    done = unprivileged(*arguments, cwd=tmp_path)
    (tmp_path / "closed").chmod(0o700)
    assert done.returncode in (1, 2), done
    assert "closed" in done.stderr
    assert "Permission denied" in done.stderr or "not readable" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "closed"]


def test_all_takes_what_a_name_means(tmp_path: Path) -> None:
    one, two = make_image("one"), make_image("two")
    made = {"team/app:1": one, "team/app:2": two, "registry.example.com/other:1": two, "short:1": one}
    archive = docker_archive(tmp_path / "a.tar", made)
    for number, (wanted, published) in enumerate(
        (
            ("", ["other:1", "short:1", "team/app:1", "team/app:2"]),
            (":team/app:1", ["team/app:1"]),
            (":team/app", ["team/app:1", "team/app:2"]),
            (":short", ["short:1"]),
        )
    ):
        place = tmp_path / f"registry{number}"
        run_ocisync("copy", "--all", f"{archive}{wanted}", f"static:{place}").expect(0)
        listed = run_ocisync("ls", f"static:{place}", "--json").expect(0).stdout
        found = [(one["name"], tag) for one in json.loads(listed) for tag in tags(Directory(place), one["name"])]
        assert sorted(f"{name}:{tag}" for name, tag in found) == published
    told = run_ocisync("copy", "--all", f"{archive}:nope:1", f"static:{tmp_path}/none").expect(1).stderr
    assert "no named image is called 'nope:1'; it has " in told
    assert not (tmp_path / "none").exists()
    layout = tmp_path / "layout"
    run_ocisync("copy", "--all", f"static:{tmp_path}/registry0//team/app:2", f"oci:{layout}").expect(0)
    assert len(json.loads((layout / "index.json").read_text())["manifests"]) == 1
