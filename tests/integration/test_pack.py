"""Packing: equal folders give equal images, which other tools read and which unpack to the folder again."""

from __future__ import annotations

import json
import os
import random
import shutil
import tarfile
import tracemalloc
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest

from ocisync.commands.images.pack import pack_to, parse_destination
from ocisync.commands.images.unpack import unpack_to
from ocisync.content.compress import BLOCK
from ocisync.content.verify import read_manifest
from ocisync.errors import InputChanged, InputError
from ocisync.images.inspect import load_manifest
from ocisync.images.pack.excludes import Excludes
from ocisync.images.pack.layer import TreeOptions, TreeReader
from ocisync.images.pack.settings import PackSettings
from ocisync.images.pack.source import Packing, open_packed
from ocisync.images.unpack.unpack_image import UnpackOptions
from ocisync.model.locator import parse_locator
from ocisync.model.manifest import parse_json_object
from ocisync.sync.reports import JobReport
from tests.integration.rootfs import (
    CAPABILITY,
    file,
    folder,
    image,
    in_thread,
    layer,
    names,
    session_in,
    unpack_layout,
    write_layout,
)
from tests.servers.command import run_ocisync
from tests.servers.docker_registry import DockerRegistry
from tests.servers.images import image_of, make_index, oci_archive
from tests.servers.skopeo import skopeo
from tests.trees import differences

IS_ROOT = os.geteuid() == 0
PLAIN = PackSettings(user="0")


class Tree(NamedTuple):
    """A folder's content, in the order in which it is to be made."""

    files: dict[str, bytes]
    folders: dict[str, int]  # modes


def small_tree() -> Tree:
    """A bit of everything."""
    files = {f"usr/lib/{number:03}": b"%d" % number * number for number in range(200)}
    files |= {"etc/käse": b"x", "e" * 200: b"long", "zeros": bytes(3_000_000), "etc/-": b"", "etc.conf": b"y"}
    return Tree(files, {"etc": 0o755, "usr": 0o711, "usr/lib": 0o2775, "tmp": 0o1777, "empty": 0o700})


def build(root: Path, tree: Tree, seed: int = 0, *, sparse: bool = False) -> Path:
    """Make the folder, in an order and with times that depend on the seed."""
    shuffle = random.Random(seed)
    root.mkdir()
    for name in shuffle.sample(sorted(tree.folders), len(tree.folders)):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in shuffle.sample(sorted(tree.files), len(tree.files)):
        with (root / name).open("wb") as out:
            if not (sparse and not any(tree.files[name])):
                out.write(tree.files[name])
            out.truncate(len(tree.files[name]))
    if "usr/lib/007" in tree.files:
        _links(root)
    for name, mode in tree.folders.items():
        (root / name).chmod(mode)
    for path in sorted(root.rglob("*"), key=lambda path: -len(path.parts)):
        os.utime(path, (seed, shuffle.randrange(10**9)), follow_symlinks=False)
    return root


def _links(root: Path) -> None:
    (root / "etc" / "link").symlink_to("../usr/lib/001")
    (root / "out").symlink_to("/etc/passwd")
    (root / "z-hard").hardlink_to(root / "usr/lib/007")
    (root / "etc" / "hard").hardlink_to(root / "usr/lib/007")
    os.mkfifo(root / "pipe")
    (root / "tool").write_bytes(b"x")
    (root / "tool").chmod(0o4755)
    os.setxattr(root / "tool", "user.note", b"\xff\x00=\n")
    if IS_ROOT:
        os.mknod(root / "null", 0o20666, os.makedev(1, 3))
        os.setxattr(root / "tool", "security.capability", CAPABILITY)
        os.setxattr(root / "out", "trusted.link", b"1")
        os.chown(root / "etc" / "käse", 3_000_000, 7)


async def pack(root: Path, place: str, settings: PackSettings = PLAIN, epoch: int = 0) -> JobReport:
    """Pack, well."""
    async with session_in(root.parent / "scratch") as session:
        packed = await pack_to(session, root, settings, parse_destination(place), epoch)
    assert packed.report.ok, packed.report.worst()
    return packed.report


async def packed_config(root: Path, settings: PackSettings, epoch: int = 0) -> dict[str, object]:
    """The configuration of a folder's image."""
    async with open_packed(Packing(root, settings, "linux/amd64", epoch), root.parent) as source:
        manifest = await load_manifest(source, await source.resolve(""))
        return parse_json_object(await read_manifest(source, manifest.children[0]))


async def test_equal_folders_give_equal_digests(tmp_path: Path) -> None:
    await in_thread(partial(build, tmp_path / "a", small_tree(), 1))
    await in_thread(partial(build, tmp_path / "b", small_tree(), 2, sparse=True))
    one = await pack(tmp_path / "a", f"oci:{tmp_path}/layout:a", epoch=1_700_000_000)
    two = await pack(tmp_path / "b", f"oci:{tmp_path}/layout:b", epoch=1_700_000_000)
    assert one.tags[0].digest == two.tags[0].digest
    assert two.traffic.blobs == 0
    (tmp_path / "b" / "etc" / "-").write_bytes(b"x")
    other = await pack(tmp_path / "b", f"oci:{tmp_path}/layout:c", epoch=1_700_000_000)
    assert other.tags[0].digest != one.tags[0].digest


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_there_and_back_again(compression: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    await in_thread(partial(build, root, small_tree()))
    settings = PLAIN.model_copy(update={"compression": compression})
    await pack(root, f"oci:{tmp_path}/layout:it", settings, epoch=1_600_000_000)
    await unpack_layout(tmp_path / "layout", tmp_path / "back", "it")
    ignore = ("mtime",) if IS_ROOT else ("mtime", "mode")
    assert [line for line in differences(root, tmp_path / "back", ignore) if not line.startswith(".:")] == []
    assert (tmp_path / "back" / "zeros").stat().st_blocks < 100
    assert {path.lstat().st_mtime for path in (tmp_path / "back").rglob("*")} == {1_600_000_000}


async def test_skopeo_and_python_read_it(tmp_path: Path, registry: DockerRegistry) -> None:
    root = tmp_path / "root"
    await in_thread(partial(build, root, small_tree()))
    for form in ("oci", "docker"):
        settings = PackSettings(user="0", format=form, env={"A": "1"})
        report = await pack(root, f"docker://{registry.host}/app:{form}", settings)
        await in_thread(
            partial(_check_with_skopeo, f"{registry.host}/app:{form}", str(report.tags[0].digest), tmp_path / form)
        )


async def test_archives_by_their_names(tmp_path: Path) -> None:
    root = tmp_path / "root"
    await in_thread(partial(build, root, small_tree()))
    for name, magic in (
        ("a.tar.gz", b"\x1f\x8b"),
        ("a.tgz", b"\x1f\x8b"),
        ("a.tar.zst", b"\x28\xb5"),
        ("a.tar", b"bl"),
    ):
        await pack(root, f"{tmp_path}/{name}")
        assert (tmp_path / name).read_bytes()[:2] == magic
        async with session_in(tmp_path / "scratch") as session:
            place = parse_locator(f"archive:{tmp_path}/{name}")
            await unpack_to(session, place, tmp_path / f"{name}.root", "", None, UnpackOptions())
    skopeo("inspect", f"oci-archive:{tmp_path}/a.tar")
    assert differences(tmp_path / "a.tar.gz.root", tmp_path / "a.tar.root") == []


async def test_static_registries_take_it(tmp_path: Path) -> None:
    await in_thread(partial(build, tmp_path / "root", small_tree()))
    report = await pack(tmp_path / "root", f"static:{tmp_path}/registry//team/app:1")
    manifest = (tmp_path / "registry" / "v2/team/app/manifests/1").read_bytes()
    assert json.loads(manifest)["schemaVersion"] == 2
    assert report.tags[0].digest is not None


async def test_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    settings = PackSettings(
        entrypoint=["/app", "-v"],
        cmd=["serve"],
        env={"PATH": "/bin", "A": "b=c"},
        dir="/srv",
        ports=["80", "53/udp"],
        labels={"one": "1"},
        volumes=["/data"],
        platform="linux/arm64",
    )
    config = await packed_config(tmp_path / "root", settings, 1_700_000_000)
    assert config["created"] == "2023-11-14T22:13:20Z"
    assert (config["os"], config["architecture"]) == ("linux", "arm64")
    assert config["config"] == {
        "Entrypoint": ["/app", "-v"],
        "Cmd": ["serve"],
        "Env": ["PATH=/bin", "A=b=c"],
        "WorkingDir": "/srv",
        "User": "65532:65532",
        "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
        "Labels": {"one": "1"},
        "Volumes": {"/data": {}},
    }


async def test_a_parent(tmp_path: Path) -> None:
    base = image(layer(folder("base"), file("base/f", b"1")))
    await in_thread(partial(write_layout, tmp_path / "layout", {"base": base}))
    await in_thread(
        partial(build, tmp_path / "root", Tree({"f": b"2"}, {"etc": 0o755, "usr": 0o755, "usr/lib": 0o755}))
    )
    place = f"oci:{tmp_path}/layout"
    settings = PackSettings(parent=f"{place}:base", env={"A": "1"}, user="7")
    first = await pack(tmp_path / "root", f"{place}:one", settings)
    again = await pack(tmp_path / "root", f"{place}:two", PackSettings(parent=f"{place}:one"))
    docker = await pack(tmp_path / "root", f"{place}:three", settings.model_copy(update={"format": "docker"}))
    assert [report.traffic.blobs for report in (first, again, docker)] == [
        2,
        1,
        0,
    ]  # the same configuration in both formats
    one, two, three = [manifest_in(tmp_path / "layout", name) for name in ("one", "two", "three")]
    assert [entry["digest"] for entry in one["layers"]] == [entry["digest"] for entry in two["layers"]]
    assert len(one["layers"]) == 2
    assert {entry["mediaType"].rpartition(".")[0] for entry in three["layers"]} == {
        "application/vnd.docker.image.rootfs.diff.tar"
    }
    config = json.loads((tmp_path / "layout/blobs" / two["config"]["digest"].replace(":", "/")).read_bytes())
    assert config["config"] == {"Cmd": ["/hello"], "Env": ["A=1"], "User": "7"}
    assert [entry.get("empty_layer", False) for entry in config["history"]] == [False, False, True]
    await unpack_layout(tmp_path / "layout", tmp_path / "back", "three")
    assert {"base", "f"} <= set(names(tmp_path / "back"))


def manifest_in(layout: Path, name: str) -> dict:  # type: ignore[type-arg]
    """A manifest of a layout, by its name."""
    index = json.loads((layout / "index.json").read_bytes())
    found = [entry for entry in index["manifests"] if entry["annotations"]["org.opencontainers.image.ref.name"] == name]
    return json.loads((layout / "blobs" / found[0]["digest"].replace(":", "/")).read_bytes())  # type: ignore[no-any-return]


async def test_a_parent_for_a_platform(tmp_path: Path) -> None:
    arm, s390 = (image_of([layer(file(name))], platform=("linux", name, "")) for name in ("arm64", "s390x"))
    await in_thread(partial(oci_archive, tmp_path / "base.tar", make_index([arm, s390])))
    await in_thread(partial(oci_archive, tmp_path / "one.tar", arm))
    (tmp_path / "root").mkdir()
    settings = PackSettings(parent=f"oci-archive:{tmp_path}/base.tar", platform="linux/s390x")
    await pack(tmp_path / "root", f"oci:{tmp_path}/layout:it", settings)
    await unpack_layout(tmp_path / "layout", tmp_path / "back", "it")
    assert names(tmp_path / "back") == ["s390x"]
    wrong = settings.model_copy(update={"parent": f"oci-archive:{tmp_path}/one.tar"})
    async with session_in(tmp_path / "scratch") as session:
        packed = await pack_to(session, tmp_path / "root", wrong, parse_locator(f"oci:{tmp_path}/layout:x"), 0)
    failure = packed.report.worst()
    assert failure is not None
    assert failure.code == "platform.mismatch"


async def test_blobs_and_annotations(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "sbom.json").write_bytes(b"{}")
    settings = PackSettings(annotations={"b": "2", "a": "1"}, blobs=[f"application/spdx+json={tmp_path}/sbom.json"])
    await pack(tmp_path / "root", f"oci:{tmp_path}/layout:it", settings)
    index = manifest_in(tmp_path / "layout", "it")
    manifest, blob = index["manifests"]
    assert manifest["platform"]["os"] == "linux"
    assert (blob["mediaType"], blob["size"]) == ("application/spdx+json", 2)
    stored = tmp_path / "layout" / "blobs"
    assert (stored / blob["digest"].replace(":", "/")).read_bytes() == b"{}"
    annotations = json.loads((stored / manifest["digest"].replace(":", "/")).read_bytes())["annotations"]
    assert list(annotations.items()) == [("a", "1"), ("b", "2")]


def test_what_is_left_out(tmp_path: Path) -> None:
    tree = {
        ".gitignore": b"",
        "a/.gitignore": b"",
        "a/keep.txt": b"",
        "a/drop.o": b"",
        "var/cache/x/y": b"",
        "b/cache": b"",
    }
    folders = dict.fromkeys(("etc", "usr", "usr/lib", "a", "b", "var/cache/x", ".gitignored"), 493)
    root = build(tmp_path / "root", Tree(tree, folders))
    reader = TreeReader(root, TreeOptions(owner=(5, 6), excludes=Excludes(["*.o", "var/cache/*", "/etc", "usr/**"])))
    (tmp_path / "out.tar").write_bytes(b"".join(reader.render()))
    with tarfile.open(tmp_path / "out.tar") as archive:
        members = archive.getmembers()
    found = [member.name for member in members]
    assert {"a", "a/keep.txt", "b", "b/cache", "var", "var/cache", ".gitignored", "usr"} <= set(found)
    assert not [
        name for name in found if name.startswith(("etc", "var/cache/", "usr/")) or name.endswith((".gitignore", ".o"))
    ]
    assert {(member.uid, member.gid, member.mtime) for member in members} == {(5, 6, 0)}


def test_what_cannot_be_packed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / ".wh.x").touch()
    with pytest.raises(InputError, match="removal"):
        _drain(tmp_path / "root")
    with pytest.raises(InputError, match="cannot be read"):
        _drain(tmp_path / "missing")
    with pytest.raises(InputError, match="cannot be read"):
        _drain(tmp_path / "root" / ".wh.x")


@pytest.mark.skipif(not IS_ROOT, reason="gives itself up")
def test_a_folder_without_read_permission(tmp_path: Path) -> None:
    root = build(tmp_path / "root", small_tree())
    tmp_path.chmod(0o755)
    done = run_as_nobody(root, tmp_path)
    assert done == "InputError: cannot be read: Permission denied"


def run_as_nobody(root: Path, above: Path) -> str:
    """What packing says to a user who may not look into everything."""
    code = (
        "import os, pathlib, sys\n"
        "from ocisync.images.pack.layer import TreeOptions, TreeReader\n"
        "os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
        "try: list(TreeReader(pathlib.Path('root'), TreeOptions()).render())\n"
        "except Exception as exc: print(f\"{type(exc).__name__}: {exc.message.split(': ', 2)[2]}\")\n"
    )
    import subprocess
    import sys

    return subprocess.run(
        [sys.executable, "-c", code, str(above)], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize("change", ["grow", "cut", "rewrite", "replace", "remove", "add", "chmod", "early"])
def test_changes_are_found(change: str, tmp_path: Path) -> None:
    root = build(
        tmp_path / "root", Tree({"f": os.urandom(3_000_000), "g": b"x", "a": b"1"}, {"etc": 0o755, "usr/lib": 0o755})
    )
    chunks = TreeReader(root, TreeOptions()).render()
    while next(chunks) != b"1":  # the content of "a", which stands before the large one
        pass
    for _ in range(4):  # into the large one
        next(chunks)
    _change(root, change)
    with pytest.raises(InputChanged, match="changed while it was packed"):
        list(chunks)


def test_large_files_stream(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    with (tmp_path / "root" / "large").open("wb") as out:
        for _ in range(64):
            out.write(os.urandom(BLOCK))
        out.seek(1 << 40)
        out.write(b"a terabyte on")
    tracemalloc.start()
    total = sum(len(chunk) for chunk in TreeReader(tmp_path / "root", TreeOptions()).render())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 64 * BLOCK < total < 70 * BLOCK
    assert peak < 8 * BLOCK


def test_the_command(tmp_path: Path) -> None:
    build(tmp_path / "root", small_tree())
    (tmp_path / "image.yaml").write_text("entrypoint: [/app]\nenv: [A=1]\nports: [80]\nexclude: ['*.o']\n")
    (tmp_path / "excludes").write_text("# comment\nzeros\n")
    more = (
        "--settings",
        "image.yaml",
        "--env",
        "B=2",
        "--cmd",
        "serve 'all of it'",
        "--label",
        "l=1",
        "--exclude-from",
        "excludes",
    )
    env = {"SOURCE_DATE_EPOCH": "1600000000"}
    done = run_ocisync("pack", "root", "app.tar.gz:v1", *more, cwd=tmp_path, env=env).expect()
    assert done.stdout.startswith("oci-archive:app.tar.gz:v1\nsha256:")
    shown = run_ocisync("inspect", "--json", "archive:app.tar.gz:v1", cwd=tmp_path).expect()
    found = json.loads(shown.stdout)["images"][0]
    assert found["created"] == "2020-09-13T12:26:40Z"
    assert found["config"] == {
        "Entrypoint": ["/app"],
        "Cmd": ["serve", "all of it"],
        "Env": ["A=1", "B=2"],
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"l": "1"},
        "User": "65532:65532",
    }
    assert found["layers"][0]["createdBy"] == "ocisync pack"
    wrong = run_ocisync("pack", "root", "oci:x", "--port", "http", cwd=tmp_path).expect(2)
    assert "expected a port" in wrong.stderr
    assert (
        "SOURCE_DATE_EPOCH"
        in run_ocisync("pack", "root", "oci:x", cwd=tmp_path, env={"SOURCE_DATE_EPOCH": "x"}).expect(2).stderr
    )
    assert not (tmp_path / "x").exists()


def _check_with_skopeo(reference: str, digest: str, into: Path) -> None:
    shown = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{reference}"))
    assert shown["Digest"] == digest
    assert shown["Env"] == ["A=1"]
    skopeo("copy", "--src-tls-verify=false", f"docker://{reference}", f"dir:{into}")
    manifest = json.loads((into / "manifest.json").read_bytes())
    with tarfile.open(into / manifest["layers"][0]["digest"][7:]) as archive:
        found = {member.name: member for member in archive}
        zeros = archive.extractfile("zeros")
        assert zeros is not None
        assert not any(zeros.read())
    assert found["etc/hard"].isreg()
    assert found["usr/lib/007"].linkname == "etc/hard"
    assert found["zeros"].size == 3_000_000
    assert [name for name in found if "/" not in name] == sorted(name for name in found if "/" not in name)


def _change(root: Path, change: str) -> None:
    file = root / "f"
    if change == "grow":
        with file.open("ab") as out:
            out.write(b"x")
    elif change == "cut":
        os.truncate(file, 100)
    elif change == "rewrite":
        file.write_bytes(bytes(file.stat().st_size))
    elif change == "replace":
        shutil.copy2(file, root / "new")
        (root / "new").replace(file)
    elif change == "remove":
        (root / "g").unlink()
    elif change == "add":
        (root / "later").touch()
    elif change == "chmod":
        (root / "a").chmod(0o600)
    else:
        (root / "a").write_bytes(b"2")


def _drain(root: Path) -> None:
    for _ in TreeReader(root, TreeOptions()).render():
        pass
