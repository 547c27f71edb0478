"""Snapshots of daemons as the status page shows them: with nothing to do, with a few rules, with hundreds."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from ocisync.daemon.status.activity import RunningJob
from ocisync.daemon.status.failures import FailureNow
from ocisync.daemon.status.snapshot import FolderNow, JobNow, RuleNow, Snapshot
from ocisync.drop.report import FAILED, RETRY, SKIPPED, WAITING, DroppedInput, FolderReport
from ocisync.state.history_records import Sample
from ocisync.state.rule_records import RuleStatus, RuleView

NOW = 1_795_000_000.0
HOUR, MIB = 3600.0, 1 << 20
_DENIED = "registry.example.com: GET /v2/billing/api/manifests/2.4.1: 401: the credentials were refused"


def empty() -> Snapshot:
    """A daemon whose configuration has no rules."""
    return Snapshot(NOW)


def busy() -> Snapshot:
    """Five sync rules and two drop folders; some of it fails, some runs."""
    rules = [
        _rule("alpine", "docker.io/library/alpine", lag=900, is_running=True),
        _rule("app", "ghcr.io/acme/app", lag=2 * HOUR + 900, code="auth.denied", message=_DENIED, failures=3),
        _rule("base-images", "registry.example.com/base/debian", lag=240),
        _rule("charts", "ghcr.io/acme/charts", lag=2.2 * HOUR),
        _rule("tools", "quay.io/acme/tools", lag=1800, last_failure=NOW - 20 * HOUR),
    ]
    job = RunningJob("alpine", "docker://docker.io/library/alpine", "target:mirror/library/alpine", NOW - 40,
                     ("3.20", "3.21"), 4, 0, 61 * MIB, 148 * MIB, 11.4 * MIB, 0.0)  # fmt: skip
    stalled = RunningJob("tools", "docker://quay.io/acme/tools", "target:mirror/acme/tools", NOW - 400, ("1.9",), 11, 1,
                         12 * MIB, 12 * MIB, 0.0, 0.0)  # fmt: skip
    failures = [
        FailureNow(NOW - 95, "builds", "web-2.4.1.tar.gz", "archive.invalid",
                   "web-2.4.1.tar.gz: the archive ends in the middle of a member, at byte 48,234,496"),
        FailureNow(NOW - 900, "app", "mirror/acme/app:2.4.1", "auth.denied", _DENIED),
    ]  # fmt: skip
    waits = "pulls from quay.io to renew (0 of 100 are left)"
    return Snapshot(
        NOW, rules, _folders(), [JobNow(job), JobNow(stalled, waits)], failures, history(), waiting={"charts": 3},
        page_of_registry="/index.html",
    )  # fmt: skip


def large() -> Snapshot:
    """Five hundred rules, of which some fail."""
    chance = random.Random(7)
    rules = []
    for number in range(500):
        name = f"team-{number % 40}-service-{number}"
        lag = chance.uniform(60, 1.2 * HOUR)
        place = f"registry.example.com/team-{number % 40}/service-{number}"
        code, failures = ("net.unreachable", 2) if number % 71 == 3 else ("", 0)
        message = "registry.example.com: the connection was refused" if code else ""
        lag = 3 * HOUR if number % 97 == 5 else lag
        is_running = number % 160 == 9
        rules.append(_rule(name, place, lag=lag, code=code, failures=failures, message=message, is_running=is_running))
    failing = [
        FailureNow(
            NOW - 60 * at, rule.name, f"mirror/{rule.name}:1.{at}", rule.view.status.code, rule.view.status.message
        )
        for at, rule in enumerate(rule for rule in rules if rule.view.status.code)
    ]
    return Snapshot(NOW, rules, _folders(), [], failing, history())


def history() -> Sequence[Sample]:
    """A day: quiet at night, a failure at noon."""
    chance, samples = random.Random(3), []
    for at in range(288):
        hours = at / 12
        load = max(0.0, math.sin((hours - 5) / 19 * math.pi)) ** 2 * chance.uniform(0.2, 1.6)
        failed = 6 if 150 < at < 162 else 0
        late = max(0.0, (at - 150) * 240 if at < 175 else (200 - at) * 240)
        samples.append(
            Sample(NOW - 86400 + at * 300 + 300, 300, int(load * 420 * MIB), 900, int(load * 14), failed, late)
        )
    return samples


def _rule(
    name: str, source: str, *, lag: float, code: str = "", message: str = "", failures: int = 0,
    last_failure: float | None = None, is_running: bool = False,
) -> RuleNow:  # fmt: skip
    status = RuleStatus(NOW - lag - 20, NOW - lag, NOW - 900 if code else last_failure, code, message, failures,
                        NOW + max(30.0, HOUR - lag))  # fmt: skip
    return RuleNow(name, source, (f"mirror/{source.partition('/')[2]}",), RuleView(status, lag, HOUR, is_running))


def _folders() -> list[FolderNow]:
    inputs = (
        DroppedInput("web-2.4.1.tar.gz", FAILED,
                     "the archive ends in the middle of a member, at byte 48,234,496", "archive.invalid", at=NOW - 95),
        DroppedInput("team/api/1.9/linux.arm64.tar", RETRY, "permission denied", "disk", NOW + 95, NOW - 20),
        DroppedInput("team/app/2.0/", WAITING, "waits for linux/arm64"),
        DroppedInput("notes.txt", SKIPPED, "its name is not that of an archive (.tar, .tar.gz, .tgz, …)"),
    )  # fmt: skip
    builds = FolderReport(RuleStatus(last_success=NOW - 1300, last_failure=NOW - 95, failures=2), inputs)
    nightly = FolderReport(RuleStatus(last_success=NOW - 7 * HOUR), ())
    return [
        FolderNow("builds", "/srv/drop/builds", ("mirror",), builds),
        FolderNow("nightly", "/srv/drop/nightly", ("mirror/nightly",), nightly),
    ]
