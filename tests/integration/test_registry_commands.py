"""`ls`, `rm` and `verify` on ordinary registries, archives and layouts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.servers.command import run_ocisync
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.images import docker_archive, make_image, make_index, push


@pytest.fixture
def filled(registry: DockerRegistry) -> DockerRegistry:
    push(registry.client, "app", "1", make_image(seed="one"))
    push(registry.client, "app", "2", make_index([make_image(seed="two")]))
    push(registry.client, "team/tool", "x", make_image(seed="three"))
    return registry


def test_ls(filled: DockerRegistry, tmp_path: Path) -> None:
    root = f"docker://{filled.host}"
    assert run_ocisync("ls", root).expect(0).stdout.split() == ["REPOSITORY", "app", "team/tool"]
    assert run_ocisync("ls", f"{root}/team").expect(0).stdout.split() == ["REPOSITORY", "team/tool"]
    lines = run_ocisync("ls", f"{root}/app").expect(0).stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["TAG", "KIND"], ["1", "image"], ["2", "index"]]
    config = tmp_path / "c.yaml"
    config.write_text(f"version: 1\ntargets: {{here: {{type: registry, url: 'http://{filled.host}/team'}}}}\n")
    (tag,) = json.loads(run_ocisync("ls", "here/tool", "-c", config, "--json").expect(0).stdout)
    assert tag["tag"] == "x"
    assert "[source.missing]" in run_ocisync("ls", f"{root}/nope").expect(1).stderr


def test_rm(filled: DockerRegistry) -> None:
    root = f"docker://{filled.host}"
    digest = make_image(seed="one").digest
    assert "would be removed" in run_ocisync("rm", f"{root}/app:1", "--dry-run").expect(0).stdout
    assert run_ocisync("rm", f"{root}/app:1").expect(0).stdout == f"removed: {root}/app:1\n"
    assert run_ocisync("tags", f"{root}/app").expect(0).stdout == "2\n"
    run_ocisync("digest", f"{root}/app@{digest}").expect(0)  # only the tag went
    run_ocisync("rm", f"{root}/app@{digest}").expect(0)
    assert "[source.missing]" in run_ocisync("digest", f"{root}/app@{digest}").expect(1).stderr
    assert "[source.missing]" in run_ocisync("rm", root, "app:gone", "team/tool").expect(1).stderr
    assert run_ocisync("rm", root, "team/tool").expect(0).stdout == f"removed: {root}/team/tool:x\n"
    assert "names a whole registry" in run_ocisync("rm", root).expect(2).stderr


def test_rm_where_nothing_is_deleted(tmp_path: Path) -> None:
    settings = {"storage": {"filesystem": {"rootdirectory": str(tmp_path / "s")}, "delete": {"enabled": False}}}
    with docker_registry(tmp_path / "r", settings=settings) as registry:
        push(registry.client, "app", "1", make_image())
        root = f"docker://{registry.host}"
        said = run_ocisync("rm", f"{root}/app:1").expect(1).stderr
        assert "deletes neither tags nor manifests; no tag was removed" in said
        assert "REGISTRY_STORAGE_DELETE_ENABLED" in said
        assert run_ocisync("tags", f"{root}/app").expect(0).stdout == "1\n"


def test_verify(filled: DockerRegistry, tmp_path: Path) -> None:
    root = f"docker://{filled.host}"
    assert "1 image, 1 manifest" in run_ocisync("verify", f"{root}/app:1").expect(0).stdout
    assert "2 images, 3 manifests" in run_ocisync("verify", f"{root}/app").expect(0).stdout
    archive = docker_archive(tmp_path / "a.tar", {"a:1": make_image()})
    assert "all is well" in run_ocisync("verify", archive).expect(0).stdout
    run_ocisync("copy", archive, f"oci:{tmp_path}/layout:1").expect(0)
    assert "all is well" in run_ocisync("verify", f"oci:{tmp_path}/layout:1").expect(0).stdout
    (layer, *_) = (tmp_path / "layout/blobs/sha256").iterdir()
    layer.write_bytes(layer.read_bytes()[:-1] + b"?")
    assert "FAULT" in run_ocisync("verify", f"oci:{tmp_path}/layout:1").expect(1).stderr
    assert "are for static registries" in run_ocisync("verify", f"{root}/app:1", "--repair").expect(2).stderr


def test_a_login_on_the_command_line(tmp_path: Path) -> None:
    with docker_registry(tmp_path / "r", basic=True) as closed:
        push(closed.client, "app", "1", make_image())
        creds = ("--creds", f"{USERNAME}:{PASSWORD}")
        for command in ("ls", "verify", "rm"):
            run_ocisync(command, f"docker://{closed.host}/app", *creds).expect(0)
