"""The daemon at one moment, as values: what /v1/status, the page and `ocisync top` show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from ocisync import __version__
from ocisync.daemon.status.activity import RunningJob
from ocisync.daemon.status.cures import cure_of
from ocisync.daemon.status.failures import FailureNow
from ocisync.drop.report import FAILED, RETRY, SKIPPED, UNREADABLE, DroppedInput, FolderReport
from ocisync.logs import clean
from ocisync.state.history_records import Sample
from ocisync.state.rule_records import RuleStatus, RuleView


@dataclass(frozen=True, slots=True)
class RuleNow:
    """A sync rule, or the maintenance of a target."""

    name: str
    source: str
    targets: tuple[str, ...]
    view: RuleView
    waiting: int = 0  # jobs that wait for a place
    limit: float | None = None  # seconds since it last did all it should, from which on it is late; None: as usual

    @property
    def state(self) -> str:
        """In one word: failing, late, running, new or fresh."""
        status = self.view.status
        if status.code:
            return "failing"
        if self.view.lag > (self.view.lag_limit() if self.limit is None else self.limit):
            return "late"
        if self.view.is_running:
            return "running"
        return "new" if status.last_success is None else "fresh"


@dataclass(frozen=True, slots=True)
class FolderNow:
    """A drop rule."""

    name: str
    path: str
    targets: tuple[str, ...]
    report: FolderReport

    @property
    def state(self) -> str:
        """In one word: failing, waiting or fresh."""
        if self.report.count(FAILED, RETRY, UNREADABLE):
            return "failing"
        return "waiting" if any(one.state != SKIPPED for one in self.report.inputs) else "fresh"


@dataclass(frozen=True, slots=True)
class JobNow:
    """A job that runs, and what it waits for; empty: nothing."""

    job: RunningJob
    waits_for: str = ""
    daemon: str = ""  # which one runs it, where it is another


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything."""

    now: float  # seconds since the epoch
    rules: Sequence[RuleNow] = ()
    drops: Sequence[FolderNow] = ()
    jobs: Sequence[JobNow] = ()
    failures: Sequence[FailureNow] = ()
    history: Sequence[Sample] = ()
    troubles: Sequence[str] = ()  # of the daemon itself: it stops, a part of it was ended by a defect
    waiting: Mapping[str, int] = field(default_factory=dict)  # rule -> jobs that wait for a place
    running: Sequence[str] = ()  # jobs, by their names
    stalled: Sequence[str] = ()
    page_of_registry: str = ""  # where the page to browse is, if a registry is served

    @property
    def speed(self) -> float:
        """Bytes per second, of all jobs."""
        return sum(one.job.speed for one in self.jobs)


def as_document(snapshot: Snapshot) -> dict[str, object]:
    """The snapshot for JSON; no secret is in it."""
    day = snapshot.history
    return {
        "version": __version__,
        "now": round(snapshot.now, 3),
        "rules": {rule.name: _rule_document(rule) for rule in snapshot.rules},
        "drops": {folder.name: _folder_document(folder) for folder in snapshot.drops},
        "jobs": [_job_document(one) for one in snapshot.jobs],
        "failures": [asdict(failure) | {"cure": cure_of(failure.code)} for failure in snapshot.failures],
        "day": {
            "bytes": sum(sample.bytes for sample in day),
            "copied": sum(sample.copied for sample in day),
            "failed": sum(sample.failed for sample in day),
        },
        "queue": {
            "waiting": sum(snapshot.waiting.values()),
            "by_rule": dict(snapshot.waiting),
            "running": list(snapshot.running),
            "still": list(snapshot.stalled),
        },
    }


def input_document(one: DroppedInput) -> dict[str, object]:
    """An input that is not published, for JSON."""
    return asdict(one) | {"reason": clean(one.reason)}


def _rule_document(rule: RuleNow) -> dict[str, object]:
    return asdict(rule.view.status) | {
        "message": clean(rule.view.status.message),
        "lag": round(rule.view.lag, 3),
        "interval": rule.view.gap,
        "state": rule.state,
        "running": rule.view.is_running,
        "wanted": rule.view.is_wanted,
        "source": rule.source,
        "targets": list(rule.targets),
    }


def _folder_document(folder: FolderNow) -> dict[str, object]:
    status: RuleStatus = folder.report.status
    return asdict(status) | {
        "message": clean(status.message),
        "state": folder.state,
        "path": folder.path,
        "targets": list(folder.targets),
        "skipped": folder.report.count(SKIPPED),
        "inputs": [input_document(one) for one in folder.report.inputs],
        "left_out": folder.report.left_out,
    }


def _job_document(one: JobNow) -> dict[str, object]:
    facts = asdict(one.job) | {"waits_for": one.waits_for} | ({"daemon": one.daemon} if one.daemon else {})
    return facts | {"speed": round(one.job.speed, 1), "quiet": round(one.job.quiet, 1)}
