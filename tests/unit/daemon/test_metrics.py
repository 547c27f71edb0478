"""Metrics, as a scrape shows them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ocisync import __version__
from ocisync.daemon.metrics import MetricNames, Metrics, target_label
from ocisync.state.rule_records import RuleStatus, RuleView
from ocisync.sync.reports import Failure, JobReport, TagReport, Traffic, Verdict

DOCUMENT = Path(__file__).parents[3] / "docs" / "metrics.md"
_ROW = re.compile(r"^\| `(ocisync_\w+)` \| (\w+) \| (.*?) \|", re.MULTILINE)


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """Every sample by its name and its labels' values in the order of the labels' names."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {(sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples}


def a_report() -> JobReport:
    lost = Failure("source.missing", "b: no such tag", "fail")
    return JobReport(
        "alpine",
        "docker://docker.io/library/alpine:latest",
        "target:mirror/library/alpine",
        tags=[
            TagReport("a", Verdict.COPIED, "new"),
            TagReport("b", Verdict.FAILED, "gone", failure=lost),
            TagReport("c", Verdict.UNCHANGED, "same digest"),
        ],
        traffic=Traffic(blobs=3, manifests=2, mounted=1, skipped=4, bytes=1000),
        seconds=2.5,
        requests=12,
    )


def test_a_job_is_counted() -> None:
    metrics = Metrics()
    metrics.observe_job(a_report())
    found = samples(metrics)
    expected = {
        ("ocisync_jobs_total", "failed", "alpine"): 1,
        ("ocisync_job_duration_seconds_sum", "alpine"): 2.5,
        ("ocisync_requests_total", "alpine"): 12,
        ("ocisync_tags_total", "alpine", "copied"): 1,
        ("ocisync_tags_total", "alpine", "failed"): 1,
        ("ocisync_tags_total", "alpine", "unchanged"): 1,
        ("ocisync_errors_total", "source.missing", "alpine"): 1,
        ("ocisync_copied_bytes_total", "mirror"): 1000,
        ("ocisync_copied_blobs_total", "mirror"): 3,
        ("ocisync_copied_manifests_total", "mirror"): 2,
        ("ocisync_mounted_blobs_total", "mirror"): 1,
        ("ocisync_skipped_blobs_total", "mirror"): 4,
    }
    assert {key: found.get(key) for key in expected} == expected


def test_a_job_that_failed_as_a_whole_is_counted_by_its_code() -> None:
    metrics = Metrics()
    metrics.observe_job(JobReport("alpine", "", "target:x/y", failure=Failure("auth.denied", "401", "fail")))
    metrics.observe_job(JobReport("alpine", "", "target:x/z"))
    found = samples(metrics)
    assert found["ocisync_errors_total", "auth.denied", "alpine"] == 1
    assert found["ocisync_jobs_total", "failed", "alpine"] == found["ocisync_jobs_total", "ok", "alpine"] == 1


def test_rules_are_shown_until_they_are_removed() -> None:
    metrics = Metrics()
    alpine = RuleView(RuleStatus(last_success=100.0, next_due=200.0, failures=2), lag=50.0, gap=3600.0)
    metrics.observe_rules({"new": RuleView(RuleStatus(), lag=7.0, gap=60.0), "alpine": alpine})
    found = samples(metrics)
    assert found["ocisync_rule_last_success_timestamp_seconds", "alpine"] == 100
    assert found["ocisync_rule_next_run_timestamp_seconds", "alpine"] == 200
    assert found["ocisync_rule_consecutive_failures", "alpine"] == 2
    assert (found["ocisync_rule_lag_seconds", "alpine"], found["ocisync_rule_lag_seconds", "new"]) == (50, 7)
    assert found["ocisync_rule_interval_seconds", "alpine"] == 3600
    assert ("ocisync_rule_last_success_timestamp_seconds", "new") not in found
    metrics.observe_rules({"alpine": alpine})
    assert not [key for key in samples(metrics) if "new" in key]
    metrics.observe_rules({})
    assert not [key for key in samples(metrics) if "alpine" in key]


def test_the_queue_is_read_at_each_scrape() -> None:
    metrics, waiting = Metrics(), [1, 2, 3]
    metrics.watch_queue(lambda: len(waiting), lambda: 7)
    assert samples(metrics)["ocisync_queue_depth",] == 3
    waiting.clear()
    found = samples(metrics)
    assert (found["ocisync_queue_depth",], found["ocisync_running_jobs",]) == (0, 7)


def test_inputs_and_reloads_are_counted() -> None:
    metrics = Metrics()
    assert samples(metrics)["ocisync_config_reloads_total", "failed"] == 0
    metrics.observe_input("builds", "retry")
    metrics.observe_reload(ok=False)
    metrics.observe_reload(ok=True)
    found = samples(metrics)
    assert found["ocisync_drop_inputs_total", "retry", "builds"] == 1
    assert found["ocisync_config_reloads_total", "failed"] == found["ocisync_config_reloads_total", "ok"] == 1


def test_what_is_configured_is_there_at_0_before_anything_happens() -> None:
    metrics = Metrics()
    metrics.declare(MetricNames(rules=["alpine"], drops=["builds"], targets=["mirror"], webhooks=["hub"]))
    found = samples(metrics)
    expected = [
        ("ocisync_jobs_total", "failed", "alpine"),
        ("ocisync_jobs_total", "ok", "builds"),
        ("ocisync_job_duration_seconds_count", "alpine"),
        ("ocisync_requests_total", "builds"),
        ("ocisync_errors_total", "verify.digest", "alpine"),
        ("ocisync_errors_total", "auth.realm", "alpine"),
        ("ocisync_errors_total", "limit.rate", "builds"),
        ("ocisync_copied_bytes_total", "mirror"),
        ("ocisync_skipped_blobs_total", "mirror"),
    ]
    expected += [("ocisync_tags_total", "alpine", one) for one in ("copied", "unchanged", "kept", "pruned", "failed")]
    expected += [("ocisync_drop_inputs_total", one, "builds") for one in ("done", "failed", "retry")]
    outcomes = ("taken", "unmatched", "ignored", "invalid", "refused")
    expected += [("ocisync_webhooks_total", one, "hub") for one in outcomes]
    assert {key: found.get(key) for key in expected} == dict.fromkeys(expected, 0)
    assert ("ocisync_drop_inputs_total", "failed", "alpine") not in found


def test_names_declared_again_keep_their_counts() -> None:
    metrics = Metrics()
    metrics.declare(MetricNames(drops=["builds"]))
    metrics.observe_input("builds", "failed")
    metrics.declare(MetricNames(drops=["builds", "more"]))
    found = samples(metrics)
    assert found["ocisync_drop_inputs_total", "failed", "builds"] == 1
    assert found["ocisync_drop_inputs_total", "failed", "more"] == 0


def test_skipped_files_are_those_of_the_last_look() -> None:
    metrics = Metrics()
    metrics.observe_skipped_files({"builds": 3, "more": 0})
    found = samples(metrics)
    assert (found["ocisync_drop_skipped_files", "builds"], found["ocisync_drop_skipped_files", "more"]) == (3, 0)
    metrics.observe_skipped_files({"more": 1})
    assert [key for key in samples(metrics) if key[0] == "ocisync_drop_skipped_files"] == [
        ("ocisync_drop_skipped_files", "more")
    ]


def test_the_build_is_named() -> None:
    assert samples(Metrics())["ocisync_build_info", __version__] == 1


@pytest.mark.parametrize(
    ("target", "label"),
    [
        ("target:mirror/library/alpine", "mirror"),
        ("target:mirror/a:tag", "mirror"),
        ("docker://user.example/x:1", "docker"),
        ("static:/home/me//name:1", "static"),
        ("s3://bucket/name?endpoint=http://x", "s3"),
    ],
)
def test_a_target_is_labelled_by_name_only(target: str, label: str) -> None:
    assert target_label(target) == label


def test_every_metric_is_documented_with_its_type_and_labels() -> None:
    metrics = Metrics()
    metrics.observe_job(a_report())
    metrics.observe_rules({"alpine": RuleView(RuleStatus(last_success=1.0, next_due=2.0), lag=1.0, gap=1.0)})
    metrics.observe_webhook("hub", "taken")
    metrics.observe_notification("ops", "sent")
    metrics.declare(MetricNames(judged=["alpine"]))
    metrics.observe_input("builds", "done")
    metrics.observe_skipped_files({"builds": 1})
    documented = {
        name: (kind.replace("info", "gauge"), set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in _ROW.findall(DOCUMENT.read_text())
    }
    offered = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        if not family.name.endswith("_created"):
            name = family.name + ("_total" if family.type == "counter" else "")
            offered[name] = (family.type, set(family.samples[0].labels) - {"le"})
    assert documented == offered
