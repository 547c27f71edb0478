"""What users of skopeo, podman and docker try first: it works, or the answer names what does."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from tests.servers.command import run_ocisync
from tests.servers.docker_registry import PASSWORD, USERNAME, DockerRegistry, docker_registry
from tests.servers.images import docker_archive, make_image, make_index, push
from tests.servers.tls import make_certificate

ENV = {"HOME": "/nonexistent", "XDG_RUNTIME_DIR": "/nonexistent", "DOCKER_CONFIG": "/nonexistent"}


def test_credentials_on_the_command_line(tmp_path: Path, registry: DockerRegistry) -> None:
    image = make_image()
    push(registry.client, "app", "1", image)
    with docker_registry(tmp_path / "r", basic=True) as closed:
        there, creds = f"docker://{closed.host}/app:1", f"{USERNAME}:{PASSWORD}"
        source = f"docker://{registry.host}/app:1"
        refused = run_ocisync("copy", source, there, "--dest-creds", f"{USERNAME}:wrong-one", env=ENV).expect(1)
        assert "[auth.denied]" in refused.stderr
        assert "wrong-one" not in refused.stderr
        run_ocisync("copy", source, there, "--dest-creds", creds, env=ENV).expect(0)
        assert run_ocisync("digest", there, "--creds", creds, env=ENV).expect(0).stdout.strip() == image.digest
        auth = tmp_path / "auth.json"
        token = base64.b64encode(creds.encode()).decode()
        auth.write_text(json.dumps({"auths": {closed.host: {"auth": token}}}))
        assert run_ocisync("tags", there, "--authfile", auth, env=ENV).expect(0).stdout == "1\n"
        run_ocisync("copy", there, f"static:{tmp_path}/s//app:1", "--src-creds", creds, env=ENV).expect(0)
        assert "[auth.denied]" in run_ocisync("tags", there, env=ENV).expect(1).stderr


@pytest.mark.parametrize("creds", ["user", ":secret-word", "user:"])
def test_credentials_of_another_form(creds: str) -> None:
    said = run_ocisync("digest", "docker://127.0.0.1:1/a:b", "--creds", creds, env=ENV).expect(2).stderr
    assert "expected USER:PASSWORD" in said
    assert "secret-word" not in said


def test_one_host_with_two_logins_is_refused() -> None:
    here = "docker://127.0.0.1:1/a:b"
    said = run_ocisync("copy", here, here, "--src-creds", "a:bbbb", "--dest-creds", "c:dddd", env=ENV).expect(2).stderr
    assert "is source and destination" in said


def test_a_file_of_credentials_that_is_not_there(tmp_path: Path) -> None:
    said = run_ocisync("tags", "docker://127.0.0.1:1/a", "--authfile", tmp_path / "no", env=ENV).expect(2).stderr
    assert "there is no such file" in said


def test_no_certificate_is_asked_for(tmp_path: Path) -> None:
    image = make_image()
    with (
        docker_registry(tmp_path / "r", tls=make_certificate(tmp_path / "tls")) as secured,
        docker_registry(tmp_path / "p") as plain,
    ):
        push(plain.client, "app", "1", image)
        place = f"docker://{secured.host}/app:1"
        source = f"docker://{plain.host}/app:1"
        assert "[tls.verify]" in run_ocisync("copy", source, place, "--dest-tls-verify=true", env=ENV).expect(1).stderr
        run_ocisync("copy", source, place, "--tls-verify=false", env=ENV).expect(0)
        assert run_ocisync("digest", place, "--tls-verify=false", env=ENV).expect(0).stdout.strip() == image.digest


def test_a_dry_run_copies_nothing(tmp_path: Path, registry: DockerRegistry) -> None:
    image = make_image(layers=2)
    push(registry.client, "app", "1", image)
    place = tmp_path / "s"
    said = (
        run_ocisync("copy", "--dry-run", f"docker://{registry.host}/app:1", f"static:{place}//app:1").expect(0).stdout
    )
    assert image.digest in said
    assert "would copy" in said
    assert "1 image, 3 blobs" in said
    assert not place.exists()
    gone = run_ocisync("copy", "--dry-run", f"docker://{registry.host}/nope:1", f"static:{place}//app:1").expect(1)
    assert "[source.missing]" in gone.stderr


def test_quiet_prints_failures_only(tmp_path: Path, registry: DockerRegistry) -> None:
    push(registry.client, "app", "1", make_image())
    done = run_ocisync("copy", "-q", f"docker://{registry.host}/app:1", f"static:{tmp_path}/s//app:1").expect(0)
    assert (done.stdout, done.stderr) == ("", "")
    failed = run_ocisync("copy", "-q", f"docker://{registry.host}/nope:1", f"static:{tmp_path}/s//app:1").expect(1)
    assert failed.stdout == ""
    assert "[source.missing]" in failed.stderr


def test_inspect_as_skopeo_is_asked(tmp_path: Path, registry: DockerRegistry) -> None:
    image = make_image()
    push(registry.client, "app", "1", make_index([image]))
    place = f"docker://{registry.host}/app:1"
    config = json.loads(run_ocisync("inspect", "--config", place, "--platform", "linux/amd64").expect(0).stdout)
    assert config["rootfs"]["type"] == "layers"
    shown = run_ocisync("inspect", "--format", "{{.Digest}} {{ .Architecture }} {{json .Os}}", place).expect(0).stdout
    assert shown.split()[1:] == ["amd64", '"linux"']
    assert "there is no field 'Nope'" in run_ocisync("inspect", "--format", "{{.Nope}}", place).expect(2).stderr
    assert "only fields" in run_ocisync("inspect", "--format", "{{range .}}", place).expect(2).stderr


def test_an_archive_needs_no_transport_as_destination(tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "in.tar", {"a:1": make_image()})
    run_ocisync("copy", archive, "out.tar", cwd=tmp_path).expect(0)
    assert (tmp_path / "out.tar").is_file()


@pytest.mark.parametrize(
    ("source", "answer"),
    [
        ("alpine:3", "did you mean docker://alpine:3?"),
        ("ghcr.io/org/app:1", "did you mean docker://ghcr.io/org/app:1?"),
        ("https://ghcr.io/org/app:1", "did you mean docker://ghcr.io/org/app:1?"),
        ("./app.tar", "write docker-archive:./app.tar or oci-archive:./app.tar"),
    ],
)
def test_a_source_without_transport(source: str, answer: str, tmp_path: Path) -> None:
    assert answer in run_ocisync("copy", source, "static:s//a", cwd=tmp_path).expect(2).stderr


def test_version_and_help_in_every_spelling() -> None:
    said = {run_ocisync(word).expect(0).stdout for word in ("version", "-V", "--version")}
    assert len(said) == 1
    assert (
        run_ocisync("help", "config", "check").expect(0).stdout == run_ocisync("config", "check", "-h").expect(0).stdout
    )
    assert "there is no command 'nope'" in run_ocisync("help", "nope").expect(2).stderr


def test_a_configuration_named_without_an_option(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("version: 1\n")
    assert f"{file}: valid" in run_ocisync("config", "check", file).expect(0).stdout
    assert "two files" in run_ocisync("config", "check", file, "-c", "other.yaml").expect(2).stderr


def test_an_address_that_is_none() -> None:
    assert "--listen 'x' is not an address" in run_ocisync("serve", "/", "--listen", "x").expect(2).stderr


@pytest.mark.parametrize("place", ["local", "container", "systemd", "kubernetes", "mirror", "farm"])
def test_init_asks_nothing_and_passes_the_check(place: str, tmp_path: Path) -> None:
    env = {"SYSTEMD_UNIT_PATH": "/nonexistent"}
    said = run_ocisync("init", "c.yaml", "--for", place, cwd=tmp_path, env=env).expect(0).stdout
    assert "ocisync config check c.yaml" in said
    assert "warning" not in run_ocisync("config", "check", "c.yaml", cwd=tmp_path).expect(0).stdout
    assert (tmp_path / "ocisync.service").exists() == (place == "systemd")
    assert ("install -d -o ocisync -g ocisync -m 2775 /var/lib/ocisync/drop" in said) == (place == "systemd")
    assert "exists already" in run_ocisync("init", "c.yaml", "--for", place, cwd=tmp_path).expect(2).stderr
    run_ocisync("init", "c.yaml", "--for", place, "--force", cwd=tmp_path, env=env).expect(0)
