"""A bundle job: plain data that says whose bundle is to be written, or which inbox is to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ocisync.sync.reports import Failure, JobReport

BundleTask = Literal["create", "apply"]


@dataclass(frozen=True, slots=True)
class BundleJob:
    """One task of a rule about bundles. It waits, runs and is reported beside the jobs that copy."""

    rule: str  # the name that its schedule and its records have
    task: BundleTask
    of: str  # the bundle rule, or the drop rule

    @property
    def lock_name(self) -> str:
        """Jobs that share this never run at the same time."""
        return f"bundle:{self.task}:{self.of}"

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for jobs of one rule and lock that would do the same."""
        return (self.task, self.of)

    def report(self, failure: Failure | None = None) -> JobReport:
        """A report of this job in which nothing is done yet."""
        return JobReport(self.rule, f"bundle {self.task}", f"bundle:{self.of}", failure=failure)
