"""`once`, `plan` and `status`: they use the daemon's state and work beside a running daemon."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from ocisync.config.models import Config, SyncRule
from ocisync.daemon.clock import SystemClock
from ocisync.daemon.rule_set import RuleSet
from ocisync.daemon.single_pass import PassReport, run_pass
from ocisync.errors import OcisyncError
from ocisync.model.locator import registry_image
from ocisync.state.image_records import ImageRecord
from ocisync.state.input_records import InputRecord, InputState
from ocisync.state.open import State, open_state
from ocisync.state.rule_records import RuleStatus
from ocisync.sync.context import Progress
from ocisync.sync.forecast import Pulls, pulls_of
from ocisync.sync.job import Job
from ocisync.sync.plan import PlannedTag
from ocisync.sync.reports import Failure, JobReport, failure_of
from ocisync.sync.run import plan_job
from ocisync.wiring.jobs import sync_jobs
from ocisync.wiring.maintenance_jobs import maintenance_schedules
from ocisync.wiring.rules import rule_set
from ocisync.wiring.session import Session, open_session


@dataclass(frozen=True, slots=True)
class PlannedFor:
    """A planned tag, and where it belongs."""

    rule: str
    target: str
    planned: PlannedTag


@dataclass(frozen=True, slots=True)
class RuleReport:
    """A rule as the state remembers it."""

    status: RuleStatus
    lag: float | None  # seconds since it last did all it should; None: it never did
    images: list[ImageRecord] = field(default_factory=list)  # the last look at each, by target and tag


@dataclass(slots=True)
class PlannedPass:
    """What a pass would do."""

    tags: list[PlannedFor] = field(default_factory=list)
    inputs: list[tuple[str, str, str]] = field(default_factory=list)  # rule, input, reason
    warnings: list[str] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    pulls: dict[str, Pulls] = field(default_factory=dict)  # by the source's host


async def run_once_with(
    config: Config, only: Sequence[str], progress: Progress, *, force_prune: bool = False, in_full: bool = False
) -> PassReport:
    """One pass of the rules; `force_prune` lets any number of tags go that are gone at their source.

    `in_full`: as if nothing had been verified or published before.
    """
    async with open_state(config.daemon.state) as state, open_session(config, state.ledger, progress) as session:
        rules = rule_set(session, state.images, only, force_prune=force_prune)
        return await run_pass(rules, state, in_full=in_full)


async def plan_once(config: Config, only: Sequence[str]) -> PlannedPass:
    """What a pass would do now, changing nothing."""
    plan = PlannedPass()
    async with (
        open_state(config.daemon.state, read_only=True) as state,
        open_session(config, state.ledger) as session,
    ):
        rules = rule_set(session, state.images, only)
        for schedule in rules.schedules:
            found = await rules.runner.expand(schedule)
            for report in found.reports:
                _plan_report(report, plan)
            for job in (job for job in found.jobs if isinstance(job, Job)):
                await _plan_job(job, session, plan)
        await _plan_drops(rules, state, plan)
    return plan


async def rule_reports(config: Config) -> dict[str, RuleReport]:
    """What the state remembers of each rule."""
    now = time.time()
    async with open_state(config.daemon.state, read_only=True) as state:
        drops = {rule.name: _drop_status((await state.inputs.of_rule(rule.name)).values()) for rule in config.drop}
        syncs = {rule.name: _with_next(rule, await _status(state, rule.name), now) for rule in config.sync}
        maintenance = {job.rule: await _status(state, job.rule) for job in maintenance_schedules(config)}
        images = {rule.name: await _images(state, rule, config) for rule in config.sync}
        return {
            name: RuleReport(status, _lag(status, now), images.get(name, []))
            for name, status in (drops | syncs | maintenance).items()
        }


async def _images(state: State, rule: SyncRule, config: Config) -> list[ImageRecord]:
    """The last look at a rule's images, but for those at targets it no longer has."""
    found = await state.images.of_rule(rule.name)
    if rule.type == "registry":
        return found
    targets = {str(job.target) for job in sync_jobs(rule, config)}
    return [image for image in found if image.target in targets]


async def _status(state: State, rule: str) -> RuleStatus:
    return await state.rules.rule_status(rule) or RuleStatus()


def _with_next(rule: SyncRule, status: RuleStatus, now: float) -> RuleStatus:
    """The calendar tells the next run of a rule that never ran."""
    if rule.cron is None or status.next_due is not None:
        return status
    return replace(status, next_due=rule.cron.next_after(now))


def _lag(status: RuleStatus, now: float) -> float | None:
    return None if status.last_success is None else max(0.0, now - status.last_success)


def _drop_status(records: Collection[InputRecord]) -> RuleStatus:
    """A drop rule's inputs, told as a rule's status: what was published last, and what is refused or tried again."""
    done = [record for record in records if record.state is InputState.DONE]
    failed = sorted((record for record in records if record.state is not InputState.DONE), key=lambda one: one.at)
    last = failed[-1] if failed else None
    return RuleStatus(
        last_success=max((record.at for record in done), default=None),
        last_failure=last.at if last else None,
        code=last.code if last else "",
        message=f"{last.key}: {last.message}" if last else "",
        failures=len(failed),
        next_due=min((record.due for record in failed if record.state is InputState.WAITING), default=None),
    )


def _plan_report(report: JobReport, plan: PlannedPass) -> None:
    plan.warnings.extend(report.warnings)
    if report.failure is not None:
        plan.failures[f"{report.rule}: {report.source}"] = report.failure


async def _plan_job(job: Job, session: Session, plan: PlannedPass) -> None:
    try:
        facts, planned = await plan_job(job, session.tools)
    except OcisyncError as exc:
        plan.failures[f"{job.rule}: {job.source} -> {job.lock_name}"] = failure_of(exc)
        return
    plan.warnings.extend(facts.warnings)
    if facts.gone.refusal:
        plan.warnings.append(f"{job.rule}: {job.lock_name}: nothing would be pruned: {facts.gone.refusal}")
    plan.tags.extend(PlannedFor(job.rule, job.lock_name, one) for one in planned)
    if image := registry_image(job.source):
        host = image.host
        plan.pulls[host] = await _pulls(host, planned, session) + plan.pulls.get(host, Pulls(host))


async def _pulls(host: str, planned: Sequence[PlannedTag], session: Session) -> Pulls:
    """What a job's plan needs of a host, from which mirrors may take all of it."""
    needed = replace(pulls_of(host, planned), allowance=await session.stores.allowance(host))
    return replace(needed, least=0) if session.config.settings_for(host).mirrors else needed


async def _plan_drops(rules: RuleSet, state: State, plan: PlannedPass) -> None:
    from ocisync.drop.poll import FolderPoller  # `once` does without

    for rule in rules.drops:
        try:
            look = await FolderPoller(rule, state.inputs, SystemClock()).plan()
        except OcisyncError as exc:
            plan.failures[rule.name] = failure_of(exc)
            continue
        plan.inputs.extend((rule.name, found.key, "new or changed") for found in look.ready)
        plan.inputs.extend((rule.name, found.key, f"later: {later.reason}") for found, later in look.waiting)
