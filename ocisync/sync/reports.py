"""What a job did, as values: for logs, `once --json`, metrics and the ledger."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from ocisync.content.cost import FREE, Cost, count_bytes
from ocisync.errors import OcisyncError
from ocisync.model.digest import Digest
from ocisync.sync.judging.acceptance import YOUNG, Judgement


class Verdict(enum.Enum):
    """What happened to one tag."""

    COPIED = "copied"
    UNCHANGED = "unchanged"
    KEPT = "kept"  # the source has it otherwise, and the rule forbids to overwrite it
    PRUNED = "pruned"
    REFUSED = "refused"  # the rule does not take such an image; the target's tag stays as it is
    PENDING = "pending"  # it will be taken later
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
    cost: Cost = field(default_factory=lambda: FREE)
    judgement: Judgement | None = None  # None: the rule takes everything

    @property
    def trouble(self) -> Failure | None:
        """Why it failed or was refused; None: neither."""
        if self.failure is None and self.verdict is Verdict.REFUSED and self.judgement is not None:
            return Failure(self.judgement.code, self.judgement.reason, "quarantine")
        return self.failure


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
    def news(self) -> list[TagReport]:
        """The tags that are not as they were; of what nobody sees change, a rule may have ten thousands."""
        unchanged = Verdict.UNCHANGED  # which costs as much as the comparison
        return [tag for tag in self.tags if tag.verdict is not unchanged]

    @property
    def failed(self) -> list[TagReport]:
        """The tags that were not published."""
        return [tag for tag in self.news if tag.verdict is Verdict.FAILED]

    @property
    def refused(self) -> list[TagReport]:
        """The tags that the rule does not take."""
        return [tag for tag in self.news if tag.verdict is Verdict.REFUSED]

    @property
    def has_changed(self) -> bool:
        """Whether anything is otherwise than before, or may soon be: a signature may come at any time.

        When an image is old enough is known, and `pending_until` says it: that is no reason to look more often.
        """
        return any(
            tag.verdict in (Verdict.COPIED, Verdict.PRUNED)
            or (tag.verdict is Verdict.PENDING and tag.judgement is not None and tag.judgement.code != YOUNG)
            for tag in self.news
        )

    @property
    def withheld(self) -> list[Failure]:
        """Why tags were not taken that could be brought, for those who want all of a job or nothing of it."""
        return [
            Failure(
                tag.judgement.code, tag.judgement.reason, "retry" if tag.verdict is Verdict.PENDING else "quarantine"
            )
            for tag in self.news
            if tag.verdict in (Verdict.REFUSED, Verdict.PENDING) and tag.judgement is not None
        ]

    @property
    def pending_until(self) -> float | None:
        """When the first of the pending tags can be taken; seconds since the epoch. None: nothing is pending."""
        waiting = (tag.judgement.until for tag in self.news if tag.verdict is Verdict.PENDING and tag.judgement)
        return min(waiting, default=None)

    @property
    def ok(self) -> bool:
        """Whether everything is as the rule wants it."""
        return self.failure is None and not self.failed

    @property
    def is_unfinished(self) -> bool:
        """Whether it is done once more, and came to nothing yet."""
        return self.failure is not None and self.failure.code in UNFINISHED

    def worst(self) -> Failure | None:
        """The failure that decides when to try again: the job's own, else one that can be retried, else any."""
        failures = [self.failure] if self.failure else [tag.failure for tag in self.failed if tag.failure]
        return min(failures, key=lambda failure: failure.handling != "retry", default=None)


@dataclass(slots=True)
class RunReport:
    """One run of a rule: what its jobs came to together."""

    rule: str
    jobs: int = 0
    copied: int = 0  # tags
    unchanged: int = 0
    pruned: int = 0
    refused: int = 0
    pending: int = 0
    failed: int = 0
    bytes: int = 0  # sent to targets
    requests: int = 0
    seconds: float = 0.0
    failure: Failure | None = None  # the worst
    is_stopped: bool = False  # it did not come to its end
    has_changed: bool = False
    pending_until: float | None = None  # seconds since the epoch: when something can be taken that could not now

    def add(self, report: JobReport) -> None:
        """Count what a job did; the failure that can be retried is the one to tell."""
        self.jobs += 1
        news = report.news
        self.unchanged += len(report.tags) - len(news)
        for tag in news:
            self.copied += tag.verdict is Verdict.COPIED
            self.unchanged += tag.verdict is Verdict.KEPT
            self.pruned += tag.verdict is Verdict.PRUNED
            self.refused += tag.verdict is Verdict.REFUSED
            self.pending += tag.verdict is Verdict.PENDING
            self.failed += tag.verdict is Verdict.FAILED
        self.bytes += report.traffic.bytes
        self.requests += report.requests
        self.has_changed |= report.has_changed
        if (until := report.pending_until) is not None:
            self.pending_until = until if self.pending_until is None else min(self.pending_until, until)
        if (failure := report.worst()) is None:
            return
        self.is_stopped |= failure.code in UNFINISHED
        if self.failure is None or (failure.handling == "retry" and self.failure.handling != "retry"):
            self.failure = failure

    @property
    def is_retried(self) -> bool:
        """Whether trying again soon may mend it."""
        return self.failure is not None and self.failure.handling == "retry"


STOPPED = "job.stopped"  # the code of a job that did not run, or not to its end, because the daemon stops
HELD = "job.held"  # the code of a job whose target repository another daemon writes to
UNFINISHED = frozenset({STOPPED, HELD})  # the codes of what is done once more, and is no failure
