"""The alert rules for Prometheus: well-formed, and about metrics and labels that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocisync.daemon.metrics import Metrics
from ocisync.state.rule_records import RuleStatus, RuleView
from ocisync.sync.reports import Failure, JobReport, TagReport, Verdict

ROOT = Path(__file__).parents[2]
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "deploy" / "prometheus-alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
_METRIC = re.compile(r"\b(ocisync_\w+)(?:\{([^}]*)\})?")
_DURATION = re.compile(r"[0-9]+[smhd]\Z")


def offered() -> dict[str, set[str]]:
    """The names of all samples, with their labels."""
    metrics = Metrics()
    lost = TagReport("1", Verdict.FAILED, "", failure=Failure("verify.digest", "", "retry"))
    metrics.observe_job(JobReport("rule", "", "target:out/x", tags=[lost]))
    metrics.observe_rules({"rule": RuleView(RuleStatus(last_success=1.0, next_due=1.0), 1.0, 1.0)})
    metrics.observe_input("rule", "failed")
    metrics.observe_webhook("hook", "refused")
    samples = [sample for family in metrics.registry.collect() for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


def test_there_is_one_of_each() -> None:
    assert len(NAMES) == len(set(NAMES)) >= 8
    assert "OcisyncRuleLags" in NAMES


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_names_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    known = offered()
    used = _METRIC.findall(rule["expr"])
    assert used or rule["expr"].startswith("up{")
    for name, selectors in used:
        assert name in known
        assert set(re.findall(r"(\w+)=", selectors)) <= known[name]
    grouped = re.findall(r"by \(([^)]*)\)", rule["expr"])
    labels = {label.strip() for one in grouped for label in one.split(",")}
    assert all(labels <= known[name] for name, _ in used)
    shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert shown <= (labels or {"instance"}.union(*(known[name] for name, _ in used)))


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_is_well_formed(rule: dict[str, Any]) -> None:
    assert rule.keys() <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description"}
    for opening, closing in ("()", "[]", "{}"):
        assert rule["expr"].count(opening) == rule["expr"].count(closing)
    assert all(_DURATION.match(text) for text in [*re.findall(r"\[(\w+)\]", rule["expr"]), rule.get("for", "1m")])


def test_outcomes_and_codes_are_those_of_the_documentation() -> None:
    documented = (ROOT / "docs" / "metrics.md").read_text()
    for rule in RULES:
        for outcome in re.findall(r'outcome="(\w+)"', rule["expr"]):
            assert f"`{outcome}`" in documented


def test_the_alerts_are_documented() -> None:
    assert "deploy/prometheus-alerts.yaml" in (ROOT / "docs" / "metrics.md").read_text()
