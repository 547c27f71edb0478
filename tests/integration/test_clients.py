"""`ocisync clients`, and a client that believes it."""

from pathlib import Path

from tests.servers.command import run_ocisync, served
from tests.servers.images import make_image
from tests.servers.skopeo import skopeo
from tests.servers.static_files import write_registry

CONFIG = """
version: 1
targets: {m: {type: static, path: ./registry}}
sync:
  - {source: source.invalid/team/app, target: m/mirrored/app}
  - {source: source.invalid/team/other, target: 'm/x:{tag}-y'}
"""


def test_skopeo_pulls_from_the_mirror_what_it_was_asked_for_from_the_source(tmp_path: Path) -> None:
    file, settings = tmp_path / "ocisync.yaml", tmp_path / "registries.conf"
    file.write_text(CONFIG)
    image = make_image("mirrored")
    write_registry(tmp_path / "registry", "mirrored/app", image, ["1.0"])
    with served(tmp_path / "registry") as url:
        done = run_ocisync("clients", "podman", "--url", url, "-c", file).expect(0)
        settings.write_text(done.stdout)
        raw = skopeo("--registries-conf", settings, "inspect", "--raw", "docker://source.invalid/team/app:1.0")
    assert raw == image.manifest
    assert done.stderr.startswith("left out: source.invalid/team/other: its tags have other names at the mirror")


def test_what_is_asked_for_wrongly_is_told(tmp_path: Path) -> None:
    file = tmp_path / "ocisync.yaml"
    file.write_text(CONFIG)
    assert "give it as --url" in run_ocisync("clients", "podman", "-c", file).expect(2).stderr
    assert "no target is named n" in run_ocisync("clients", "k3s", "n", "-c", file).expect(2).stderr
    docker = run_ocisync("clients", "docker", "--url", "https://m.example", "-c", file).expect(2)
    assert "its rules mirror nothing that docker can be told" in docker.stderr


def test_the_doctor_tries_a_mirror_as_clients_do(tmp_path: Path) -> None:
    file = tmp_path / "ocisync.yaml"
    file.write_text(CONFIG.replace("m/x:{tag}-y", "m/other"))
    write_registry(tmp_path / "registry", "mirrored/app", make_image("mirrored"), ["1.0"])
    with served(tmp_path / "registry") as url:
        half = run_ocisync("doctor", url, "--mirror", "m", "-c", file).expect(1).stdout
        assert f"✓ source.invalid/team/app:1.0  HEAD {url}/v2/mirrored/app/manifests/1.0?ns=source.invalid" in half
        assert "✗ source.invalid/team/other" in half
        assert "has the rule run?" in half
        write_registry(tmp_path / "registry", "other", make_image("other"), ["2"])
        whole = run_ocisync("doctor", url, "--mirror", "m", "-c", file).expect(0).stdout
        assert "2 images tried: all of them come from the mirror" in whole
    gone = run_ocisync("doctor", url, "--mirror", "m", "-c", file).expect(1).stdout
    assert "clients take it for no registry" in gone
