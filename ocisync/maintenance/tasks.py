"""Run a maintenance job: the one place where its errors become a report."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from ocisync.errors import OcisyncError
from ocisync.maintenance.gc_files import Collection
from ocisync.maintenance.maintenance_job import MaintenanceJob, Task
from ocisync.maintenance.protocols import MaintainedRegistry
from ocisync.maintenance.reconcile import reconcile
from ocisync.maintenance.retention import KeepPolicy
from ocisync.maintenance.tags import retain
from ocisync.sync.reports import Failure, JobReport, describe_failure

log = structlog.get_logger()

_LEFT_ALONE = "upkeep.left_alone"  # the code of what the daemon did not dare to remove


@dataclass(frozen=True, slots=True)
class MaintainedTarget:
    """A static registry, and what its configuration says of its maintenance."""

    name: str
    registry: MaintainedRegistry
    grace: float  # seconds in which what no tag reaches stays
    limit: float  # the largest part that one run may remove
    policy: KeepPolicy | None  # which tags stay; None: all
    journal: Path  # where what gc removes is written down

    @property
    def collection(self) -> Collection:
        """Its garbage collection."""
        return Collection(self.registry, self.name, self.grace, self.limit, self.journal)


OpenTarget = Callable[[str], Awaitable[MaintainedTarget]]


async def run_maintenance(job: MaintenanceJob, open_target: OpenTarget) -> JobReport:
    """Do one task; every OcisyncError ends up in the report."""
    report = job.report()
    started = time.monotonic()
    with structlog.contextvars.bound_contextvars(rule=job.rule, target=report.target):
        try:
            report.failure = await _run(job.task, await open_target(job.target))
        except OcisyncError as exc:
            report.failure = describe_failure(exc)
        report.seconds = time.monotonic() - started
        if report.failure is not None:
            log.error("job.failed", code=report.failure.code, error=report.failure.message)
        else:
            log.info("job.finished", seconds=round(report.seconds, 3))
    return report


async def _run(task: Task, target: MaintainedTarget) -> Failure | None:
    """Do the task; the first thing that went wrong."""
    if task == "reconcile":
        reconciled = await reconcile(target.registry)
        return next(iter(reconciled.failures.values()), None)
    if task == "keep" and target.policy is not None:
        retained = await retain(target.registry, target.policy, target.limit)
        return next(iter(retained.failures.values()), None) or _left_alone(retained.problems)
    _, collected = await target.collection.run()
    return next(iter(collected.failures.values()), None) or _left_alone(collected.problems)


def _left_alone(problems: list[str]) -> Failure | None:
    return Failure(_LEFT_ALONE, "; ".join(problems[:3]), "fail") if problems else None
