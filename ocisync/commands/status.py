"""`status`: what the state remembers of each rule."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from anyio import to_thread

from ocisync.config.models import Config, SyncRule
from ocisync.daemon.clock import SystemClock
from ocisync.drop.disposal import REASON
from ocisync.drop.poll import FolderPoller
from ocisync.drop.rule import DropRule
from ocisync.errors import ConfigError, OcisyncError
from ocisync.state.image_records import ImageRecord
from ocisync.state.input_records import InputRecord, InputState
from ocisync.state.open import State, open_state
from ocisync.state.rule_records import RuleStatus
from ocisync.wiring.jobs import sync_jobs
from ocisync.wiring.maintenance_jobs import maintenance_schedules
from ocisync.wiring.store_options import drop_rule

_MOST_FAILED = 1000  # inputs of one folder that are listed
_REASON_SIZE = 65_536  # bytes of a file that tells a reason


@dataclass(frozen=True, slots=True)
class DroppedInput:
    """An input of a drop folder that is not published, and why."""

    key: str
    state: str  # "waiting", or what the state calls it: failed, or to be tried again
    reason: str
    code: str = ""
    due: float | None = None  # seconds since the epoch: not tried again before


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
    names = [rule.name for rule in config.rules] + [job.rule for job in maintenance_schedules(config)]
    if only and only not in names:
        raise ConfigError(f"no rule is named {only[:80]!r}; known are {', '.join(sorted(names)) or 'none'}")
    now = time.time()
    async with open_state(config.daemon.state, read_only=True) as state:
        drops = {rule.name: _drop_status((await state.inputs.of_rule(rule.name)).values()) for rule in config.drop}
        syncs = {rule.name: _with_next(rule, await _status(state, rule.name), now) for rule in config.sync}
        maintenance = {job.rule: await _status(state, job.rule) for job in maintenance_schedules(config)}
        images = {rule.name: await _images(state, rule, config) for rule in config.sync}
        inputs = {rule.name: await _inputs(state, drop_rule(rule)) for rule in config.drop if only in ("", rule.name)}
        return {
            name: RuleReport(status, _lag(status, now), images.get(name, []), inputs.get(name, []))
            for name, status in (drops | syncs | maintenance).items()
            if only in ("", name)
        }


async def _inputs(state: State, rule: DropRule) -> list[DroppedInput]:
    """What the state remembers as not published, and what lies in the folder and waits: a set that lacks a file, …"""
    records = await state.inputs.of_rule(rule.name)
    found = {
        one.key: DroppedInput(one.key, one.state.value, one.message, one.code, one.due or None)
        for one in records.values()
        if one.state is not InputState.DONE
    }
    for one in await to_thread.run_sync(_read_failed, rule.failed_path):
        found.setdefault(one.key, one)
    try:
        look = await FolderPoller(rule, state.inputs, SystemClock()).plan()
    except OcisyncError as exc:
        return [*found.values(), DroppedInput(str(rule.path), "unreadable", exc.message, exc.code)]
    for dropped, later in look.waiting:
        found.setdefault(dropped.key, DroppedInput(dropped.key, "waiting", later.reason))
    for dropped in look.ready:
        found.setdefault(dropped.key, DroppedInput(dropped.key, "waiting", "new or changed"))
    return list(found.values())


def _read_failed(folder: Path) -> list[DroppedInput]:
    """What was set aside, by the files that tell the reason; what cannot be read is left out."""
    found: list[DroppedInput] = []
    try:
        files = sorted(file for file in folder.rglob(f"*{REASON}") if not file.is_symlink())[:_MOST_FAILED]
    except OSError:
        return found
    for file in files:
        with suppress(OSError), file.open(encoding="utf-8", errors="replace") as lines:
            facts = dict(line.partition(":")[::2] for line in lines.read(_REASON_SIZE).splitlines())
            name = str(file.relative_to(folder)).removesuffix(REASON)
            reason, code = facts.get("message", "").strip(), facts.get("code", "").strip()
            found.append(DroppedInput(name, "failed", reason, code))
    return found


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
