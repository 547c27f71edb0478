"""What stands in deploy/ is what its tools accept."""

import configparser
import json
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import ocisync
from tests.servers.command import run_ocisync

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "ocisync.service"
MANIFESTS = ("kubernetes.yaml", "kubernetes-sidecar.yaml", "kubernetes-builder.yaml", "kubernetes-fleet.yaml")
DEPLOYMENT = MANIFESTS[0]
SECRETS = "/run/secrets/ocisync"


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """A copy whose program exists here."""
    copy = tmp_path / "ocisync.service"
    text, changed = re.subn(r"(?m)^ExecStart=/\S+", "ExecStart=/bin/true", UNIT.read_text())
    assert changed == 1
    copy.write_text(text)
    return copy


def analyze(*arguments: str | Path) -> str:
    """systemd-analyze's whole output; a failure is an error."""
    env = {**os.environ, "SYSTEMD_PAGER": "", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        ["systemd-analyze", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=env,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((ROOT / "deploy" / name).read_text()))


def of_kind(name: str, kind: str) -> dict[str, Any]:
    [found] = [one for one in documents(name) if one["kind"] == kind]
    return found


def workload(name: str) -> dict[str, Any]:
    """The spec of the one Deployment or StatefulSet."""
    [found] = [one for one in documents(name) if one["kind"] in ("Deployment", "StatefulSet")]
    return dict(found["spec"])


def containers(name: str) -> list[dict[str, Any]]:
    return list(workload(name)["template"]["spec"]["containers"])


def the_container(name: str) -> dict[str, Any]:
    """The one of ocisync."""
    [found] = [one for one in containers(name) if one["name"] == "ocisync"]
    return found


def settings(name: str) -> dict[str, Any]:
    """ocisync's configuration in the manifest's ConfigMap."""
    return dict(yaml.safe_load(of_kind(name, "ConfigMap")["data"]["ocisync.yaml"]))


def test_systemd_finds_nothing_wrong_with_the_unit(unit: Path) -> None:
    assert analyze("verify", unit) == ""


def test_the_unit_is_little_exposed(unit: Path) -> None:
    found = re.search(r"exposure level for ocisync.service: ([\d.]+)", analyze("security", "--offline=true", unit))
    assert found
    assert float(found[1]) < 3.0


def test_the_unit_reloads_notifies_and_outlasts_the_drain() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    service = parser["Service"]
    assert (service["Type"], service["StateDirectory"]) == ("notify", "ocisync")
    assert int(service["WatchdogSec"]) >= 10
    assert "-HUP" in shlex.split(service["ExecReload"])
    assert int(service["TimeoutStopSec"]) > 30
    assert "/etc/ocisync/ocisync.yaml" in shlex.split(service["ExecStart"])


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_deployment_hangs_together(name: str) -> None:
    names = {(one["kind"], one["metadata"]["name"]) for one in documents(name)}
    spec = workload(name)
    pod = spec["template"]["spec"]
    for volume in pod["volumes"]:
        for kind, key, field in (
            ("ConfigMap", "configMap", "name"),
            ("Secret", "secret", "secretName"),
            ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
        ):
            assert key not in volume or (kind, volume[key][field]) in names
    volumes = {volume["name"] for volume in pod["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", ())}
    assert all(mount["name"] in volumes for one in pod["containers"] for mount in one["volumeMounts"])
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"].items() <= labels.items()
    service = of_kind(name, "Service")["spec"]
    assert service["selector"].items() <= labels.items()
    ports = {port["name"] for one in pod["containers"] for port in one.get("ports", ())}
    assert {port["targetPort"] for port in service["ports"]} <= ports


@pytest.mark.parametrize("version", ["1.29", "1.37"])
@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_knows_every_field(name: str, version: str) -> None:
    for document in documents(name):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_an_edited_configmap_arrives_and_is_read_again(name: str) -> None:
    mounts = {mount["mountPath"]: mount for mount in the_container(name)["volumeMounts"]}
    assert "subPath" not in mounts["/etc/ocisync"]
    assert "/etc/ocisync/ocisync.yaml" in the_container(name)["args"]
    assert settings(name)["daemon"]["watch_config"] is True


@pytest.mark.parametrize("name", MANIFESTS)
def test_ocisync_needs_no_root_and_no_writable_image(name: str) -> None:
    pod, one = workload(name)["template"]["spec"], the_container(name)
    context = pod["securityContext"] | one["securityContext"]
    assert (context["runAsUser"], context["runAsGroup"], context["runAsNonRoot"]) == (65532, 65532, True)
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    writable = [mount["mountPath"] for mount in one["volumeMounts"] if not mount.get("readOnly")]
    daemon = settings(name)["daemon"]
    for key in ("state", "temporary"):
        assert any(Path(daemon.get(key, daemon["state"])).is_relative_to(path) for path in writable)
    assert pod["terminationGracePeriodSeconds"] > int(daemon["drain"].removesuffix("s"))
    assert not any("env" in name for name in one)  # secrets are files, which are read again


@pytest.mark.parametrize("name", MANIFESTS)
def test_ocisync_is_probed_where_it_listens(name: str) -> None:
    one = the_container(name)
    probes = {probe: one[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe: got["path"] for probe, got in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    assert {got["port"] for got in probes.values()} == {"http"}
    assert settings(name)["daemon"]["listen"] == f"0.0.0.0:{ports['http']}"


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_sample_configurations_are_valid(name: str, tmp_path: Path) -> None:
    """With the files that the manifest's own Secret gives, where it is mounted."""
    config, secrets = tmp_path / "ocisync.yaml", tmp_path / "secrets"
    config.write_text(of_kind(name, "ConfigMap")["data"]["ocisync.yaml"].replace(SECRETS, str(secrets)))
    secrets.mkdir()
    for document in documents(name):
        for key, value in document.get("stringData", {}).items():
            (secrets / key).write_text(value)
    if list(secrets.iterdir()):
        assert SECRETS in {mount["mountPath"] for mount in the_container(name)["volumeMounts"]}
    assert run_ocisync("config", "check", "-c", config).expect(0).stderr == ""


def test_the_container_is_not_root_and_stops_by_sigterm() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    final = lines[max(at for at, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 65532:65532" in final
    assert "STOPSIGNAL SIGTERM" in final
    assert any("HEALTHCHECK" in line for line in final)


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ocisync.__version__
    assert {the_container(name)["image"] for name in MANIFESTS} == {f"ocisync:{ocisync.__version__}"}


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_locks_have_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links| @ ", text)
    pinned = re.findall(r"(?m)^([\w.-]+)(?:\[[^]]*\])?==\S+[^\n]*\\\n    --hash=sha256:", text)
    assert len(pinned) == len(re.findall(r"(?m)^[\w.-]+(?:\[[^]]*\])?==", text))
    assert {"aiohttp", "anyio", "hatchling"} <= set(pinned)


def test_compose_runs_it_as_kubernetes_does() -> None:
    """The folder is mounted, not the file: an editor replaces a file, and a mounted file would stay the old one."""
    document = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    [(name, service)] = document["services"].items()
    assert (name, service["image"]) == ("ocisync", f"ocisync:{ocisync.__version__}")
    mounts = dict(reversed(volume.removesuffix(":ro").split(":")) for volume in service["volumes"])
    assert mounts["/etc/ocisync"] == "./config"
    assert mounts["/var/lib/ocisync"] in document["volumes"]
    assert (service["read_only"], service["user"], service["cap_drop"]) == (True, "65532:65532", ["ALL"])
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert (ROOT / "deploy" / service["build"] / "Dockerfile").is_file()
    assert int(service["stop_grace_period"].removesuffix("s")) > 30


def test_the_image_that_is_packed_runs_as_the_dockerfile_says() -> None:
    final = (ROOT / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    settings = yaml.safe_load((ROOT / "deploy" / "package" / "image.yaml").read_text())
    assert f"USER {settings['user']}\n" in final
    assert f"WORKDIR {settings['dir']}\n" in final
    assert f"ENTRYPOINT {json.dumps(settings['entrypoint'])}\n" in final
    assert f"CMD {json.dumps(settings['cmd'])}\n" in final
    assert [f"VOLUME {path}\n" in final for path in settings["volumes"]] == [True]
    for key, value in settings["labels"].items():
        assert f'{key}="{value}"' in final


def test_the_package_asks_nothing_of_an_administrator_who_edited_its_configuration() -> None:
    package = ROOT / "deploy" / "package"
    assert (package / "conffiles").read_text() == "/etc/ocisync/ocisync.yaml\n"
    run_ocisync("config", "check", "-c", package / "ocisync.yaml").expect(0)
    settings = yaml.safe_load((package / "ocisync.yaml").read_text())
    paths = [settings["daemon"]["state"], settings["drop"][0]["path"], settings["targets"]["local"]["path"]]
    assert all(Path(path).is_relative_to("/var/lib/ocisync") for path in paths)  # where the unit may write
    for script in ("postinst", "prerm", "postrm"):
        assert subprocess.run(["sh", "-n", package / script], check=False).returncode == 0


def test_a_fleet_keeps_two_and_grows_with_what_waits() -> None:
    name = "kubernetes-fleet.yaml"
    spec = workload(name)
    assert spec["replicas"] >= 3
    assert of_kind(name, "PodDisruptionBudget")["spec"]["minAvailable"] < spec["replicas"]
    scaler = of_kind(name, "HorizontalPodAutoscaler")["spec"]
    assert scaler["minReplicas"] == spec["replicas"]
    metric = scaler["metrics"][0]["object"]["metric"]["name"]
    assert f"`{metric}`" in (ROOT / "docs" / "metrics.md").read_text()
    [migrate] = spec["template"]["spec"]["initContainers"]
    assert migrate["args"][:2] == ["engine", "migrate"]
    assert settings(name)["engine"]["type"] == "postgres"
