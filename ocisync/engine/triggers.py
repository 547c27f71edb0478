"""Pushes and requests, taken by any daemon and done by whichever is free; and what the pages of each tell of all."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from ocisync.daemon.push_dispatcher import SETTLE, PushDispatcher
from ocisync.daemon.status.activity import RunningJob
from ocisync.daemon.status.failures import MOST, FailureNow, Failures
from ocisync.daemon.webhooks.payloads import Push
from ocisync.engine.scheduler import EngineScheduler
from ocisync.engine.units import item_of
from ocisync.errors import OcisyncError
from ocisync.state.image_records import ImageRecords
from ocisync.sync.job import Job


@dataclass(frozen=True, slots=True)
class EngineTriggers:
    """Makes units due in the table; what was pushed is on record when a call returns.

    A unit is looked at as a whole, whichever of its tags was pushed: of those that did not change a HEAD is all.
    """

    scheduler: EngineScheduler
    pushes: PushDispatcher
    images: ImageRecords

    async def trigger(self, rule: str, tag: str, repository: str) -> bool:
        """Make a rule run now, or look at one tag or repository; False when the rule does not select that."""
        if not (tag or repository):
            return await self.scheduler.want(rule, None)
        jobs = [job for job, _ in self.pushes.select_for_rule(rule, tag, repository)]
        return bool(await self._want(jobs, 0.0))

    async def accept(self, pushes: Sequence[Push]) -> Sequence[str]:
        """Have looked at what was pushed; the rules that will."""
        return await self._want((job for job, _, _ in self.pushes.select(pushes)), SETTLE)

    async def refresh(self) -> bool:
        """Look at how all daemons fare now; whether that could be seen."""
        return await self.scheduler.refresh()

    def other_jobs(self) -> Sequence[tuple[str, RunningJob]]:
        """What other daemons run, with their names."""
        return self.scheduler.fleet.jobs

    async def failures(self, rules: Collection[str]) -> Sequence[FailureNow]:
        """What fails of these rules: images, and units as a whole."""
        known = Failures()
        with suppress(OcisyncError):  # the pages tell what was seen last
            known.load(await self.images.failed(MOST))
        images = known.list_newest(rules)
        told = {(one.rule, one.message) for one in images}
        units = (one for one in self.scheduler.fleet.failures if one.rule in rules)
        return [*images, *(one for one in units if (one.rule, one.message) not in told)]

    def waiting(self) -> Mapping[str, int]:
        """How many units of each rule are due and wait."""
        return {rule: course.waiting for rule, course in self.scheduler.fleet.courses.items() if course.waiting}

    async def _want(self, jobs: Iterable[Job], within: float) -> list[str]:
        items: dict[str, list[str]] = {}
        for job in jobs:
            items.setdefault(job.rule, []).append(item_of(job))
        return [rule for rule, sources in items.items() if await self.scheduler.want(rule, sources, within)]
