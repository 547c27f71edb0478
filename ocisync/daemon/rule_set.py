"""What a configuration asks the daemon for, and who does it: no part of how that is done."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ocisync.daemon.schedule import AnyJob, Expansion, Schedule
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport

if TYPE_CHECKING:  # the start of a pass without drop folders does not pay for these
    from ocisync.drop.rule import ArchiveReader, DropRule

Lease = Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]]
"""Waits until a drop rule's folder is this daemon's, and watches it by what is given, for as long as it is."""


class JobRunner(Protocol):
    """Finds the jobs of rules and runs them; the scheduler, the queue and the push dispatcher share one.

    A class that inherits from it need only say how a job is run.
    """

    async def run(self, job: AnyJob) -> JobReport:
        """Run a job to its end; its errors are in the report."""
        ...

    async def expand(self, schedule: Schedule) -> Expansion:
        """The jobs of one run of a rule: a whole registry's repositories are known only then."""
        return Expansion(schedule.jobs)

    def follow(self, host: str, repository: str) -> Sequence[Job]:  # noqa: ARG002 (for those who override it)
        """The jobs for one repository of a registry that rules mirror as a whole, by its host (empty: any) and name."""
        return ()

    def explain_stall(self, job: AnyJob) -> str:  # noqa: ARG002
        """What a job waits for that will not come for long: a host must be left alone. Empty: it can go on."""
        return ""


@dataclass(frozen=True, slots=True)
class RuleSet:
    """What a configuration asks for, and how its jobs are run."""

    schedules: tuple[Schedule, ...]
    drops: tuple[DropRule, ...]
    runner: JobRunner
    archives: ArchiveReader
    workers: int  # jobs at a time
    maintenance: tuple[Schedule, ...] = ()  # of whole targets; no part of a single pass
    lease: Lease | None = None  # for drop folders that other daemons could watch
