"""One pass: every rule once, now, beside a running daemon or without one."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from ocisync.daemon.queue import JobQueue
from ocisync.daemon.rule_set import JobRunner, RuleSet
from ocisync.daemon.schedule import AnyJob, Schedule
from ocisync.errors import OcisyncError
from ocisync.state.open import State
from ocisync.state.rule_records import RuleStatus
from ocisync.sync.job import Job
from ocisync.sync.reports import Failure, JobReport, describe_failure

if TYPE_CHECKING:
    from ocisync.drop.rule import ArchiveReader, DropRule, InputReport

RunJob = Callable[[AnyJob], Awaitable[JobReport]]


@dataclass(slots=True)
class PassReport:
    """What a pass did."""

    jobs: list[JobReport] = field(default_factory=list)
    inputs: list[InputReport] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)  # rules that failed as a whole
    skipped: dict[str, Mapping[str, str]] = field(default_factory=dict)  # drop rule -> path -> why it was left alone

    @property
    def ok(self) -> bool:
        """Whether everything is as the rules want it."""
        inputs_ok = all(report.ok for report in self.inputs)
        return not self.failures and inputs_ok and all(report.ok and not report.refused for report in self.jobs)


async def run_pass(rules: RuleSet, state: State, *, in_full: bool = False) -> PassReport:
    """Run every schedule and drop folder of a rule set once; failures end up in the report.

    `in_full`: as if nothing had been verified or published before.
    """
    report = PassReport()
    queue = JobQueue(observe=report.jobs.append)

    async def run_job(job: AnyJob) -> JobReport:
        return await queue.run_now(replace(job, recheck=0.0) if in_full and isinstance(job, Job) else job)

    async with anyio.create_task_group() as workers:
        workers.start_soon(queue.run, rules.runner, rules.workers)
        async with anyio.create_task_group() as all_rules:
            for schedule in rules.schedules:
                all_rules.start_soon(_run_schedule, schedule, rules.runner, run_job, state, report)
            for drop in rules.drops:
                all_rules.start_soon(_run_drop, drop, rules.archives, run_job, state, report, in_full)
        queue.close()
    return report


async def _run_schedule(
    schedule: Schedule, runner: JobRunner, run_job: RunJob, state: State, report: PassReport
) -> None:
    started, rule = time.time(), schedule.rule
    found = await runner.expand(schedule)
    report.jobs.extend(found.reports)
    reports = list(found.reports)

    async def run(job: AnyJob) -> None:
        reports.append(await run_job(job))

    async with anyio.create_task_group() as group:
        for job in found.jobs:
            group.start_soon(run, job)
    before = await state.rules.rule_status(rule) or RuleStatus()
    await state.rules.save_rule_status(rule, _status(before, reports, started))


def _status(before: RuleStatus, reports: Sequence[JobReport], started: float) -> RuleStatus:
    failure = next((worst for report in reports if (worst := report.worst())), None)
    if failure is None:
        return replace(before, last_started=started, last_success=time.time(), code="", message="", failures=0)
    failed = replace(before, last_started=started, last_failure=time.time(), failures=before.failures + 1)
    return replace(failed, code=failure.code, message=failure.message)


async def _run_drop(
    rule: DropRule, archives: ArchiveReader, run_job: RunJob, state: State, report: PassReport, in_full: bool
) -> None:
    # The start of a pass without drop folders does not pay for these.
    from ocisync.daemon.clock import SystemClock
    from ocisync.drop.poll import forget_settled
    from ocisync.drop.process import InputProcessor
    from ocisync.drop.rule import InputVerdict
    from ocisync.drop.watcher import DropWatcher

    def keep_taken(one: InputReport) -> None:
        """At once, so that it is told even if the folder cannot be read to the end."""
        if one.verdict is not InputVerdict.WAITING:
            report.inputs.append(one)

    processor = InputProcessor(rule, state.inputs, archives, run_job, SystemClock())
    try:
        await processor.load_names()
        if in_full:
            await forget_settled(rule, state.inputs)
        watcher = DropWatcher(processor, keep_taken)
        inputs = await watcher.pass_once(patience=True)
        report.skipped[rule.name] = watcher.list_skipped()
    except OcisyncError as exc:
        report.failures[rule.name] = describe_failure(exc)
        return
    report.inputs.extend(one for one in inputs if one.verdict is InputVerdict.WAITING)
