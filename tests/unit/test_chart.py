"""The Helm chart, rendered by helm: what comes out is what Kubernetes and ocisync take."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

import ocisync
from tests.servers.command import run_ocisync

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "chart"
HELM = shutil.which("helm") or str(Path(sys.executable).with_name("helm"))
MONITORED = {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}}
FULL: dict[str, Any] = {
    "image": {"repository": "registry.example.com/ocisync", "digest": "sha256:" + "0" * 64},
    "secrets": {"hub-token": "secret"},
    "config": {
        "registries": {"docker.io": {"username": "me", "password": {"file": "/run/secrets/ocisync/hub-token"}}},
        "daemon": {"drain": "10s", "state": "/var/lib/ocisync/elsewhere"},
    },
    "monitoring": MONITORED,
    "persistence": {"storageClass": "fast"},
    "podAnnotations": {"a": "b"},
    "podLabels": {"team": "x"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "k", "operator": "Exists"}],
    "priorityClassName": "high",
    "imagePullSecrets": [{"name": "pull"}],
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "extraVolumes": [{"name": "drop", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "drop", "mountPath": "/drop"}],
}
CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "everything": FULL,
    "without a volume": {"persistence": {"enabled": False}},
    "with what exists": {"existingSecret": "mine", "persistence": {"existingClaim": "data"}},
}


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HELM, *arguments], capture_output=True, text=True, timeout=60, check=False)


def render(folder: Path, values: dict[str, Any], release: str = "mirror") -> list[dict[str, Any]]:
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    done = helm("template", release, CHART, "-f", file)
    assert done.returncode == 0, done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    [found] = [one for one in documents if one["kind"] == kind and not one["metadata"]["name"].endswith("-dashboard")]
    return found


def test_helm_finds_nothing_to_say() -> None:
    done = helm("lint", "--strict", "--quiet", CHART)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", CASES.values(), ids=list(CASES))
def test_what_is_rendered_is_known_to_kubernetes_and_hangs_together(values: dict[str, Any], tmp_path: Path) -> None:
    documents = render(tmp_path, values)
    for document in documents:
        if document["apiVersion"] != "monitoring.coreos.com/v1":
            kubernetes_validate.validate(document, "1.34", strict=True)
    names = {(one["kind"], one["metadata"]["name"]) for one in documents}
    assert len(names) == len(documents)
    pod = of_kind(documents, "Deployment")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = pod["containers"][0]["volumeMounts"]
    assert {mount["name"] for mount in mounts} == set(volumes)
    assert ("ConfigMap", volumes["config"]["configMap"]["name"]) in names
    claim = volumes["data"].get("persistentVolumeClaim", {}).get("claimName", "data")
    assert claim == "data" or ("PersistentVolumeClaim", claim) in names
    if "secrets" in volumes:
        secret = volumes["secrets"]["secret"]["secretName"]
        assert secret == "mine" or ("Secret", secret) in names
    labels = of_kind(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert of_kind(documents, "Service")["spec"]["selector"].items() <= labels.items()


@pytest.mark.parametrize("values", CASES.values(), ids=list(CASES))
def test_the_configuration_is_valid_and_fits_the_pod(values: dict[str, Any], tmp_path: Path) -> None:
    text = of_kind(render(tmp_path, values), "ConfigMap")["data"]["ocisync.yaml"]
    secrets, file = tmp_path / "secrets", tmp_path / "ocisync.yaml"
    secrets.mkdir()
    for key, value in values.get("secrets", {}).items():
        (secrets / key).write_text(value)
    file.write_text(text.replace("/run/secrets/ocisync", str(secrets)))
    run_ocisync("config", "check", "-c", file).expect(0)
    daemon = yaml.safe_load(text)["daemon"]
    assert (daemon["listen"], daemon["watch_config"]) == ("0.0.0.0:8080", True)
    assert daemon["temporary"] == "/var/spool/ocisync"
    assert daemon["state"] == values.get("config", {}).get("daemon", {}).get("state", "/var/lib/ocisync/state")


def test_monitoring_is_that_of_deploy(tmp_path: Path) -> None:
    documents = render(tmp_path, FULL)
    alerts = yaml.safe_load((DEPLOY / "prometheus-alerts.yaml").read_text())
    assert of_kind(documents, "PrometheusRule")["spec"] == alerts
    monitor = of_kind(documents, "PodMonitor")["spec"]
    pod = of_kind(documents, "Deployment")["spec"]["template"]
    assert monitor["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    assert pod["metadata"]["labels"][monitor["jobLabel"]] == "ocisync"
    [board] = [one for one in documents if one["metadata"]["name"].endswith("-dashboard")]
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(board["data"]["ocisync.json"]) == json.loads((DEPLOY / "grafana-dashboard.json").read_text())


def test_wrong_values_are_refused(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"imagee": {}},
        {"image": {"digest": "latest"}},
        {"service": {"port": 0}},
        {"config": {"version": 2}},
    ]
    file = tmp_path / "values.json"
    for values in wrong:
        file.write_text(json.dumps(values))
        assert helm("template", "x", CHART, "-f", file).returncode != 0, values


def test_the_charts_version_is_the_projects_and_all_values_are_in_the_schema() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == ocisync.__version__
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert values.keys() | {"global"} == schema["properties"].keys()
