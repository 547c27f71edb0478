"""Runs jobs under the locks of their target repositories, whichever daemon or command runs them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ocisync.daemon.rule_set import JobRunner
from ocisync.daemon.schedule import AnyJob, Expansion, Schedule
from ocisync.engine.locks import LockLost, SessionLocks
from ocisync.sync.job import Job
from ocisync.sync.reports import HELD, Failure, JobReport


@dataclass(frozen=True, slots=True)
class LockedRunner(JobRunner):
    """Another runner, one daemon at a time on each target repository."""

    inner: JobRunner
    locks: SessionLocks
    patience: float = math.inf  # seconds to wait for another daemon to end

    async def run(self, job: AnyJob) -> JobReport:
        """Run a job when its lock is free; its code is `job.held` when that takes too long."""
        try:
            async with self.locks.hold(job.lock_name, self.patience) as is_ours:
                if is_ours:
                    return await self.inner.run(job)
        except LockLost:
            return job.report(Failure(HELD, f"{job.lock_name}: the session with PostgreSQL was lost", "retry"))
        return job.report(Failure(HELD, f"{job.lock_name}: another daemon works on it", "retry"))

    async def expand(self, schedule: Schedule) -> Expansion:
        """The jobs of one run of a rule."""
        return await self.inner.expand(schedule)

    def follow(self, host: str, repository: str) -> Sequence[Job]:
        """The jobs for one repository of a registry that rules mirror as a whole."""
        return self.inner.follow(host, repository)

    def explain_stall(self, job: AnyJob) -> str:
        """What a job waits for that will not come for long."""
        return self.inner.explain_stall(job)
