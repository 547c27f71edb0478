"""Rules for whole registries: their repositories are found when the rule runs."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import structlog

from ocisync.config.models import SyncRule
from ocisync.config.parsers import list_literals
from ocisync.daemon.schedule import Expansion, Schedule
from ocisync.errors import ConfigError, InvalidName, LimitExceeded, OcisyncError
from ocisync.model.image_name import ImageName, parse_name
from ocisync.sync.job import Job
from ocisync.sync.reports import JobReport, describe_failure
from ocisync.sync.select import TagSet, match_names
from ocisync.wiring.jobs import repository_jobs
from ocisync.wiring.session import Session

log = structlog.get_logger()

_MAX_REPOSITORIES = 100_000  # of one rule


async def expand_rule(schedule: Schedule, session: Session) -> Expansion:
    """The jobs of one run of a rule; that the catalog cannot be read is a report."""
    rule = next((one for one in session.config.sync if one.name == schedule.rule), None)
    if rule is None or rule.type != "registry":
        return Expansion(schedule.jobs)
    report = JobReport(rule.name, f"docker://{rule.source.host}", ", ".join(map(str, rule.target)))
    jobs: list[Job] = []
    try:
        repositories = await _repositories(rule, session)
        if not repositories:
            report.warnings.append(f"{report.source}: no repository matches the rule's selection")
        jobs = _jobs(rule, session, repositories, report)
    except OcisyncError as exc:
        report.failure = describe_failure(exc)
        log.warning("job.failed", rule=rule.name, code=exc.code, error=exc.message)
    for warning in report.warnings:
        log.warning("job.warned", rule=rule.name, warning=warning)
    return Expansion(tuple(jobs), (report,) if report.failure or report.warnings else ())


def follow_repository(host: str, repository: str, session: Session, rules: Collection[str]) -> list[Job]:
    """The jobs for one repository, of those of the rules that mirror its whole registry; without a host, any."""
    try:
        parse_name(repository)
    except InvalidName:
        return []
    meant = (one for one in session.config.sync if one.name in rules and _follows(one, host, repository))
    return [job for rule in meant for job in _jobs(rule, session, [repository], JobReport(rule.name, "", ""))]


def _follows(rule: SyncRule, host: str, repository: str) -> bool:
    if rule.type != "registry" or host not in ("", rule.source.host):
        return False
    prefix = f"{rule.source.repository}/" if rule.source.repository else ""
    conditions = TagSet(rule.repositories.allow, rule.repositories.deny)
    return repository.startswith(prefix) and bool(match_names(conditions, [repository]))


async def _repositories(rule: SyncRule, session: Session) -> list[str]:
    """The repositories that a rule means; none is asked for where all are named one by one.

    Raises:
        LimitExceeded: more of them than there may be jobs of one rule in memory.
    """
    rules = rule.repositories
    named = list_literals(rules.allow)
    listed = await session.stores.repositories(rule.source.host) if named is None else named
    prefix = f"{rule.source.repository}/" if rule.source.repository else ""
    meant = match_names(TagSet(rules.allow, rules.deny), (one for one in listed if one.startswith(prefix)))
    if len(meant) > _MAX_REPOSITORIES:
        raise LimitExceeded(
            f"the rule selects {len(meant):,} repositories, and one rule may select {_MAX_REPOSITORIES:,}: narrow it "
            "by `repositories`, or split it"
        )
    return meant


def _jobs(rule: SyncRule, session: Session, repositories: Sequence[str], report: JobReport) -> list[Job]:
    """One job per repository and target; two repositories never go to the same place."""
    taken: dict[str, str] = {}
    jobs: list[Job] = []
    for repository in repositories:
        try:
            found = repository_jobs(rule, session.config, ImageName(rule.source.host, repository))
            _check_free(found, taken)
        except (ConfigError, InvalidName) as exc:
            report.warnings.append(f"{rule.source.host}/{repository} is left out: {exc.message}")
            continue
        taken |= {job.lock_name: repository for job in found}
        jobs.extend(found)
    return jobs


def _check_free(jobs: Sequence[Job], taken: dict[str, str]) -> None:
    for job in jobs:
        if job.lock_name in taken:
            raise ConfigError(f"it would become {job.lock_name}, as {taken[job.lock_name]} does: rename one of the two")
