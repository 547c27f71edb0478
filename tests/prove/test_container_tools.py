"""What docker, ctr, podman, buildah, skopeo and umoci write is published, and they take what ocisync writes.

Each line of the table in docs/archives.md whose tool Debian has is one of `SAVED`. The tools are of Debian 12: docker
20.10, containerd 1.6, podman 4.3, buildah 1.28.
"""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.mainjob import Directory, tags, walk, write_config
from tests.servers.command import run_ocisync, served
from tests.servers.container_tools import MISSING, ContainerTools, container_tools
from tests.servers.images import docker_archive, make_image
from tests.servers.skopeo import skopeo

pytestmark = [pytest.mark.prove, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")]

TEXT = b"hello\n"


@dataclass(frozen=True, slots=True)
class Saved:
    """A line of the table: how a file is made below the drop folder, and what is published of it."""

    make: Callable[[Maker, str], object]
    published: tuple[str, ...] = ("{name}:1",)


@dataclass(frozen=True, slots=True)
class Maker:
    """The tools, and where they write."""

    tools: ContainerTools
    drop: Path

    @property
    def rootfs(self) -> Path:
        """A small root file system as a tar."""
        path = self.tools.folder / "root.tar"
        if not path.exists():
            root = self.tools.folder / "root/etc"
            root.mkdir(parents=True)
            (root / "motd").write_bytes(TEXT)
            with tarfile.open(path, "w") as archive:
                archive.add(root, "etc")
        return path

    def docker(self, name: str) -> str:
        """An image in docker's store."""
        self.tools.docker("import", "-c", "ENV A=b", "-c", f"LABEL of={name}", self.rootfs, f"{name}:1")
        return f"{name}:1"

    def built(self, name: str) -> str:
        """An image of two layers that docker built."""
        base, folder = self.docker(name), self.tools.folder / "build"
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(f"FROM {base}\nCOPY Dockerfile /\nENTRYPOINT /none\n")
        self.tools.docker("build", "-t", f"{name}:1", folder)
        return base

    def podman(self, name: str) -> str:
        """An image in podman's store, whose name there is localhost/NAME:1."""
        self.tools.podman("import", self.rootfs, f"{name}:1")
        return f"{name}:1"

    def buildah(self, name: str, kind: str, suffix: str, *, has_name: bool = True) -> None:
        """A container that buildah commits straight to a place."""
        container = self.tools.buildah("from", "scratch").strip()
        self.tools.buildah("add", container, self.rootfs, "/")
        path = self.drop / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        self.tools.buildah("commit", container, f"{kind}:{path}" + (f":{name}:1" if has_name else ""))

    def buildah_list(self, name: str, kind: str, suffix: str) -> None:
        """A manifest list that buildah pushes with all its images."""
        container = self.tools.buildah("from", "scratch").strip()
        self.tools.buildah("add", container, self.rootfs, "/")
        self.tools.buildah("commit", container, f"{name}-one:1")
        self.tools.buildah("manifest", "create", name)
        self.tools.buildah("manifest", "add", name, f"{name}-one:1")
        self.tools.buildah("manifest", "push", "--all", name, f"{kind}:{self.drop}/{name}{suffix}:{name}:1")

    def skopeo(self, name: str, kind: str, suffix: str, *, has_name: bool = True) -> None:
        """Another form of what docker saved."""
        saved = self.tools.folder / f"{name}.tar"
        self.tools.docker("save", "-o", saved, self.docker(name))
        path = self.drop / f"{name}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        skopeo("copy", f"docker-archive:{saved}", f"{kind}:{path}" + (f":{name}:1" if has_name else ""))

    def ctr(self, name: str, *options: str) -> None:
        """An image of containerd's store."""
        saved = self.tools.folder / f"{name}.tar"
        self.tools.docker("save", "-o", saved, self.docker(name))
        self.tools.ctr("images", "import", saved)
        self.tools.ctr("images", "export", *options, self.drop / f"{name}.tar", f"docker.io/library/{name}:1")

    def umoci(self, name: str) -> None:
        """A layout that umoci made; its name is only a tag, so the folder's path is the image's name."""
        layout = self.drop / name / "layout"
        layout.parent.mkdir(parents=True)
        self.tools.run("umoci", "init", "--layout", layout)
        self.tools.run("umoci", "new", "--image", f"{layout}:1")
        self.tools.run("umoci", "insert", "--image", f"{layout}:1", self.tools.folder / "root/etc", "/etc")


def _compress(maker: Maker, name: str) -> None:
    maker.tools.docker("save", "-o", maker.drop / f"{name}.tar", maker.docker(name))
    (maker.drop / f"{name}.tar.gz").write_bytes(gzip.compress((maker.drop / f"{name}.tar").read_bytes()))
    (maker.drop / f"{name}.tar").unlink()


def _save_by_id(maker: Maker, name: str) -> None:
    image = maker.tools.docker("images", "-q", maker.built(name)).strip()
    (maker.drop / name).mkdir()
    maker.tools.docker("save", "-o", maker.drop / name / "1.tar", image)


def _save_many(maker: Maker, name: str) -> None:
    maker.tools.docker("tag", maker.docker(name), f"registry.example.com:5000/team/{name}:2")
    maker.tools.docker("tag", maker.built(f"{name}-more"), f"{name}-more:2")
    names = (f"{name}:1", f"registry.example.com:5000/team/{name}:2", f"{name}-more:2")
    maker.tools.docker("save", "-o", maker.drop / f"{name}.tar", *names)


def _podman_many(maker: Maker, name: str) -> None:
    maker.tools.podman("tag", maker.podman(name), f"quay.io/team/{name}:2")
    maker.tools.podman("save", "-m", "-o", maker.drop / f"{name}.tar", f"{name}:1", f"quay.io/team/{name}:2")


def _podman_folder(kind: str) -> Callable[[Maker, str], object]:
    def save(maker: Maker, name: str) -> None:
        (maker.drop / name).mkdir()
        maker.tools.podman("save", "--format", kind, "-o", maker.drop / name / "1", maker.podman(name))

    return save


def _podman_file(kind: str) -> Callable[[Maker, str], object]:
    return lambda maker, name: maker.tools.podman(
        "save", "--format", kind, "-o", maker.drop / f"{name}.tar", maker.podman(name)
    )


SAVED = {
    "docker-save": Saved(lambda on, name: on.tools.docker("save", "-o", on.drop / f"{name}.tar", on.docker(name))),
    "docker-save-built": Saved(lambda on, name: on.tools.docker("save", "-o", on.drop / f"{name}.tar", on.built(name))),
    "docker-save-gzip": Saved(_compress),
    "docker-save-by-id": Saved(_save_by_id),
    "docker-save-many": Saved(_save_many, ("{name}:1", "team/{name}:2", "{name}-more:2")),
    "podman-docker-archive": Saved(_podman_file("docker-archive")),
    "podman-oci-archive": Saved(_podman_file("oci-archive")),
    "podman-oci-dir": Saved(_podman_folder("oci-dir")),
    "podman-docker-dir": Saved(_podman_folder("docker-dir")),
    "podman-many": Saved(_podman_many, ("{name}:1", "team/{name}:2")),
    "buildah-oci-archive": Saved(lambda on, name: on.buildah(name, "oci-archive", ".tar")),
    "buildah-docker-archive": Saved(lambda on, name: on.buildah(name, "docker-archive", ".tar"), ("library/{name}:1",)),
    "buildah-oci": Saved(lambda on, name: on.buildah(name, "oci", "/1")),
    "buildah-dir": Saved(lambda on, name: on.buildah(name, "dir", "/1", has_name=False)),
    "buildah-list-archive": Saved(lambda on, name: on.buildah_list(name, "oci-archive", ".tar")),
    "buildah-list-oci": Saved(lambda on, name: on.buildah_list(name, "oci", "")),
    "skopeo-docker-archive": Saved(lambda on, name: on.skopeo(name, "docker-archive", ".tar"), ("library/{name}:1",)),
    "skopeo-oci-archive": Saved(lambda on, name: on.skopeo(name, "oci-archive", ".tar")),
    "skopeo-oci": Saved(lambda on, name: on.skopeo(name, "oci", "/1")),
    "skopeo-dir": Saved(lambda on, name: on.skopeo(name, "dir", "/1", has_name=False)),
    "ctr-export": Saved(lambda on, name: on.ctr(name)),
    "ctr-export-no-manifest-json": Saved(lambda on, name: on.ctr(name, "--skip-manifest-json"), ("library/{name}:1",)),
    "ctr-export-all": Saved(lambda on, name: on.ctr(name, "--all-platforms")),
    "umoci": Saved(lambda on, name: on.umoci(name)),
}
EXPECTED = sorted(text.format(name=name) for name, saved in SAVED.items() for text in saved.published)


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    """The tools and a drop folder in which each has left its file."""
    folder = tmp_path_factory.mktemp("tools")
    with container_tools(folder / "work") as tools:
        made = Maker(tools, folder / "drop")
        made.drop.mkdir()
        assert made.rootfs.exists()
        for name, saved in SAVED.items():
            saved.make(made, name)
        yield made


@pytest.fixture(scope="module")
def registry(maker: Maker) -> Directory:
    """Where all of it was published in one pass."""
    place = Directory(maker.drop.parent / "registry")
    drop = {"name": "d", "path": str(maker.drop), "target": "out", "stable": "0s", "settle": "0s"}
    file = write_config(maker.drop.parent, {"out": place.settings}, drop=[drop])
    report = json.loads(run_ocisync("once", "-c", file, "--json").expect(0).stdout)
    published = sorted(text.removeprefix("out/") for one in report["inputs"] for text in one["published"])
    assert published == EXPECTED
    return place


def test_whatever_they_save_is_published_and_pulled_by_all_of_them(maker: Maker, registry: Directory) -> None:
    with served(registry.path) as url:
        host = urlsplit(url).netloc
        for name in EXPECTED:
            image = f"{host}/{name}"
            maker.tools.docker("pull", image)
            maker.tools.ctr("images", "pull", "--plain-http", image)
            maker.tools.podman("pull", "--tls-verify=false", image)
            skopeo("copy", "--src-tls-verify=false", f"docker://{image}", f"oci:{maker.tools.folder}/pulled:{name}")
            assert TEXT.decode() == maker.tools.run("tar", "-xOf", _export(maker, image), "etc/motd"), name


def _export(maker: Maker, image: str) -> Path:
    """The root file system of an image in docker's store, as a tar."""
    container = maker.tools.docker("create", image, "/none").strip()
    path = maker.tools.folder / "export.tar"
    maker.tools.docker("export", "-o", path, container)
    maker.tools.docker("rm", container)
    return path


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_they_load_the_archives_that_ocisync_writes(maker: Maker, registry: Directory, kind: str, suffix: str) -> None:
    path = maker.tools.folder / f"{kind}.{suffix}"
    for name in ("docker-save-built", "podman-oci-archive", "buildah-list-oci"):
        platform = ("--platform", "linux/amd64") if kind == "docker-archive" else ()
        source = f"static:{registry.path}//{name}:1"
        run_ocisync("copy", source, f"{kind}:{path}:loaded/{name}:{kind}", *platform).expect(0)
        is_plain = suffix == "tar"
        if name != "buildah-list-oci" or kind == "docker-archive":  # docker wants a manifest.json, an index has none
            assert f"loaded/{name}:{kind}" in maker.tools.docker("load", "-i", path)
        if is_plain:
            maker.tools.ctr("images", "import", path)
        if is_plain or kind == "oci-archive":  # of what docker saved they take no compressed file either
            assert f"loaded/{name}:{kind}" in maker.tools.podman("load", "-i", path)
            skopeo("inspect", f"{kind}:{path}")
        path.unlink()


def test_they_read_the_layouts_that_ocisync_writes(maker: Maker, registry: Directory) -> None:
    source = f"static:{registry.path}//docker-save-built:1"
    folder = maker.tools.folder
    run_ocisync("copy", source, f"oci:{folder}/layout:x", "--format", "oci").expect(0)
    maker.tools.run("umoci", "unpack", "--image", f"{folder}/layout:x", folder / "bundle")
    assert (folder / "bundle/rootfs/etc/motd").read_bytes() == TEXT
    maker.tools.podman("pull", f"oci:{folder}/layout:x")
    run_ocisync("copy", source, f"dir:{folder}/dir").expect(0)
    maker.tools.podman("pull", f"dir:{folder}/dir")
    shutil.rmtree(folder / "bundle")


def test_docker_20_takes_no_zstd(maker: Maker) -> None:
    folder = maker.tools.folder
    saved = docker_archive(folder / "new.tar", {"z:1": make_image("what docker does not have yet")})
    run_ocisync("copy", saved, f"docker-archive:{folder}/a.tar.zst:z:1").expect(0)
    assert "loaded" not in maker.tools.docker("load", "-i", folder / "a.tar.zst", check=False).lower()
    run_ocisync("copy", saved, f"static:{folder}/zstd//z:1", "--compression", "zstd").expect(0)
    with served(folder / "zstd") as url:
        image = f"{urlsplit(url).netloc}/z:1"
        assert "invalid tar header" in maker.tools.docker("pull", image, check=False)
        maker.tools.podman("pull", "--tls-verify=false", image)
        maker.tools.ctr("images", "pull", "--plain-http", image)


def test_what_is_published_is_whole(registry: Directory) -> None:
    assert {name.rpartition(":")[0] for name in EXPECTED} == {
        str(path.parent.parent.relative_to(registry.path / "v2")) for path in registry.path.glob("v2/**/tags/list")
    }
    for name in EXPECTED:
        repository, _, tag = name.rpartition(":")
        assert tags(registry, repository) == [tag]
        walk(registry, repository, tag)
