"""Maintenance of the targets that a configuration names: schedules for the daemon, and the targets opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ocisync.config.models import Config, Keep, S3Target, StaticTarget
from ocisync.daemon.schedule import Schedule
from ocisync.errors import ConfigError
from ocisync.maintenance.maintenance_job import MaintenanceJob, Task
from ocisync.sync.reports import JobReport
from ocisync.wiring.session import Session

if TYPE_CHECKING:  # neither the daemon's start nor `once` needs what maintenance needs
    from ocisync.maintenance.retention import KeepPolicy
    from ocisync.maintenance.tasks import MaintainedTarget


def maintenance_schedules(config: Config) -> Iterator[Schedule]:
    """One schedule for each task of each target that asks for it."""
    for name, settings in config.targets.items():
        if not isinstance(settings, StaticTarget | S3Target):
            continue
        intervals: dict[Task, float | None] = {
            "reconcile": settings.reconcile,
            "keep": settings.keep.every if settings.keep else None,
            "gc": settings.gc,
        }
        for task, interval in intervals.items():
            if interval:
                job = MaintenanceJob(f"{task} {name}", name, task)
                yield Schedule(job.rule, (job,), interval)


async def run_maintenance_job(job: MaintenanceJob, session: Session) -> JobReport:
    """Do a task for the target that it names."""
    from ocisync.maintenance.tasks import run_maintenance

    return await run_maintenance(job, lambda name: maintained_target(session, name))


async def maintained_target(session: Session, name: str) -> MaintainedTarget:
    """A configured static target.

    Raises:
        ConfigError: there is no such target, or it is not a static registry.
    """
    from ocisync.maintenance.tasks import MaintainedTarget

    static = await session.stores.static_registry(name)
    settings = session.config.targets[name]
    if not isinstance(settings, StaticTarget | S3Target):
        raise ConfigError(f"{name}: not a static registry")
    policy = _keep_policy(settings.keep)
    journal = journal_of(session.config, name)
    return MaintainedTarget(name, static.audit(), settings.grace, settings.limit, policy, journal)


def journal_of(config: Config, label: str) -> Path:
    """Where what gc removes from a target is written down."""
    safe = "".join(char if char.isalnum() or char in "-_." else "-" for char in label)
    return config.daemon.state / "gc" / f"{safe}.jsonl"


def _keep_policy(keep: Keep | None) -> KeepPolicy | None:
    from ocisync.maintenance.retention import KeepPolicy

    if keep is None:
        return None
    return KeepPolicy(keep.newest or 0, keep.newer_than or 0.0, keep.tags, keep.repositories)
