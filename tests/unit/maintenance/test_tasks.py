"""Maintenance jobs: what they are told apart by, and what becomes of their errors."""

from __future__ import annotations

from ocisync.errors import ConfigError
from ocisync.maintenance.maintenance_job import MaintenanceJob
from ocisync.maintenance.tasks import MaintainedTarget, run_maintenance


def test_tasks_of_one_target_exclude_each_other_and_are_not_equal() -> None:
    gc, keep = MaintenanceJob("gc local", "local", "gc"), MaintenanceJob("keep local", "local", "keep")
    assert gc.lock_name == keep.lock_name == "local/"
    assert gc.key != keep.key
    assert gc.lock_name != MaintenanceJob("gc other", "other", "gc").lock_name


def test_a_report_names_the_task_and_the_target() -> None:
    report = MaintenanceJob("gc local", "local", "gc").report()
    assert (report.rule, report.source, report.target) == ("gc local", "gc", "target:local")
    assert report.ok


async def test_a_target_that_cannot_be_opened_is_a_failed_report() -> None:
    async def refuse(name: str) -> MaintainedTarget:
        raise ConfigError(f"{name}: not a static registry")

    report = await run_maintenance(MaintenanceJob("gc local", "local", "gc"), refuse)
    assert report.failure is not None
    assert report.failure.message == "local: not a static registry"
    assert report.failure.code == ConfigError("x").code
