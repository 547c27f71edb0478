"""What stands in deploy/ is what its tools accept."""

import configparser
import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import ocisync
from tests.servers.command import run_ocisync

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "ocisync.service"
MANIFESTS = ("kubernetes.yaml", "kubernetes-sidecar.yaml")


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


def containers(name: str) -> list[dict[str, Any]]:
    return list(of_kind(name, "Deployment")["spec"]["template"]["spec"]["containers"])


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
    deployment = of_kind(name, "Deployment")
    pod = deployment["spec"]["template"]["spec"]
    for volume in pod["volumes"]:
        for kind, key, field in (
            ("ConfigMap", "configMap", "name"),
            ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
        ):
            assert key not in volume or (kind, volume[key][field]) in names
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert all(mount["name"] in volumes for one in pod["containers"] for mount in one["volumeMounts"])
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("name", MANIFESTS)
def test_ocisync_is_probed_where_it_listens(name: str) -> None:
    [one] = [container for container in containers(name) if container["name"] == "ocisync"]
    probes = {probe: one[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert {probe: got["path"] for probe, got in probes.items()} == {
        "startupProbe": "/healthz",
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
    }
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    config = yaml.safe_load(of_kind(name, "ConfigMap")["data"]["ocisync.yaml"])
    assert {got["port"] for got in probes.values()} == {"http"}
    assert config["daemon"]["listen"] == f"0.0.0.0:{ports['http']}"


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_sample_configurations_are_valid(name: str, tmp_path: Path) -> None:
    config = tmp_path / "ocisync.yaml"
    config.write_text(of_kind(name, "ConfigMap")["data"]["ocisync.yaml"])
    run_ocisync("config", "check", "-c", config, env={"HUB_TOKEN": "secret"}).expect(0)


def test_the_container_is_not_root_and_stops_by_sigterm() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    final = lines[max(at for at, line in enumerate(lines) if line.startswith("FROM ")) :]
    assert "USER 65532:65532" in final
    assert "STOPSIGNAL SIGTERM" in final
    assert any("HEALTHCHECK" in line for line in final)


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == ocisync.__version__
    assert f"ocisync:{ocisync.__version__}" in (ROOT / "deploy" / "kubernetes.yaml").read_text()


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_the_locks_have_hashes_and_no_addresses(name: str) -> None:
    text = (ROOT / name).read_text()
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links| @ ", text)
    pinned = re.findall(r"(?m)^([\w.-]+)==\S+[^\n]*\\\n    --hash=sha256:", text)
    assert len(pinned) == len(re.findall(r"(?m)^[\w.-]+==", text))
    assert {"aiohttp", "anyio", "hatchling"} <= set(pinned)
