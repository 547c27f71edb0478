"""`once`, `plan` and `status`: they use the daemon's state and work beside a running daemon."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

from ocisync.config.models import Config
from ocisync.daemon.rule_set import RuleSet
from ocisync.daemon.single_pass import PassReport, run_pass
from ocisync.errors import ConfigError, OcisyncError
from ocisync.model.locator import registry_image
from ocisync.state.open import State, open_state
from ocisync.sync.context import Progress
from ocisync.sync.job import Job
from ocisync.sync.plan import PlannedTag, Pulls, forecast_pulls
from ocisync.sync.reports import Failure, JobReport, describe_failure
from ocisync.sync.run import plan_job
from ocisync.wiring.engine import open_engine
from ocisync.wiring.rules import rule_set
from ocisync.wiring.session import Session, open_session
from ocisync.wiring.store_options import settings_for


@dataclass(frozen=True, slots=True)
class PlannedFor:
    """A planned tag, and where it belongs."""

    rule: str
    target: str
    planned: PlannedTag


@dataclass(slots=True)
class PlannedPass:
    """What a pass would do."""

    tags: list[PlannedFor] = field(default_factory=list)
    inputs: list[tuple[str, str, str]] = field(default_factory=list)  # rule, input, reason
    warnings: list[str] = field(default_factory=list)
    failures: dict[str, Failure] = field(default_factory=dict)
    pulls: dict[str, Pulls] = field(default_factory=dict)  # by the source's host


async def run_rules(
    config: Config, only: Sequence[str], progress: Progress, *, force_prune: bool = False, in_full: bool = False
) -> PassReport:
    """One pass of the rules; `force_prune` lets any number of tags go that are gone at their source.

    `in_full`: as if nothing had been verified or published before.
    """
    async with (
        open_state(config.daemon.state, dsn=config.dsn) as state,
        open_session(config, state.ledger, progress) as session,
        open_engine(config, state) if config.dsn else nullcontext() as engine,
    ):
        rules = rule_set(session, state.images, only, force_prune=force_prune)
        return await run_pass(engine.guard(rules) if engine else rules, state, in_full=in_full)


async def run_distributed_rules(config: Config, only: Sequence[str], progress: Progress) -> PassReport:
    """One pass of the sync rules, by the daemons that share the work; drop folders are theirs all the time.

    Raises:
        ConfigError: the configuration has no PostgreSQL, no daemon is there, or a rule cannot be asked for.
        StoreError: PostgreSQL cannot be reached.
    """
    from ocisync.commands.engine import require_dsn
    from ocisync.engine.distributed_pass import run_distributed

    dsn = require_dsn(config)
    if drops := [rule.name for rule in config.drop if rule.name in only]:
        raise ConfigError(f"{drops[0]} is a drop rule: the daemons publish what is put into its folder by themselves")
    async with (
        open_state(config.daemon.state, read_only=True, dsn=dsn) as state,
        open_session(config, state.ledger) as session,
    ):
        sources = {rule.name: str(rule.source) for rule in config.sync}
        rules = [schedule.rule for schedule in rule_set(session, state.images, only).schedules]
        wanted = {rule: sources.get(rule, rule) for rule in rules}
        return await run_distributed(dsn, wanted, state.images, progress.held_up)


async def plan_rules(config: Config, only: Sequence[str]) -> PlannedPass:
    """What a pass would do now, changing nothing."""
    plan = PlannedPass()
    async with (
        open_state(config.daemon.state, read_only=True, dsn=config.dsn) as state,
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


def _plan_report(report: JobReport, plan: PlannedPass) -> None:
    plan.warnings.extend(report.warnings)
    if report.failure is not None:
        plan.failures[f"{report.rule}: {report.source}"] = report.failure


async def _plan_job(job: Job, session: Session, plan: PlannedPass) -> None:
    try:
        facts, planned = await plan_job(job, session.tools)
    except OcisyncError as exc:
        plan.failures[f"{job.rule}: {job.source} -> {job.lock_name}"] = describe_failure(exc)
        return
    plan.warnings.extend(facts.warnings)
    if facts.gone.refusal:
        plan.warnings.append(f"{job.rule}: {job.lock_name}: nothing would be pruned: {facts.gone.refusal}")
    plan.tags.extend(PlannedFor(job.rule, job.lock_name, one) for one in planned)
    if image := registry_image(job.source):
        key, allowance = await session.stores.allowance(image.host, image.repository)
        needed = replace(forecast_pulls(key, planned), allowance=allowance)
        if settings_for(session.config, key).mirrors:  # they may take all of it
            needed = replace(needed, least=0)
        plan.pulls[key] = needed + plan.pulls.get(key, Pulls(key))


async def _plan_drops(rules: RuleSet, state: State, plan: PlannedPass) -> None:
    from ocisync.daemon.clock import SystemClock  # `once` does without
    from ocisync.drop.poll import FolderPoller

    for rule in rules.drops:
        try:
            look = await FolderPoller(rule, state.inputs, SystemClock()).plan()
        except OcisyncError as exc:
            plan.failures[rule.name] = describe_failure(exc)
            continue
        plan.inputs.extend((rule.name, found.key, "new or changed") for found in look.ready)
        plan.inputs.extend((rule.name, found.key, f"later: {later.reason}") for found, later in look.waiting)
