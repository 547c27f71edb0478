"""What a job did, as values: for logs, `once --json`, metrics and the ledger."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ocisync.content.cost import Cost, count_bytes
from ocisync.errors import OcisyncError
from ocisync.model.digest import Digest


class Verdict(enum.Enum):
    """What happened to one tag."""

    COPIED = "copied"
    UNCHANGED = "unchanged"
    KEPT = "kept"  # the source has it otherwise, and the rule forbids to overwrite it
    PRUNED = "pruned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something failed: the error's stable code, its message, and how it is handled (`errors.Handling`)."""

    code: str
    message: str
    handling: str


def describe_failure(error: OcisyncError) -> Failure:
    """An error as a report keeps it."""
    return Failure(error.code, error.message, error.handling.value)


@dataclass(slots=True)
class TagReport:
    """One tag of a pass; what it cost is known last."""

    tag: str
    verdict: Verdict
    reason: str
    digest: Digest | None = None
    failure: Failure | None = None
    cost: Cost = field(default_factory=Cost)


@dataclass(slots=True)
class Traffic:
    """What travelled to a target, counted while it happens."""

    blobs: int = 0
    manifests: int = 0
    mounted: int = 0
    skipped: int = 0
    bytes: int = 0

    def count_sent(self, size: int) -> None:
        """Count so many bytes more."""
        self.bytes += size
        count_bytes(size)


@dataclass(slots=True)
class JobReport:
    """One run of one job."""

    rule: str
    source: str
    target: str
    tags: list[TagReport] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    requests: int = 0  # sent to source and target, retries and tokens among them
    seconds: float = 0.0
    failure: Failure | None = None  # the job as a whole; single tags carry their own
    warnings: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[TagReport]:
        """The tags that were not published."""
        return [tag for tag in self.tags if tag.verdict is Verdict.FAILED]

    @property
    def ok(self) -> bool:
        """Whether everything is as the rule wants it."""
        return self.failure is None and not self.failed

    def worst(self) -> Failure | None:
        """The failure that decides when to try again: the job's own, else one that can be retried, else any."""
        failures = [self.failure] if self.failure else [tag.failure for tag in self.failed if tag.failure]
        return min(failures, key=lambda failure: failure.handling != "retry", default=None)


STOPPED = "job.stopped"  # the code of a job that did not run, or not to its end, because the daemon stops
