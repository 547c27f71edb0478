"""Metrics in Prometheus' format; docs/metrics.md explains each.

Labels are rules, targets and error codes: names from the configuration, never a reference, URL or message.

Prometheus sees a counter rise only between two samples. A series that comes into being with its first failure is never
seen to rise, and no alert fires. So every series that can be foreseen exists at 0 before anything happens (`declare`).
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    disable_created_metrics,
    generate_latest,
)

from ocisync import __version__, errors
from ocisync.state.rule_records import RuleView
from ocisync.sync.judging.acceptance import Outcome
from ocisync.sync.reports import JobReport, Verdict

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600)
_JOB_OUTCOMES = ("ok", "failed")
_INPUT_OUTCOMES = ("done", "failed", "retry")
_NOTIFY_OUTCOMES = ("sent", "failed")
_WEBHOOK_OUTCOMES = ("taken", "unmatched", "ignored", "invalid", "refused")
# Those that deploy/prometheus-alerts.yaml watches. All would be 14,000 series for 500 rules, and a slow page.
_WATCHED_CODES = (
    errors.AuthError.code,
    "auth.realm",
    errors.RateLimited.code,
    errors.ManifestError.code,
    errors.AmbiguousManifest.code,
    errors.UnsupportedManifest.code,
    errors.VerificationError.code,
    errors.DigestMismatch.code,
    errors.SizeMismatch.code,
    errors.DiffIdMismatch.code,
    errors.SignatureError.code,
    "verify.unsigned",
)
# A second series beside each counter, which nobody reads, would double the page.
disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class MetricNames:
    """What a configuration names: the values that labels will have."""

    rules: Sequence[str] = ()  # that copy from registries or look after targets
    drops: Sequence[str] = ()
    targets: Sequence[str] = ()
    webhooks: Sequence[str] = ()
    judged: Sequence[str] = ()  # rules that demand something of images
    channels: Sequence[str] = ()  # of notifications


class Metrics:
    """One set of metrics, in a registry of its own so that tests and reloads never share one."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        Info("ocisync_build", "The running version.", registry=self.registry).info({"version": __version__})
        self.jobs = self._counter("jobs", "Jobs that ended.", "rule", "outcome")
        self.job_seconds = Histogram(
            "ocisync_job_duration_seconds",
            "How long jobs took.",
            ("rule",),
            registry=self.registry,
            buckets=_SECONDS,
        )
        self.tags = self._counter("tags", "Tags looked at, by what happened to them.", "rule", "verdict")
        self.verifications = self._counter(
            "verifications", "Images judged by a rule's demands, by the outcome.", "rule", "outcome"
        )
        self.errors = self._counter("errors", "Failures of jobs and tags, by the error's code.", "rule", "code")
        self.requests = self._counter("requests", "Requests sent to sources and targets.", "rule")
        self.bytes = self._counter("copied_bytes", "Bytes sent to a target.", "target")
        self.blobs = self._counter("copied_blobs", "Blobs sent to a target.", "target")
        self.manifests = self._counter("copied_manifests", "Manifests sent to a target.", "target")
        self.mounted = self._counter("mounted_blobs", "Blobs linked or copied inside a target.", "target")
        self.skipped = self._counter("skipped_blobs", "Blobs a target had already.", "target")
        self.inputs = self._counter("drop_inputs", "Dropped inputs taken: done, failed or retry.", "rule", "outcome")
        self.reloads = self._counter("config_reloads", "Reloads of the configuration: ok or failed.", "outcome")
        for outcome in _JOB_OUTCOMES:
            self.reloads.labels(outcome)
        self.skipped_files = self._gauge("drop_skipped_files", "Files in a drop folder that are left alone.", "rule")
        self.last_success = self._gauge("rule_last_success_timestamp_seconds", "When a rule last did all.", "rule")
        self.next_run = self._gauge("rule_next_run_timestamp_seconds", "When a rule runs next.", "rule")
        self.failures = self._gauge("rule_consecutive_failures", "How often in a row a rule has failed.", "rule")
        self.lag = self._gauge("rule_lag_seconds", "How long ago a rule last did all.", "rule")
        self.gap = self._gauge("rule_interval_seconds", "From one run of a rule to the next.", "rule")
        self.webhooks = self._counter(
            "webhooks", "Notifications by webhooks, by what became of them.", "webhook", "outcome"
        )
        self.notifications = self._counter("notifications", "Messages to people: sent or failed.", "channel", "outcome")
        self._shown: frozenset[str] = frozenset()
        self.depth = self._gauge("queue_depth", "Jobs that wait.")
        self.running = self._gauge("running_jobs", "Jobs that run.")

    def declare(self, names: MetricNames) -> None:
        """Have a series at 0 for everything that may be counted with these names."""
        for rule in (*names.rules, *names.drops):
            self.job_seconds.labels(rule)
            self.requests.labels(rule)
            _declare(self.jobs, rule, _JOB_OUTCOMES)
            _declare(self.tags, rule, [verdict.value for verdict in Verdict])
            _declare(self.errors, rule, _WATCHED_CODES)
        for rule in names.judged:
            _declare(self.verifications, rule, [outcome.value for outcome in Outcome])
        for rule in names.drops:
            _declare(self.inputs, rule, _INPUT_OUTCOMES)
        for target in names.targets:
            for counter in (self.bytes, self.blobs, self.manifests, self.mounted, self.skipped):
                counter.labels(target)
        for webhook in names.webhooks:
            _declare(self.webhooks, webhook, _WEBHOOK_OUTCOMES)
        for channel in names.channels:
            _declare(self.notifications, channel, _NOTIFY_OUTCOMES)

    def watch_queue(self, depth: Callable[[], float], running: Callable[[], float]) -> None:
        """Read the queue's state at each scrape."""
        self.depth.set_function(depth)
        self.running.set_function(running)

    def observe_job(self, report: JobReport) -> None:
        """Count what one run of a job did."""
        self.jobs.labels(report.rule, "ok" if report.ok else "failed").inc()
        self.job_seconds.labels(report.rule).observe(report.seconds)
        self.requests.labels(report.rule).inc(report.requests)
        for verdict, count in collections.Counter(tag.verdict.value for tag in report.tags).items():
            self.tags.labels(report.rule, verdict).inc(count)
        judged = collections.Counter(tag.judgement.outcome.value for tag in report.tags if tag.judgement)
        for outcome, count in judged.items():
            self.verifications.labels(report.rule, outcome).inc(count)
        for failure in (report.failure, *(tag.failure for tag in report.failed)):
            if failure is not None:
                self.errors.labels(report.rule, failure.code).inc()
        self._observe_traffic(report)

    def observe_rules(self, rules: Mapping[str, RuleView]) -> None:
        """Show how rules fare, and no more those that a reload removed."""
        for gone in self._shown - rules.keys():
            for gauge in (self.last_success, self.next_run, self.failures, self.lag, self.gap):
                with suppress(KeyError):
                    gauge.remove(gone)
        for rule, view in rules.items():
            self._observe_rule(rule, view)
        self._shown = frozenset(rules)

    def _observe_rule(self, rule: str, view: RuleView) -> None:
        self.failures.labels(rule).set(view.status.failures)
        self.lag.labels(rule).set(view.lag)
        self.gap.labels(rule).set(view.gap)
        for gauge, moment in ((self.last_success, view.status.last_success), (self.next_run, view.status.next_due)):
            if moment is not None:
                gauge.labels(rule).set(moment)

    def observe_webhook(self, webhook: str, outcome: str) -> None:
        """Count a notification: `taken`, `unmatched`, `ignored`, `invalid` or `refused`."""
        self.webhooks.labels(webhook, outcome).inc()

    def observe_notification(self, channel: str, outcome: str) -> None:
        """Count an attempt to tell people: `sent` or `failed`."""
        self.notifications.labels(channel, outcome).inc()

    def observe_input(self, rule: str, outcome: str) -> None:
        """Count a dropped input: `done`, `failed` (quarantined) or `retry`."""
        self.inputs.labels(rule, outcome).inc()

    def observe_skipped_files(self, files: Mapping[str, int]) -> None:
        """Show how many files each drop rule leaves alone, and no more those of rules that a reload removed."""
        self.skipped_files.clear()
        for rule, count in files.items():
            self.skipped_files.labels(rule).set(count)

    def observe_reload(self, *, ok: bool) -> None:
        """Count a reload of the configuration."""
        self.reloads.labels("ok" if ok else "failed").inc()

    def render(self) -> bytes:
        """The page for a scrape, of CONTENT_TYPE."""
        return generate_latest(self.registry)

    def _observe_traffic(self, report: JobReport) -> None:
        target = target_label(report.target)
        moved = report.traffic
        self.bytes.labels(target).inc(moved.bytes)
        self.blobs.labels(target).inc(moved.blobs)
        self.manifests.labels(target).inc(moved.manifests)
        self.mounted.labels(target).inc(moved.mounted)
        self.skipped.labels(target).inc(moved.skipped)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ocisync_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"ocisync_{name}", text, labels, registry=self.registry)


def _declare(counter: Counter, name: str, values: Sequence[str]) -> None:
    for value in values:
        counter.labels(name, value)


def target_label(target: str) -> str:
    """The configured name of a target, without the repository; for other locators only their transport."""
    transport, _, rest = target.partition(":")
    return rest.partition("/")[0] if transport == "target" else transport
