"""A configuration's rules, ready to run."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from ocisync.bundles.bundle_job import BundleJob
from ocisync.config.diagnostics import find_suggestion
from ocisync.config.models import Config, DropRuleSettings, SyncRule
from ocisync.daemon.pace import RepositoryPace
from ocisync.daemon.rule_set import JobRunner, RuleSet
from ocisync.daemon.schedule import AnyJob, Expansion, Schedule
from ocisync.errors import ConfigError, OcisyncError
from ocisync.maintenance.maintenance_job import MaintenanceJob
from ocisync.state.image_records import ImageRecords
from ocisync.state.open import State
from ocisync.stores.registry.options import Share
from ocisync.sync.context import Progress
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport
from ocisync.sync.run import run_job
from ocisync.wiring.bundle_jobs import bundle_schedules, run_bundle_job
from ocisync.wiring.catalog_rules import expand_rule, follow_repository
from ocisync.wiring.jobs import acceptance_of, sync_jobs
from ocisync.wiring.maintenance_jobs import maintenance_schedules, run_maintenance_job
from ocisync.wiring.session import Session, open_session

if TYPE_CHECKING:  # the start of a pass without drop folders does not pay for these
    from ocisync.drop.rule import DropRule

log = structlog.get_logger()


@asynccontextmanager
async def open_rules(
    config: Config, state: State, progress: Progress | None = None, share: Share | None = None
) -> AsyncIterator[RuleSet]:
    """The rules of a configuration and the maintenance of its targets, over open stores."""
    async with open_session(config, state.ledger, progress, share=share) as session:
        rules = rule_set(session, state.images)
        yield replace(rules, maintenance=tuple(maintenance_schedules(config)))


def rule_set(session: Session, images: ImageRecords, only: Sequence[str] = (), *, force_prune: bool = False) -> RuleSet:
    """The enabled rules of a session, or the named ones, enabled or not.

    `force_prune` lets any number of tags go that are gone at their source.

    Raises:
        ConfigError: a name is no rule's.
    """
    config = session.config
    _check_names(config, only)
    wanted = {rule.name for rule in config.rules if (rule.name in only if only else rule.enabled)}
    return RuleSet(
        schedules=(
            *(_make_schedule(rule, config) for rule in config.sync if rule.name in wanted),
            *(bundle_schedules(config, wanted) if config.bundle or config.drop else ()),
        ),
        drops=tuple(drop_rule(rule) for rule in config.drop if rule.name in wanted),
        runner=RuleRunner(session, images, frozenset(wanted), force_prune),
        archives=session.stores.archives,
        workers=config.daemon.concurrent_rules,
    )


def drop_rule(settings: DropRuleSettings) -> DropRule:
    """A drop rule's section, as the daemon's intake takes it."""
    from ocisync.drop.rule import DropRule, DropTarget, Incomplete

    return DropRule(
        name=settings.name,
        path=settings.path,
        targets=tuple(DropTarget(place.target, place.repository) for place in settings.target),
        layout=settings.layout,
        platforms=settings.platforms,
        incomplete=Incomplete(settings.incomplete.after, settings.incomplete.action) if settings.incomplete else None,
        settle=settings.settle,
        stable=settings.stable,
        rescan=settings.rescan,
        done=settings.done,
        done_folder=settings.done_folder,
        failed_folder=settings.failed_folder,
        keep_done=_finite(settings.keep_done),
        keep_failed=_finite(settings.keep_failed),
        acceptance=acceptance_of(settings),
        takes_bundles=settings.bundles is not None,
        conversion=f"{settings.format}+{settings.compression}+{settings.level}",
    )


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None


def _make_schedule(rule: SyncRule, config: Config) -> Schedule:
    """When a rule runs. An edit of the rule, or of a target of it, makes it due at once."""
    settings = (rule, *(config.targets[one.target] for one in rule.target))
    return Schedule(
        rule.name,
        tuple(sync_jobs(rule, config)),
        rule.shortest_interval,
        rule.jitter,
        cron=rule.cron,
        settings=settings,
        longest=rule.longest_interval,
    )


@dataclass(frozen=True, slots=True)
class RuleRunner(JobRunner):
    """Finds and runs the jobs of a session's rules."""

    session: Session
    images: ImageRecords
    rules: frozenset[str]  # the names of those that are at work
    force_prune: bool = False
    pace: RepositoryPace = field(default_factory=RepositoryPace)  # of the repositories of whole registries

    async def run(self, job: AnyJob) -> JobReport:
        """Run a job, and remember what became of the images of a sync rule."""
        if isinstance(job, MaintenanceJob):
            return await run_maintenance_job(job, self.session)
        if isinstance(job, BundleJob):
            return await run_bundle_job(job, self.session)
        report = await run_job(job, self.session.tools)
        if self.pace.schedules:
            self.pace.observe(job, report)
        if any(rule.name == job.rule for rule in self.session.config.sync):
            try:
                await self.images.record(report, is_partial=job.is_partial)
            except OcisyncError as exc:
                log.warning("images.unwritable", rule=report.rule, code=exc.code, error=exc.message)
        return report

    async def expand(self, schedule: Schedule) -> Expansion:
        """The jobs of one run of a rule."""
        found = Expansion(schedule.jobs)
        if not schedule.jobs:
            found = await expand_rule(schedule, self.session)
            found = found._replace(jobs=self.pace.select(schedule, found.jobs))
        if not self.force_prune:
            return found
        return found._replace(jobs=tuple(_allow_any_prune(job) for job in found.jobs))

    def follow(self, host: str, repository: str) -> Sequence[Job]:
        """The jobs for one repository of a registry that rules mirror as a whole."""
        return follow_repository(host, repository, self.session, self.rules)

    def explain_stall(self, job: AnyJob) -> str:
        """Why a job's source or target, a registry, must be left alone for long."""
        return self.session.stores.explain_stall(job)


def _allow_any_prune(job: AnyJob) -> AnyJob:
    return replace(job, policy=replace(job.policy, is_forced=True)) if isinstance(job, Job) else job


def _check_names(config: Config, only: Sequence[str]) -> None:
    known = {rule.name for rule in config.rules}
    unknown = [name for name in only if name not in known]
    if unknown:
        guess = find_suggestion(unknown[0], known)
        listed = f"; known are {', '.join(sorted(known)) or 'none'}"
        raise ConfigError(
            f"no rule is named {', '.join(unknown)}" + (f': did you mean "{guess}"?' if guess else listed)
        )
