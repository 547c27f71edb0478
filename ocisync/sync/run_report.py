"""Reports of a job's tags, as they come to their ends, and the job's last line in the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import structlog

from ocisync.content.cost import Meter
from ocisync.errors import OcisyncError
from ocisync.sync.context import Progress
from ocisync.sync.plan import Action, PlannedTag, explain_kept
from ocisync.sync.publish import CopiedTag, Kept
from ocisync.sync.reports import Failure, JobReport, TagReport, Verdict, describe_failure

log = structlog.get_logger()

_UNCHANGED, _NAME = Verdict.UNCHANGED, Verdict.UNCHANGED.value
_SETTLED = {
    Action.KEEP: Verdict.KEPT,
    Action.FAIL: Verdict.FAILED,
    Action.REFUSE: Verdict.REFUSED,
    Action.WAIT: Verdict.PENDING,
}


@dataclass(frozen=True, slots=True)
class TagReports:
    """Writes the tags of one job's report."""

    job: JobReport
    meter: Meter
    progress: Progress

    def report_settled(self, plan: Iterable[PlannedTag]) -> list[PlannedTag]:
        """Report what needs no work; the rest comes back."""
        work, skip = [], Action.SKIP
        for planned in plan:
            if planned.action is skip:
                self._report_unchanged(planned)
                continue
            verdict, failure = _SETTLED.get(planned.action), planned.failure
            if verdict is None:
                work.append(planned)
                continue
            if verdict is Verdict.REFUSED and planned.judgement is not None:
                failure = Failure(planned.judgement.code, planned.judgement.reason, "fail")
            digest = planned.root.digest if planned.root and verdict is not Verdict.FAILED else None
            self._add(planned, TagReport(planned.tag, verdict, planned.reason, digest, failure))
        return work

    def _report_unchanged(self, planned: PlannedTag) -> None:
        """What nearly all tags of nearly all passes are."""
        tag, reason, digest = planned.tag, planned.reason, planned.root.digest if planned.root else None
        cost = self.meter.of(tag)
        self.job.tags.append(TagReport(tag, _UNCHANGED, reason, digest, None, cost, planned.judgement))
        self.progress.tag_finished(self.job.target, tag, _NAME)

    def report_published(self, batch: Sequence[CopiedTag], kept: Kept) -> None:
        """Report tags that stand now, and those that had to stay as they were."""
        for tag in batch:
            planned = tag.planned
            if (found := kept.get(planned.tag)) is not None:
                report = TagReport(planned.tag, Verdict.KEPT, explain_kept(found.digest), tag.root.digest)
            else:
                reason = "mended" if tag.mended and planned.action is Action.CHECK else planned.reason
                verdict = Verdict.COPIED if tag.is_copied else Verdict.UNCHANGED
                report = TagReport(planned.tag, verdict, reason, tag.root.digest)
            self._add(planned, report)

    def report_failed(self, planned: PlannedTag, error: OcisyncError) -> None:
        """Report a tag that could not be brought."""
        digest = planned.root.digest if planned.root else None
        failure = describe_failure(error)
        self._add(planned, TagReport(planned.tag, Verdict.FAILED, planned.reason, digest, failure))

    def report(self, tag: TagReport) -> None:
        """Report a tag, with what it cost."""
        tag.cost = self.meter.of(tag.tag)
        self.job.tags.append(tag)
        self.progress.tag_finished(self.job.target, tag.tag, tag.verdict.value)
        if tag.failure is not None:
            event = "tag.refused" if tag.verdict is Verdict.REFUSED else "tag.failed"
            log.warning(event, tag=tag.tag, code=tag.failure.code, error=tag.failure.message)

    def _add(self, planned: PlannedTag, tag: TagReport) -> None:
        tag.judgement = planned.judgement
        self.report(tag)


def log_finished(report: JobReport) -> None:
    """Log what a job came to."""
    news = report.news
    counts = Counter(tag.verdict for tag in news)
    counts[Verdict.UNCHANGED] = len(report.tags) - len(news)
    facts: dict[str, object] = {
        **{verdict.value: counts[verdict] for verdict in Verdict},
        "bytes": report.traffic.bytes,
        "requests": report.requests,
        "seconds": round(report.seconds, 3),
    }
    for warning in report.warnings:
        log.warning("job.warned", warning=warning)
    if report.failure is None:
        has_news = len(news) > counts[Verdict.KEPT]
        note = log.info if has_news or report.warnings else log.debug  # the run of its rule is told in any case
        note("job.finished", **facts)
    else:
        log.warning("job.failed", code=report.failure.code, error=report.failure.message, **facts)
