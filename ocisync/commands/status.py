"""`status`: what the state remembers of each rule."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from ocisync.config.models import Config, SyncRule
from ocisync.state.image_records import ImageRecord
from ocisync.state.input_records import InputRecord, InputState
from ocisync.state.open import State, open_state
from ocisync.state.rule_records import RuleStatus
from ocisync.wiring.jobs import sync_jobs
from ocisync.wiring.maintenance_jobs import maintenance_schedules


@dataclass(frozen=True, slots=True)
class RuleReport:
    """A rule as the state remembers it."""

    status: RuleStatus
    lag: float | None  # seconds since it last did all it should; None: it never did
    images: list[ImageRecord] = field(default_factory=list)  # the last look at each, by target and tag


async def report_rules(config: Config) -> dict[str, RuleReport]:
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
