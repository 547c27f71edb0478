"""The last day in samples of five minutes, kept in the ledger."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import anyio
import structlog

from ocisync.errors import OcisyncError
from ocisync.state.history_records import HistoryRecords, Sample
from ocisync.state.rule_records import RuleView
from ocisync.sync.reports import STOPPED, JobReport, Verdict

EVERY = 300.0  # seconds
DAY = 86400.0  # seconds
_RELOAD = 60.0  # seconds

log = structlog.get_logger(__name__)


class History:
    """Counts what jobs did, and writes it down from time to time; a failing ledger costs a gap in a picture."""

    def __init__(self, records: HistoryRecords, views: Callable[[], Mapping[str, RuleView]]) -> None:
        self._records = records
        self._views = views
        self._samples: list[Sample] = []
        self._reloaded = float("-inf")
        self._begin()

    def observe(self, report: JobReport) -> None:
        """Count what a job did."""
        self._bytes += report.traffic.bytes
        self._requests += report.requests
        self._copied += sum(tag.verdict is Verdict.COPIED for tag in report.tags)
        is_failed = report.failure is not None and report.failure.code != STOPPED
        self._failed += len(report.failed) + is_failed

    async def serve(self) -> None:
        """Write samples until cancelled; the last one as well."""
        await self._load()
        try:
            while True:
                await anyio.sleep(EVERY - time.time() % EVERY)
                await self._write()
        finally:
            with anyio.move_on_after(2, shield=True):
                await self._write()

    async def reload(self) -> None:
        """Take what other daemons wrote as well, where several share the state; at most once a minute."""
        if time.monotonic() - self._reloaded > _RELOAD:
            self._reloaded = time.monotonic()
            await self._load()
            self._samples = merge_samples(self._samples)

    def last_day(self) -> Sequence[Sample]:
        """The samples of the last day, the one under way last."""
        since = time.time() - DAY
        return [*(sample for sample in self._samples if sample.at > since), self._sample()]

    def _begin(self) -> None:
        self._since = time.time()
        self._bytes = self._requests = self._copied = self._failed = 0

    def _sample(self) -> Sample:
        now = time.time()
        late = max((view.overdue for view in self._views().values()), default=0.0)
        seconds = max(1.0, now - self._since)
        return Sample(now, seconds, self._bytes, self._requests, self._copied, self._failed, round(late, 1))

    async def _load(self) -> None:
        try:
            self._samples = await self._records.since(time.time() - DAY)
        except OcisyncError as exc:
            log.warning("history.unreadable", code=exc.code, error=exc.message)

    async def _write(self) -> None:
        sample = self._sample()
        self._begin()
        self._samples = [one for one in self._samples if one.at > sample.at - DAY] + [sample]
        try:
            await self._records.add(sample)
        except OcisyncError as exc:
            log.warning("history.unwritable", code=exc.code, error=exc.message)


def merge_samples(samples: Iterable[Sample]) -> list[Sample]:
    """Those that end in the same five minutes as one."""
    merged: dict[int, Sample] = {}
    for one in samples:
        number = round(one.at / EVERY)
        known = merged.get(number)
        merged[number] = one if known is None else _add_up(known, one)
    return list(merged.values())


def _add_up(one: Sample, other: Sample) -> Sample:
    return Sample(
        max(one.at, other.at),
        min(EVERY, one.seconds + other.seconds),
        one.bytes + other.bytes,
        one.requests + other.requests,
        one.copied + other.copied,
        one.failed + other.failed,
        max(one.late, other.late),
    )
