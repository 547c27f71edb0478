"""The dashboard and the operator's resources: current, and about metrics, labels and pods that exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.test_alerts import offered
from tests.unit.test_deploy import DEPLOYMENT, documents, of_kind, the_container, workload
from tools.monitoring import generated

DEPLOY = Path(__file__).parents[2] / "deploy"
PANELS: list[dict[str, Any]] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())["panels"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
EXPRESSIONS = [target["expr"] for _, target in TARGETS]
_METRIC = re.compile(r"\b(ocisync_\w+)(?:\{([^}]*)\})?")
_UNITS = {"short", "s", "Bps", "reqps"}  # Grafana's


def test_what_is_generated_is_current() -> None:
    stale = [str(path.relative_to(DEPLOY)) for path, text in generated().items() if path.read_text() != text]
    assert stale == [], "run `make monitoring`"


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=[f"{title} {one['refId']}" for title, one in TARGETS])
def test_a_panel_asks_for_metrics_and_labels_that_exist(title: str, target: dict[str, Any]) -> None:
    known = offered()
    used = _METRIC.findall(target["expr"])
    assert used
    for name, selectors in used:
        assert name in known
        assert set(re.findall(r"(\w+)=", selectors)) <= known[name] | {"instance"}
    shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
    grouped = re.findall(r"by \(([^)]*)\)", target["expr"])
    labels = {label.strip() for one in grouped for label in one.split(",")}
    assert shown <= (labels or known[used[0][0]] | {"instance"})


def test_every_metric_is_on_the_dashboard() -> None:
    seen = {name for text in EXPRESSIONS for name, _ in _METRIC.findall(text)}
    families = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in offered()}
    families -= {re.sub(r"_total$", "", name) for name in families if name.endswith("_total")}
    assert {re.sub(r"_bucket$", "", name) for name in seen} == families


def test_prometheus_understands_every_expression(tmp_path: Path) -> None:
    plain = [text.replace("$__rate_interval", "5m").replace("$__interval", "5m") for text in EXPRESSIONS]
    rules = [{"record": f"x:{number}", "expr": text} for number, text in enumerate(plain)]
    file = tmp_path / "rules.yaml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_the_panels_fill_the_grid_without_overlap() -> None:
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) == 23
    assert {panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS} <= _UNITS


def test_the_operator_scrapes_the_pods_under_the_jobs_name_and_has_the_same_alerts() -> None:
    monitoring = "kubernetes-monitoring.yaml"
    assert [one["apiVersion"] for one in documents(monitoring)] == ["monitoring.coreos.com/v1"] * 2
    monitor = of_kind(monitoring, "PodMonitor")["spec"]
    labels = workload(DEPLOYMENT)["template"]["metadata"]["labels"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    assert labels[monitor["jobLabel"]] == "ocisync"  # the alert OcisyncDown asks for this job
    [endpoint] = monitor["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in the_container(DEPLOYMENT)["ports"]}
    alerts = yaml.safe_load((DEPLOY / "prometheus-alerts.yaml").read_text())
    assert of_kind(monitoring, "PrometheusRule")["spec"] == alerts
