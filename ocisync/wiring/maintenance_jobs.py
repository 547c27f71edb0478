"""What the daemon does for whole targets, as jobs: reconcile, keep, gc."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import structlog

from ocisync.config.models import Config, RegistryTarget
from ocisync.daemon.schedule import Schedule
from ocisync.errors import OcisyncError
from ocisync.model.locator import TargetLocator
from ocisync.sync.job import Job
from ocisync.sync.reports import Failure, JobReport, failure_of
from ocisync.wiring.session import Session

if TYPE_CHECKING:
    from ocisync.wiring.static_target import RegistryScope

log = structlog.get_logger()

TASKS = ("reconcile", "keep", "gc")
_LEFT_ALONE = "upkeep.left_alone"  # the code of what the daemon did not dare to remove


def upkeep_schedules(config: Config) -> Iterator[Schedule]:
    """One schedule for each task of each target that asks for it."""
    for name, settings in config.targets.items():
        if isinstance(settings, RegistryTarget):
            continue
        intervals = (settings.reconcile, settings.keep.every if settings.keep else None, settings.gc)
        for task, interval in zip(TASKS, intervals, strict=True):
            if interval:
                place = TargetLocator(name, "")
                rule = f"{task} {name}"
                yield Schedule(rule, (Job(rule, place, place, task=task),), interval)


async def run_upkeep(job: Job, session: Session) -> JobReport:
    """Do one task; what went wrong is in the report."""
    from ocisync.wiring.static_target import (
        target_scope,  # neither the daemon's start nor `once` needs what audits need
    )

    report = JobReport(job.rule, job.task, str(job.target))
    started = time.monotonic()
    with structlog.contextvars.bound_contextvars(rule=job.rule, target=report.target):
        try:
            report.failure = await _run(job.task, await target_scope(session, job.target.target))
        except OcisyncError as exc:
            report.failure = failure_of(exc)
        report.seconds = time.monotonic() - started
        if report.failure is not None:
            log.error("job.failed", code=report.failure.code, error=report.failure.message)
        else:
            log.info("job.finished", seconds=round(report.seconds, 3))
    return report


async def _run(task: str, place: RegistryScope) -> Failure | None:
    """The first thing that went wrong."""
    from ocisync.maintenance.reconcile import reconcile
    from ocisync.maintenance.tags import retain
    from ocisync.wiring.static_target import collection_of

    if task == "reconcile":
        done = await reconcile(place.registry)
        return next(iter(done.failures.values()), None)
    if task == "keep" and place.policy is not None:
        kept = await retain(place.registry, place.policy, place.limit)
        return next(iter(kept.failures.values()), None) or _left_alone(kept.problems)
    _, collected = await collection_of(place).run()
    return next(iter(collected.failures.values()), None) or _left_alone(collected.problems)


def _left_alone(problems: list[str]) -> Failure | None:
    return Failure(_LEFT_ALONE, "; ".join(problems[:3]), "fail") if problems else None
