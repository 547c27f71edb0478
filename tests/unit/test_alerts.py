"""The alert rules for Prometheus: well-formed, about metrics and labels that exist, and each fires when it should."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from ocisync.daemon.metrics import MetricNames, Metrics
from ocisync.state.rule_records import RuleStatus, RuleView
from ocisync.sync.judging.acceptance import Judgement, Outcome
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
    judgement = Judgement(Outcome.REFUSED)
    lost = TagReport("1", Verdict.FAILED, "", failure=Failure("verify.digest", "", "retry"), judgement=judgement)
    metrics.observe_job(JobReport("rule", "", "target:out/x", tags=[lost]))
    metrics.observe_rules({"rule": RuleView(RuleStatus(last_success=1.0, next_due=1.0), 1.0, 1.0)})
    metrics.observe_input("rule", "failed")
    metrics.observe_webhook("hook", "refused")
    metrics.observe_notification("ops", "failed")
    metrics.observe_skipped_files({"rule": 1})
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


INTERVAL = 60.0  # seconds: of the sample rule
TROUBLE = 10  # the minute in which it begins
END = 40
SAMPLE = {"instance": "host:8080", "job": "ocisync"}
NAMED = MetricNames(
    rules=["alpine"], drops=["builds"], targets=["mirror"], webhooks=["hub"], judged=["alpine"], channels=["ops"]
)


@dataclass
class World:
    """A daemon as Prometheus sees it, one scrape a minute; `series` are promtool's values."""

    metrics: Metrics = field(default_factory=Metrics)
    view: RuleView = field(default_factory=lambda: RuleView(RuleStatus(), 30.0, INTERVAL))
    waiting: int = 0
    is_up: bool = True
    series: dict[str, list[str]] = field(default_factory=dict)

    def fail(self, code: str) -> None:
        lost = TagReport("1", Verdict.FAILED, "", failure=Failure(code, "", "retry"))
        self.metrics.observe_job(JobReport("alpine", "", "target:mirror/x", tags=[lost]))

    def scrape(self, minute: int) -> None:
        """Add one value to each series; a daemon that is down has none but `up`."""
        self.metrics.observe_rules({"alpine": self.view})
        found = {series_name("up", SAMPLE): float(self.is_up)}
        for family in self.metrics.registry.collect() if self.is_up else ():
            found |= {series_name(one.name, one.labels | SAMPLE): one.value for one in family.samples}
        for name in self.series.keys() | found.keys():
            value = f"{found[name]:g}" if name in found else "_"
            self.series.setdefault(name, ["_"] * minute).append(value)


def series_name(name: str, labels: Mapping[str, str]) -> str:
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in sorted(labels.items())) + "}"


def lag(world: World) -> None:
    world.view = RuleView(RuleStatus(), 3 * INTERVAL + 900 + 1, INTERVAL)


def fail_thrice(world: World) -> None:
    world.view = RuleView(RuleStatus(failures=3), 30.0, INTERVAL)


def stop_answering(world: World) -> None:
    world.is_up = False


def get_stuck(world: World) -> None:
    world.waiting = 1


def refuse_image(world: World) -> None:
    judgement = Judgement(Outcome.REFUSED, "verify.unsigned", "")
    lost = TagReport("1", Verdict.REFUSED, "", judgement=judgement)
    world.metrics.observe_job(JobReport("alpine", "", "target:mirror/x", tags=[lost]))


def limit_four_times(world: World) -> None:
    for _ in range(4):
        world.fail("limit.rate")


def refuse_many(world: World) -> None:
    for _ in range(12):
        world.metrics.observe_webhook("hub", "refused")


ALPINE, BUILDS = {"rule": "alpine"}, {"rule": "builds"}
# Alert -> the trouble of one minute, and the labels that the alert then has beside its severity.
TROUBLES: dict[str, tuple[Callable[[World], None], dict[str, str]]] = {
    "OcisyncDown": (stop_answering, SAMPLE),
    "OcisyncRuleLags": (lag, ALPINE | SAMPLE),
    "OcisyncRuleFails": (fail_thrice, ALPINE | SAMPLE),
    "OcisyncContentBroken": (lambda world: world.fail("verify.digest"), ALPINE | {"code": "verify.digest"}),
    "OcisyncLoginRefused": (lambda world: world.fail("auth.realm"), ALPINE),
    "OcisyncRateLimited": (limit_four_times, ALPINE),
    "OcisyncImageRefused": (refuse_image, ALPINE),
    "OcisyncInputRefused": (lambda world: world.metrics.observe_input("builds", "failed"), BUILDS),
    "OcisyncFilesSkipped": (lambda world: world.metrics.observe_skipped_files({"builds": 1}), BUILDS | SAMPLE),
    "OcisyncReloadRefused": (lambda world: world.metrics.observe_reload(ok=False), {"outcome": "failed"} | SAMPLE),
    "OcisyncWebhookRefused": (refuse_many, {"webhook": "hub"}),
    "OcisyncQueueStuck": (get_stuck, SAMPLE),
    "OcisyncNotificationsFail": (lambda world: world.metrics.observe_notification("ops", "failed"), {"channel": "ops"}),
}
AT_ONCE = (
    "OcisyncContentBroken",
    "OcisyncLoginRefused",
    "OcisyncImageRefused",
    "OcisyncInputRefused",
    "OcisyncNotificationsFail",
)  # also before the first scrape


def scenario(name: str, begin: int) -> dict[str, Any]:
    """A promtool test: quiet before the trouble of minute `begin`, one alert after it; without a name none at all."""
    world = World()
    world.metrics.declare(NAMED)
    world.metrics.watch_queue(lambda: world.waiting, lambda: 0)
    trouble, labels = TROUBLES.get(name, (lambda _: None, {}))
    for minute in range(END + 1):
        if minute == begin:
            trouble(world)
        world.scrape(minute)
    severity = next((rule["labels"]["severity"] for rule in RULES if rule["alert"] == name), "")
    firing = series_name("ALERTS", labels | {"alertname": name, "alertstate": "firing", "severity": severity})
    seen = begin + (5 if name == "OcisyncReloadRefused" else 20)  # minutes; this one looks back 15
    return {
        "interval": "1m",
        "name": f"{name} from minute {begin}",
        "input_series": [{"series": name, "values": " ".join(values)} for name, values in world.series.items()],
        "promql_expr_test": [
            {"expr": 'ALERTS{alertstate="firing"}', "eval_time": f"{begin - 1}m", "exp_samples": []},
            {
                "expr": 'ALERTS{alertstate="firing"}',
                "eval_time": f"{seen}m",
                "exp_samples": [{"labels": firing, "value": 1}] if name else [],
            },
        ][begin == 0 :],
    }


def test_every_alert_fires_on_the_first_trouble_and_not_without(tmp_path: Path) -> None:
    assert set(TROUBLES) == set(NAMES)
    tests = [scenario(name, TROUBLE) for name in ("", *NAMES)] + [scenario(name, 0) for name in AT_ONCE]
    file = tmp_path / "tests.yaml"
    rules = str(ROOT / "deploy" / "prometheus-alerts.yaml")
    file.write_text(json.dumps({"rule_files": [rules], "evaluation_interval": "1m", "tests": tests}))
    for command in (["check", "rules", rules], ["test", "rules", str(file)]):
        done = subprocess.run(["promtool", *command], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_every_code_that_an_alert_watches_is_there_from_the_start() -> None:
    """The codes stand in the code as `code="…"`, in calls and in the error tree."""
    written = set()
    for file in (ROOT / "ocisync").rglob("*.py"):
        written |= set(re.findall(r'\bcode(?:: str)? ?= ?"([a-z0-9_.]+)"', file.read_text()))
    metrics = Metrics()
    metrics.declare(NAMED)
    declared = {
        sample.labels["code"]
        for family in metrics.registry.collect()
        for sample in family.samples
        if sample.name == "ocisync_errors_total"
    }
    for rule in RULES:
        for pattern in re.findall(r'code=~?"([^"]+)"', rule["expr"]):
            watched = {code for code in written if re.fullmatch(pattern, code)}
            assert watched
            assert watched <= declared
