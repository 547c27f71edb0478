"""Pushes and requests, taken by any daemon and done by whichever is free."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ocisync.daemon.push_dispatcher import SETTLE, PushDispatcher
from ocisync.daemon.webhooks.payloads import Push
from ocisync.engine.scheduler import EngineScheduler
from ocisync.engine.units import item_of
from ocisync.sync.job import Job


@dataclass(frozen=True, slots=True)
class EngineTriggers:
    """Makes units due in the table; what was pushed is on record when a call returns.

    A unit is looked at as a whole, whichever of its tags was pushed: of those that did not change a HEAD is all.
    """

    scheduler: EngineScheduler
    pushes: PushDispatcher

    async def trigger(self, rule: str, tag: str, repository: str) -> bool:
        """Make a rule run now, or look at one tag or repository; False when the rule does not select that."""
        if not (tag or repository):
            return await self.scheduler.want(rule, None)
        jobs = [job for job, _ in self.pushes.select_for_rule(rule, tag, repository)]
        return bool(await self._want(jobs, 0.0))

    async def accept(self, pushes: Sequence[Push]) -> Sequence[str]:
        """Have looked at what was pushed; the rules that will."""
        return await self._want((job for job, _, _ in self.pushes.select(pushes)), SETTLE)

    async def _want(self, jobs: Iterable[Job], within: float) -> list[str]:
        items: dict[str, list[str]] = {}
        for job in jobs:
            items.setdefault(job.rule, []).append(item_of(job))
        return [rule for rule, sources in items.items() if await self.scheduler.want(rule, sources, within)]
