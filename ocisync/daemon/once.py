"""One pass: every rule once, now, beside a running daemon or without one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import anyio

from ocisync.daemon.queue import JobQueue, Runner
from ocisync.daemon.rule_set import RuleSet
from ocisync.daemon.schedule import AnyJob, Expand, Schedule
from ocisync.drop.rule import DropRule, InputReport, InputVerdict
from ocisync.errors import OcisyncError
from ocisync.state.open import State
from ocisync.state.rules import RuleStatus
from ocisync.sync.job import Job
from ocisync.sync.reports import Failure, JobReport, failure_of

if TYPE_CHECKING:
    from ocisync.drop.watcher import IntakeTools


@dataclass(slots=True)
class PassReport:
    """What a pass did."""

    jobs: list[JobReport] = field(default_factory=list)
    inputs: list[InputReport] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)  # rules that failed as a whole

    @property
    def ok(self) -> bool:
        """Whether everything is as the rules want it."""
        inputs_ok = all(report.verdict is not InputVerdict.FAILED for report in self.inputs)
        return not self.failures and inputs_ok and all(report.ok for report in self.jobs)


async def run_pass(rules: RuleSet, state: State, *, in_full: bool = False) -> PassReport:
    """Run every schedule and drop folder of a rule set once; failures end up in the report.

    `in_full`: as if nothing had been verified or published before.
    """
    if in_full:
        rules = replace(rules, run=_in_full(rules.run))
    report = PassReport()
    queue = JobQueue(observe=report.jobs.append)
    async with anyio.create_task_group() as workers:
        workers.start_soon(queue.run, rules.run, rules.workers, rules.is_stalled)
        async with anyio.create_task_group() as all_rules:
            for schedule in rules.schedules:
                all_rules.start_soon(_sync, schedule, rules.expand, queue, state, report)
            if rules.drops:
                all_rules.start_soon(_drops, rules, queue, state, report, in_full)
        queue.close()
    return report


def _in_full(run: Runner) -> Runner:
    return lambda job: run(replace(job, recheck=0.0) if isinstance(job, Job) else job)


async def _sync(schedule: Schedule, expand: Expand, queue: JobQueue, state: State, report: PassReport) -> None:
    started, rule = time.time(), schedule.rule
    found = await expand(schedule)
    report.jobs.extend(found.reports)
    reports = list(found.reports)

    async def run(job: AnyJob) -> None:
        reports.append(await queue.run_now(job))

    async with anyio.create_task_group() as group:
        for job in found.jobs:
            group.start_soon(run, job)
    before = await state.rules.rule_status(rule) or RuleStatus()
    await state.rules.save_rule_status(rule, _status(before, reports, started))


def _status(before: RuleStatus, reports: Sequence[JobReport], started: float) -> RuleStatus:
    failure = next((worst for report in reports if (worst := report.worst())), None)
    if failure is None:
        return replace(before, last_started=started, last_success=time.time(), code="", message="", failures=0)
    return replace(before, last_started=started, last_failure=time.time(), code=failure.code, message=failure.message)


async def _drops(rules: RuleSet, queue: JobQueue, state: State, report: PassReport, in_full: bool) -> None:
    from ocisync.drop.watcher import IntakeTools  # the start of a pass without drop folders does not pay for it

    tools = IntakeTools(
        state.inputs, rules.names, queue.run_now, report.inputs.append, hold=rules.hold, identify=rules.identify
    )
    async with anyio.create_task_group() as folders:
        for drop in rules.drops:
            folders.start_soon(_drop, drop, tools, report, in_full)


async def _drop(rule: DropRule, tools: IntakeTools, report: PassReport, in_full: bool) -> None:
    from ocisync.drop.poll import forget_settled
    from ocisync.drop.watcher import one_pass

    try:
        if in_full:
            await forget_settled(rule, tools.inputs)
        waiting = await one_pass(rule, tools)
    except OcisyncError as exc:
        report.failures[rule.name] = failure_of(exc)
        return
    report.inputs.extend(one for one in waiting if one.verdict is InputVerdict.WAITING)
