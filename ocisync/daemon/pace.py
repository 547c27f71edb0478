"""How often each repository of a whole registry is asked: those that never change less and less.

The rule itself runs at its shortest interval, which costs the list of repositories; of those, only the ones that are
due are looked at. Nothing of this outlives the process: after a start all are asked once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ocisync.daemon.schedule import AnyJob, Schedule
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport


class _Due(NamedTuple):
    """When a repository is looked at next; seconds, `at` on the monotonic clock."""

    at: float
    interval: float


@dataclass(slots=True)
class RepositoryPace:
    """Chooses the repositories that are due, and learns from what became of them."""

    clock: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time  # by which images are pending
    _due: dict[tuple[str, str], _Due] = field(default_factory=dict)  # by rule and target repository
    schedules: dict[str, Schedule] = field(default_factory=dict)  # that have a range of intervals, by their rules

    def select(self, schedule: Schedule, jobs: Iterable[AnyJob]) -> tuple[AnyJob, ...]:
        """The jobs that are due, in a run of a rule."""
        if not schedule.has_range:  # the rule has one interval, or somebody wants all of it now
            return tuple(jobs)
        self.schedules[schedule.rule] = schedule
        soon = self.clock() + schedule.interval / 2  # what is due before the rule runs again is not left until then
        return tuple(job for job in jobs if (due := self._due.get((job.rule, job.lock_name))) is None or due.at <= soon)

    def observe(self, job: Job, report: JobReport) -> None:
        """Wait longer for a repository in which nothing changed, and begin anew for one in which something did.

        A job for what a webhook told tells of changes only: the rest of the repository was not looked at.
        """
        schedule = self.schedules.get(job.rule)
        if schedule is None:
            return
        key = job.rule, job.lock_name
        known = self._due.get(key)
        if not report.ok or report.has_changed:
            self._due.pop(key, None)
        elif not job.is_partial:
            interval = schedule.grow(known.interval if known else None)
            wait = interval if report.pending_until is None else min(interval, report.pending_until - self.wall())
            self._due[key] = _Due(self.clock() + wait, interval)
