"""A maintenance job: plain data that says what to do for a whole target; any machine can run it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ocisync.sync.reports import Failure, JobReport

Task = Literal["reconcile", "keep", "gc"]


@dataclass(frozen=True, slots=True)
class MaintenanceJob:
    """One task for one static target. It waits, runs and is reported beside the jobs that copy."""

    rule: str  # the name that its schedule and its records have
    target: str
    task: Task

    @property
    def lock_name(self) -> str:
        """Jobs that share this never run at the same time; those that copy to one of the target's repositories may."""
        return f"{self.target}/"

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for jobs of one rule and lock that would do the same."""
        return (self.task,)

    def report(self, failure: Failure | None = None) -> JobReport:
        """A report of this job in which nothing is done yet."""
        return JobReport(self.rule, self.task, f"target:{self.target}", failure=failure)
