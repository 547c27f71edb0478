"""What `tools/package` builds, where it is installed: a bare Debian, and a pod. Needs root and Debian's packages."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

import ocisync
from tests.integration.mainjob import Directory, tags
from tests.integration.test_config_watch import ConfigMap
from tests.servers.command import Daemon, run_ocisync
from tests.servers.images import docker_archive, make_image
from tests.servers.pod import Pod
from tests.servers.process import Child, free_port, wait_for

pytestmark = pytest.mark.prove
ROOT = Path(__file__).parents[2]
VERSION = ocisync.__version__
ARCHITECTURE = subprocess.run(
    ["dpkg", "--print-architecture"], capture_output=True, text=True, check=True
).stdout.strip()
ENV = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
CONFIG = "/etc/ocisync/ocisync.yaml"


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=ROOT,
        env=os.environ | (env or {}), timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything but the chart, and the .deb once more as its next revision."""
    folder = tmp_path_factory.mktemp("dist")
    env = {"DIST": str(folder)}
    for what in ("wheel", "deb", "image"):
        run("tools/package", what, env=env)
    run("tools/package", "deb", env=env | {"DEB_REVISION": "2"})
    return folder


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare Debian of this machine's release, without apt: what the package needs is there."""
    root = tmp_path_factory.mktemp("debian") / "root"
    names = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    include = "--include=python3,ca-certificates,adduser,procps"
    run("mmdebstrap", "--quiet", "--variant=essential", include, names["VERSION_CODENAME"], root)
    return root


@contextmanager
def started(command: list[str], folder: Path, url: str) -> Iterator[Daemon]:
    """A daemon as a child, ready; SIGTERM at the end, and exit 0."""
    folder.mkdir(exist_ok=True)
    child = Child(command, folder, ENV)
    running = Daemon(child, url)
    try:
        child.wait_until(running.ready, "the daemon to be ready", 60)
        yield running
    except BaseException:
        child.kill()
        raise
    assert child.stop() == 0, child.output


def test_the_debian_package_installs_runs_upgrades_and_goes(dist: Path, debian: Path, tmp_path: Path) -> None:
    first, second = (f"ocisync_{VERSION}-{revision}_{ARCHITECTURE}.deb" for revision in "12")
    for name in (first, second):
        (debian / name).write_bytes((dist / name).read_bytes())

    def inside(*command: str) -> str:
        return run("chroot", debian, "/usr/bin/env", "-i", *(f"{key}={value}" for key, value in ENV.items()), *command)

    inside("dpkg", "-i", f"/{first}")
    assert VERSION in inside("ocisync", "--version")
    assert inside("ocisync", "config", "check", "-c", CONFIG)
    account = inside("getent", "passwd", "ocisync").split(":")
    assert account[5:] == ["/var/lib/ocisync", "/usr/sbin/nologin\n"]
    assert inside("stat", "-c", "%U:%G %a", "/var/lib/ocisync", "/var/lib/ocisync/drop").split("\n")[:2] == [
        "ocisync:ocisync 755",
        "ocisync:ocisync 2775",
    ]
    for path in (
        "lib/systemd/system/ocisync.service", "usr/share/man/man1/ocisync.1.gz", "usr/share/man/man1/ocisync-copy.1.gz",
        "usr/share/bash-completion/completions/ocisync", "usr/share/zsh/vendor-completions/_ocisync",
        "usr/share/fish/vendor_completions.d/ocisync.fish", "usr/share/doc/ocisync/copyright",
    ):  # fmt: skip
        assert (debian / path).stat().st_size > 0
    unit = (debian / "lib/systemd/system/ocisync.service").read_text()
    for program in re.findall(r"(?m)^Exec\w+=(\S+)", unit):
        inside("test", "-x", program)
    files = set(inside("dpkg", "-L", "ocisync").splitlines())
    assert [path for path in inside("find", "/opt/ocisync").splitlines() if path not in files] == []
    assert inside("dpkg", "--verify", "ocisync") == ""

    port = free_port()
    config = debian / CONFIG.lstrip("/")
    edited = config.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}") + "# mine\n"
    config.write_text(edited)
    service = [
        "chroot",
        f"--userspec={account[2]}:{account[3]}",
        str(debian),
        "/opt/ocisync/bin/ocisync",
        "run",
        "-c",
        CONFIG,
    ]
    with started(service, tmp_path / "service", f"http://127.0.0.1:{port}"):
        drop = debian / "var/lib/ocisync/drop"
        docker_archive(drop / ".app.tar", {"team/app:1.0": make_image("built")}).rename(drop / "app.tar")
        registry = Directory(debian / "var/lib/ocisync/registry")
        wait_for(lambda: tags(registry, "team/app") == ["1.0"], "the image")
    assert [path for path in inside("find", "/opt/ocisync").splitlines() if path not in files] == []

    inside("dpkg", "-i", f"/{second}")
    assert f"{VERSION}-2" in inside("dpkg-query", "-W", "-f", "${Version}", "ocisync")
    assert config.read_text() == edited
    assert tags(registry, "team/app") == ["1.0"]
    inside("dpkg", "-r", "ocisync")
    assert config.read_text() == edited
    assert not (debian / "opt/ocisync").exists()
    assert tags(registry, "team/app") == ["1.0"]
    inside("dpkg", "-P", "ocisync")
    for path in ("var/lib/ocisync", "etc/ocisync", "opt/ocisync", "usr/bin/ocisync"):
        assert not os.path.lexists(debian / path), path
    assert "ocisync" not in (debian / "etc/passwd").read_text()


def test_the_image_says_how_it_runs_and_runs_so_in_a_pod(dist: Path, tmp_path: Path) -> None:
    archive = f"oci-archive:{dist}/ocisync-{VERSION}.oci.tar"
    index = json.loads(run("tar", "-xOf", dist / f"ocisync-{VERSION}.oci.tar", "index.json"))
    names = [one["annotations"]["org.opencontainers.image.ref.name"] for one in index["manifests"]]
    assert names == [f"ocisync:{VERSION}"]
    root = tmp_path / "root"
    run_ocisync("unpack", archive, root, timeout=600).expect(0)
    run("skopeo", "copy", "--quiet", archive, f"oci:{tmp_path}/layout:x")
    config = json.loads(run("skopeo", "inspect", "--config", f"oci:{tmp_path}/layout:x"))["config"]
    assert (config["User"], config["WorkingDir"]) == ("65532:65532", "/var/lib/ocisync")
    assert config["Entrypoint"] == ["ocisync"]
    assert list(config["Volumes"]) == ["/var/lib/ocisync"]
    assert config["Labels"]["org.opencontainers.image.version"] == VERSION
    port = free_port()
    text = (ROOT / "config" / "container.yaml").read_text().replace("0.0.0.0:8080", f"127.0.0.1:{port}")
    mounted = ConfigMap(tmp_path / "config", text + "  watch_config: true\n")
    pod = Pod(root, {"/etc/ocisync": tmp_path / "config"}, {"/dev": Path("/dev"), "/proc": Path("/proc")})
    data = pod.volume("/var/lib/ocisync", tmp_path / "data")
    pod.volume("/tmp", tmp_path / "tmp")
    env = dict(pair.split("=", 1) for pair in config["Env"])
    command = pod.command([*config["Entrypoint"], *config["Cmd"]], env, config["WorkingDir"])
    with started(command, tmp_path / "logs", f"http://127.0.0.1:{port}") as running:
        wait_for((data / "drop").is_dir, "the drop folder")
        docker_archive(data / "drop" / ".app.tar", {"team/app:1.0": make_image("built")}).rename(data / "drop/app.tar")
        wait_for(lambda: tags(Directory(data / "registry"), "team/app") == ["1.0"], "the image")
        mounted.write(mounted.file.read_text().replace("name: builds", "name: others"))
        wait_for(lambda: "config.reloaded" in running.log, "the reload")
        assert "Traceback" not in running.log


def test_the_wheel_and_the_source_distribution_hold_what_they_should(dist: Path, tmp_path: Path) -> None:
    wheel = run("python3", "-m", "zipfile", "-l", dist / f"ocisync-{VERSION}-py3-none-any.whl")
    assert "ocisync/py.typed" in wheel
    for name in ("man/man1/ocisync-copy.1", "bash-completion/completions/ocisync", "zsh/site-functions/_ocisync"):
        assert f".data/data/share/{name}" in wheel
    assert "tests/" not in wheel
    run("python3", "-m", "venv", "--without-pip", tmp_path / "venv")
    source = run("tar", "-tzf", dist / f"ocisync-{VERSION}.tar.gz")
    for path in ("Makefile", "tools/package", "deploy/package/postinst", "deploy/chart/Chart.yaml", "docs/metrics.md"):
        assert f"ocisync-{VERSION}/{path}\n" in source
