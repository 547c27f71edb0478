"""`status`: what the state remembers of each rule."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from ocisync.config.models import Config, SyncRule
from ocisync.daemon.clock import SystemClock
from ocisync.drop.poll import FolderPoller
from ocisync.drop.report import DroppedInput, FolderReport, look_at_folder
from ocisync.drop.rule import DropRule
from ocisync.errors import ConfigError
from ocisync.state.image_records import ImageRecord
from ocisync.state.open import State, open_state
from ocisync.state.rule_records import RuleStatus
from ocisync.wiring.bundle_jobs import bundle_schedules
from ocisync.wiring.jobs import sync_jobs
from ocisync.wiring.maintenance_jobs import maintenance_schedules
from ocisync.wiring.rules import drop_rule


@dataclass(frozen=True, slots=True)
class RuleReport:
    """A rule as the state remembers it."""

    status: RuleStatus
    lag: float | None  # seconds since it last did all it should; None: it never did
    images: list[ImageRecord] = field(default_factory=list)  # the last look at each, by target and tag
    inputs: list[DroppedInput] = field(default_factory=list)  # of a drop rule: what waits or failed


async def report_rules(config: Config, only: str = "") -> dict[str, RuleReport]:
    """What the state remembers of each rule, or of one; and what lies in drop folders now.

    Raises:
        ConfigError: there is no rule of that name.
    """
    upkeep = [*maintenance_schedules(config), *bundle_schedules(config)]
    names = list(dict.fromkeys([*(rule.name for rule in config.rules), *(one.rule for one in upkeep)]))
    if only and only not in names:
        raise ConfigError(f"no rule is named {only[:80]!r}; known are {', '.join(sorted(names)) or 'none'}")
    now = time.time()
    async with open_state(config.daemon.state, read_only=True, dsn=config.dsn) as state:
        drops = {rule.name: await _look(state, drop_rule(rule), only) for rule in config.drop}
        syncs = {rule.name: _with_next(rule, await _status(state, rule.name), now) for rule in config.sync}
        maintenance = {job.rule: await _status(state, job.rule) for job in upkeep}
        images = {rule.name: await _images(state, rule, config) for rule in config.sync}
        folders = {
            name: RuleReport(one.status, _lag(one.status, now), [], list(one.inputs)) for name, one in drops.items()
        }
        others = {
            name: RuleReport(status, _lag(status, now), images.get(name, []))
            for name, status in (syncs | maintenance).items()
        }
        return {name: report for name, report in (folders | others).items() if only in ("", name)}


async def _look(state: State, rule: DropRule, only: str) -> FolderReport:
    """A drop folder as it is now; one that was not asked for is not looked at."""
    if only not in ("", rule.name):
        return FolderReport(RuleStatus(), ())
    return await look_at_folder(rule, state.inputs, FolderPoller(rule, state.inputs, SystemClock()))


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
