"""A configuration's rules, ready to run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog

from ocisync.config.models import Config
from ocisync.daemon.rule_set import RuleSet
from ocisync.daemon.schedule import AnyJob, Schedule
from ocisync.errors import ConfigError, OcisyncError
from ocisync.maintenance.job import MaintenanceJob
from ocisync.state.images import ImageRecords
from ocisync.state.open import State
from ocisync.sync.context import Progress
from ocisync.sync.reports import JobReport
from ocisync.sync.run import run_job
from ocisync.wiring.catalog_rules import expanded, followed
from ocisync.wiring.jobs import sync_jobs
from ocisync.wiring.maintenance_jobs import maintenance_schedules, run_maintenance_job
from ocisync.wiring.options import drop_rule
from ocisync.wiring.session import Session, open_session

log = structlog.get_logger()


@asynccontextmanager
async def open_rules(config: Config, state: State, progress: Progress | None = None) -> AsyncIterator[RuleSet]:
    """The rules of a configuration over open stores."""
    async with open_session(config, state.ledger, progress) as session:
        yield rule_set(session, state.images)


def rule_set(session: Session, images: ImageRecords, only: Sequence[str] = ()) -> RuleSet:
    """The enabled rules of a session, or the named ones, enabled or not.

    Raises:
        ConfigError: a name is no rule's.
    """
    config = session.config
    _check_names(config, only)
    wanted = {rule.name for rule in config.rules if (rule.name in only if only else rule.enabled)}
    return RuleSet(
        schedules=tuple(
            Schedule(rule.name, tuple(sync_jobs(rule, config)), rule.interval, rule.jitter, cron=rule.cron)
            for rule in config.sync
            if rule.name in wanted
        ),
        drops=tuple(drop_rule(rule) for rule in config.drop if rule.name in wanted),
        maintenance=() if only else tuple(maintenance_schedules(config)),
        run=partial(_run, session=session, images=images),
        names=session.stores.archives.names,
        workers=config.daemon.concurrent_rules,
        hold=session.stores.archives.holding,
        identify=session.stores.archives.identity,
        expand=partial(expanded, session=session),
        follow=partial(followed, session=session, rules=wanted),
        is_stalled=session.stores.is_stalled,
    )


async def _run(job: AnyJob, session: Session, images: ImageRecords) -> JobReport:
    if isinstance(job, MaintenanceJob):
        return await run_maintenance_job(job, session)
    report = await run_job(job, session.tools)
    if any(rule.name == job.rule for rule in session.config.sync):
        await _remember(report, images, job.is_partial)
    return report


async def _remember(report: JobReport, images: ImageRecords, is_partial: bool) -> None:
    try:
        await images.record(report, is_partial=is_partial)
    except OcisyncError as exc:
        log.warning("images.unwritable", rule=report.rule, code=exc.code, error=exc.message)


def _check_names(config: Config, only: Sequence[str]) -> None:
    known = {rule.name for rule in config.rules}
    unknown = [name for name in only if name not in known]
    if unknown:
        raise ConfigError(f"no rule is named {', '.join(unknown)}; known are {', '.join(sorted(known)) or 'none'}")
