"""Write what is derived for monitoring: `make monitoring`.

deploy/grafana-dashboard.json       from the panels below
deploy/kubernetes-monitoring.yaml   a PodMonitor, and deploy/prometheus-alerts.yaml as a PrometheusRule
deploy/chart/files/                 the alerts and the dashboard for the Helm chart
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).parents[1] / "deploy"
WIDTH, HEIGHT = 24, 8  # of Grafana's grid, and of a panel
SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True)
class Panel:
    """A panel: expressions by their legends. `kind` is Grafana's."""

    title: str
    queries: Mapping[str, str]
    description: str
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 12


RATE = "[$__rate_interval]"
SELECT = '{instance=~"$instance"}'
BY_RULE = '{instance=~"$instance",rule=~"$rule"}'
FAILED = 'ocisync_drop_inputs_total{instance=~"$instance",rule=~"$rule",outcome="failed"}'
LAG, GAP = f"ocisync_rule_lag_seconds{BY_RULE}", f"ocisync_rule_interval_seconds{BY_RULE}"


def total(name: str, by: str, select: str, window: str = RATE) -> str:
    """The rate of a counter by a label."""
    return f"sum by ({by}) (rate(ocisync_{name}{select}{window}))"


def growth(name: str, by: str, select: str) -> str:
    """How often within an interval."""
    return f"sum by ({by}) (increase(ocisync_{name}{select}[$__interval]))"


PANELS = (
    Panel("Rules that fail", {"": f"sum(ocisync_rule_consecutive_failures{BY_RULE} > bool 0)"},
          "Rules whose last run failed.", kind="stat", width=6),
    Panel("Longest lag", {"": f"max({LAG})"},
          "Seconds since the rule that is furthest behind did all it should.", "s", "stat", 6),
    Panel("Files left alone", {"": f"sum(ocisync_drop_skipped_files{BY_RULE})"},
          "Files in drop folders that are no archives by their names, or cannot be read.", kind="stat", width=6),
    Panel("Bad files in a day", {"": f'sum(increase({FAILED}[1d]))'},
          "Dropped files that were set aside with their reason.", kind="stat", width=6),
    Panel("Lag in intervals", {"{{rule}}": f"{LAG} / {GAP}"},
          "1 is a rule that keeps to its interval; the alert comes at 3."),
    Panel("Failed runs in a row", {"{{rule}}": f"ocisync_rule_consecutive_failures{BY_RULE}"},
          "A failing rule is tried again with growing pauses."),
    Panel("Time since the last success", {"{{rule}}": f"time() - ocisync_rule_last_success_timestamp_seconds{BY_RULE}"},
          "Only rules that have succeeded once.", "s"),
    Panel("Time to the next run", {"{{rule}}": f"ocisync_rule_next_run_timestamp_seconds{BY_RULE} - time()"},
          "Below 0: the rule is due and waits, or runs.", "s"),
    Panel("Tags", {"{{verdict}}": growth("tags_total", "verdict", BY_RULE)}, "Tags looked at, by what became of them."),
    Panel("Errors", {"{{rule}} {{code}}": f'{growth("errors_total", "rule, code", BY_RULE)} > 0'},
          "By the error's code; docs/metrics.md."),
    Panel("Bytes to targets", {"{{target}}": total("copied_bytes_total", "target", SELECT)}, "Sent to targets.", "Bps"),
    Panel("Blobs and manifests", {
        "copied blobs": f"sum(rate(ocisync_copied_blobs_total{SELECT}{RATE}))",
        "copied manifests": f"sum(rate(ocisync_copied_manifests_total{SELECT}{RATE}))",
        "mounted blobs": f"sum(rate(ocisync_mounted_blobs_total{SELECT}{RATE}))",
        "skipped blobs": f"sum(rate(ocisync_skipped_blobs_total{SELECT}{RATE}))",
    }, "Mounted: linked or copied inside a target. Skipped: there already."),
    Panel("Requests", {"{{rule}}": total("requests_total", "rule", BY_RULE)}, "To sources and targets.", "reqps"),
    Panel("Jobs", {"{{outcome}}": growth("jobs_total", "outcome", BY_RULE)}, "Jobs that ended."),
    Panel("Duration of jobs", {
        "half": f"histogram_quantile(0.5, sum by (le) (rate(ocisync_job_duration_seconds_bucket{BY_RULE}{RATE})))",
        "19 of 20": f"histogram_quantile(0.95, sum by (le) (rate(ocisync_job_duration_seconds_bucket{BY_RULE}{RATE})))",
    }, "Half of the jobs, and 19 of 20, took no longer.", "s"),
    Panel("Queue", {"waiting": f"sum(ocisync_queue_depth{SELECT})", "running": f"sum(ocisync_running_jobs{SELECT})"},
          "Jobs."),
    Panel("Signatures and ages", {"{{outcome}}": growth("verifications_total", "outcome", BY_RULE)},
          "Images judged by what rules demand of them."),
    Panel("Dropped inputs", {"{{rule}} {{outcome}}": growth("drop_inputs_total", "rule, outcome", BY_RULE)},
          "retry: tried again by itself."),
    Panel("Webhooks", {"{{webhook}} {{outcome}}": growth("webhooks_total", "webhook, outcome", SELECT)},
          "What became of notifications."),
    Panel("Messages to people", {"{{channel}} {{outcome}}": growth("notifications_total", "channel, outcome", SELECT)},
          "failed: an attempt; most are sent later."),
    Panel("Reloads", {"{{instance}} {{outcome}}": growth("config_reloads_total", "instance, outcome", SELECT)},
          "failed: the configuration before stays in force."),
    Panel("Version", {"{{instance}} {{version}}": f"ocisync_build_info{SELECT}"}, "What runs where.", kind="table"),
)  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The dashboard, for Grafana 9 and newer."""
    panels, x, y = [], 0, 0
    for number, panel in enumerate(PANELS, 1):
        if x + panel.width > WIDTH:
            x, y = 0, y + HEIGHT
        place = {"x": x, "y": y, "w": panel.width, "h": HEIGHT}
        panels.append(_panel(panel, number) | {"gridPos": place})
        x += panel.width
    return {
        "uid": "ocisync",
        "title": "ocisync",
        "tags": ["ocisync"],
        "editable": True,
        "schemaVersion": 37,
        "time": {"from": "now-24h", "to": "now"},
        "refresh": "1m",
        "templating": {
            "list": [_source(), _choice("instance", "ocisync_build_info"), _choice("rule", "ocisync_jobs_total")]
        },
        "panels": panels,
    }


def _panel(panel: Panel, number: int) -> dict[str, Any]:
    targets = [
        {"refId": chr(65 + at), "datasource": SOURCE, "expr": expr, "legendFormat": legend or "__auto"}
        | ({"instant": True, "format": "table"} if panel.kind == "table" else {})
        for at, (legend, expr) in enumerate(panel.queries.items())
    ]
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {},
        "targets": targets,
    }


def _source() -> dict[str, Any]:
    return {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"}


def _choice(label: str, metric: str) -> dict[str, Any]:
    query = f"label_values({metric}, {label})"
    return {
        "name": label,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "definition": query,
        "query": {"query": query, "refId": label},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


MONITORS = """\
# For clusters with the Prometheus operator; written by `make monitoring` from prometheus-alerts.yaml.
#   kubectl apply -f kubernetes-monitoring.yaml
# Give both the labels that your Prometheus selects by (often `release: NAME`). `jobLabel` makes the job's name ocisync,
# as the alerts expect it.
---
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: ocisync
  labels: {app.kubernetes.io/name: ocisync}
spec:
  jobLabel: app.kubernetes.io/name
  selector:
    matchLabels: {app.kubernetes.io/name: ocisync}
  podMetricsEndpoints:
    - {port: http, path: /metrics, interval: 30s}
---
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ocisync
  labels: {app.kubernetes.io/name: ocisync}
spec:
"""


def generated() -> dict[Path, str]:
    """Every file that is written, by its path."""
    alerts = (DEPLOY / "prometheus-alerts.yaml").read_text()
    groups = alerts[alerts.index("groups:") :]
    indented = "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))
    board = json.dumps(dashboard(), indent=1) + "\n"
    return {
        DEPLOY / "grafana-dashboard.json": board,
        DEPLOY / "kubernetes-monitoring.yaml": MONITORS + indented,
        DEPLOY / "chart" / "files" / "prometheus-alerts.yaml": alerts,
        DEPLOY / "chart" / "files" / "grafana-dashboard.json": board,
    }


if __name__ == "__main__":
    for path, text in generated().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
