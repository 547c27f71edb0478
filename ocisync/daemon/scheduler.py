"""Runs each rule when it is due: by its interval or the calendar, sooner after failures and when triggered."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import anyio
import structlog

from ocisync.content.concurrency import Wakeup
from ocisync.daemon.clock import Clock, SystemClock
from ocisync.daemon.queue import JobQueue
from ocisync.daemon.rule_set import JobRunner
from ocisync.daemon.schedule import Expansion, Schedule, first_wait, wait_after_run
from ocisync.errors import OcisyncError
from ocisync.state.rule_records import RuleRecords, RuleStatus, RuleView
from ocisync.sync.reports import Failure, RunReport

_LOOK = 60.0  # seconds; who waits for a time of day looks so often whether the clock was set
_LANES = 32  # jobs of one rule that wait or run at a time; the rest are not in memory twice

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Rule:
    """A rule's schedule and where it stands; `due` is on the monotonic clock."""

    schedule: Schedule
    taken: float  # when it was first seen, on the monotonic clock
    status: RuleStatus | None = None  # None: not looked up yet
    due: float = 0.0
    wall_due: float | None = None  # in place of `due`, for the calendar: seconds since the epoch
    is_running: bool = False
    is_wanted: bool = False  # triggered since its last start


class RuleScheduler(Protocol):
    """What a generation of rules asks of the part that starts their runs."""

    def attach(self, queue: JobQueue, runner: JobRunner, observe: Callable[[RunReport], None]) -> None:
        """Use this queue and this runner from the next `run` on, and tell of every run of a rule that ended here."""
        ...

    def replace(self, schedules: Iterable[Schedule]) -> None:
        """Take these schedules in place of those before: a changed one is due now, a removed one finishes its run."""
        ...

    def trigger(self, rule: str, within: float = 0.0) -> bool:
        """Make a rule due within so many seconds, enabled or not; False when there is none of that name."""
        ...

    def quicken(self, rule: str) -> None:
        """Ask a rule's source as often as it may be asked, for something was pushed there."""
        ...

    def views(self) -> Mapping[str, RuleView]:
        """How every rule fares now, by name."""
        ...

    async def run(self) -> None:
        """Run until cancelled; after the queue's `close` no run is recorded that did not come to its end."""
        ...


class Scheduler:
    """Starts each rule's run when it is due, and records when it is due next.

    Intervals and back-off are waited for on the monotonic clock, so that setting the wall clock neither starts a rule
    nor stops it. Times of the calendar are on the wall clock, and it is looked at once a minute whether that was set.
    What is due next is recorded before and after each run, so that a restart neither repeats nor forgets one. All jobs
    of a run pass through the queue, and a rule never overlaps itself; `trigger` during a run makes it due again after
    that.

    One scheduler outlives the reloads of the configuration, so that it knows which rules an edit changed: `attach`
    gives it the queue and the runner of the new one, `replace` its rules.
    """

    def __init__(self, records: RuleRecords, clock: Clock | None = None, rng: random.Random | None = None) -> None:
        self._observe: Callable[[RunReport], None] = lambda _: None
        self._queue = JobQueue()  # until `attach`
        self._runner: JobRunner | None = None
        self._records = records
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._rules: dict[str, _Rule] = {}
        self._changed = Wakeup()

    def attach(self, queue: JobQueue, runner: JobRunner, observe: Callable[[RunReport], None] = lambda _: None) -> None:
        """Use this queue and this runner from the next `run` on; tell of every run that came to its end."""
        self._queue, self._runner, self._observe = queue, runner, observe

    def replace(self, schedules: Iterable[Schedule]) -> None:
        """Take these schedules in place of those before: a changed one is due now, a removed one finishes its run."""
        wanted = {schedule.rule: schedule for schedule in schedules}
        for name in self._rules.keys() - wanted.keys():
            del self._rules[name]
        for name, schedule in wanted.items():
            known = self._rules.get(name)
            if known is None:
                self._rules[name] = _Rule(schedule, self._clock.monotonic())
            elif known.schedule != schedule:
                known.schedule = schedule
                if schedule.enabled:
                    self._request(known)
        self._changed.set()

    def trigger(self, rule: str, within: float = 0.0) -> bool:
        """Make a rule due within so many seconds, enabled or not; False when there is none of that name."""
        known = self._rules.get(rule)
        if known is None:
            return False
        self._request(known, within)
        self._changed.set()
        return True

    def quicken(self, rule: str) -> None:
        """Begin anew with the shortest interval, because something changed at the source."""
        known = self._rules.get(rule)
        if known is None or known.status is None or not known.schedule.is_adaptive:
            return
        known.status = replace(known.status, interval=known.schedule.interval)
        if not known.is_running:
            known.due = min(known.due, self._clock.monotonic() + known.schedule.interval)
        self._changed.set()

    def views(self) -> Mapping[str, RuleView]:
        """How every rule fares now, by name."""
        return {name: self._view(rule) for name, rule in self._rules.items()}

    def _view(self, rule: _Rule) -> RuleView:
        status, now = rule.status or RuleStatus(), self._clock.wall()
        lag = self._clock.monotonic() - rule.taken if status.last_success is None else now - status.last_success
        return RuleView(status, max(0.0, lag), rule.schedule.gap(now, status.interval), rule.is_running, rule.is_wanted)

    async def run(self) -> None:
        """Run until cancelled; after the queue's `close` no run is recorded that did not come to its end."""
        if self._runner is None:
            raise RuntimeError("attach a queue and a runner first")
        async with anyio.create_task_group() as tasks:
            while True:
                await self._load_new()
                self._follow_clock()
                for rule in self._list_due():
                    # Who wants a rule now wants all of it, also repositories that are asked less and less.
                    schedule = replace(rule.schedule, longest=0.0) if rule.is_wanted else rule.schedule
                    rule.is_running = True
                    rule.is_wanted = False
                    tasks.start_soon(self._run_rule, rule, schedule, self._runner)
                await self._wait()

    async def _load_new(self) -> None:
        for name, rule in list(self._rules.items()):
            if rule.status is None:
                rule.status = await self._load_status(name)
                if not rule.is_wanted:
                    self._set_due(rule, first_wait(rule.schedule, rule.status, self._clock.wall()))

    async def _load_status(self, name: str) -> RuleStatus:
        try:
            return await self._records.rule_status(name) or RuleStatus()
        except OcisyncError as exc:
            log.warning("rule.record_unreadable", rule=name, code=exc.code, error=exc.message)
            return RuleStatus()

    def _set_due(self, rule: _Rule, wait: float, *, is_early: bool = False) -> None:
        rule.due = self._clock.monotonic() + wait
        rule.wall_due = self._clock.wall() + wait if rule.schedule.cron and not is_early else None

    def _follow_clock(self) -> None:
        """Times of the calendar are on the wall clock, which may have been set since."""
        for rule in self._rules.values():
            if rule.wall_due is not None:
                rule.due = self._clock.monotonic() + rule.wall_due - self._clock.wall()

    def _list_due(self) -> Iterator[_Rule]:
        now = self._clock.monotonic()
        return (rule for rule in self._list_startable() if rule.due <= now)

    def _list_startable(self) -> list[_Rule]:
        rules = () if self._queue.is_closed else self._rules.values()
        return [rule for rule in rules if not rule.is_running and (rule.schedule.enabled or rule.is_wanted)]

    async def _wait(self) -> None:
        waiting = self._list_startable()
        if not waiting:
            await self._changed.wait()
            return
        first = min(rule.due for rule in waiting)
        if any(rule.wall_due is not None for rule in waiting):
            first = min(first, self._clock.monotonic() + _LOOK)
        await self._clock.wait(self._changed, max(0.0, first - self._clock.monotonic()))

    async def _run_rule(self, rule: _Rule, schedule: Schedule, runner: JobRunner) -> None:
        name = schedule.rule
        before, started = rule.status or RuleStatus(), self._clock.monotonic()
        try:
            rule.status = replace(before, last_started=self._clock.wall())
            await self._save(name, rule.status)
            try:
                outcome = await self._run_jobs(name, await runner.expand(schedule))
            except Exception as exc:
                log.exception("rule.crashed", rule=name)
                outcome = RunReport(name, failure=Failure("internal", f"{type(exc).__name__}: {exc}", "retry"))
            outcome.seconds = self._clock.monotonic() - started
            _log_run(outcome)
            if not outcome.is_stopped:
                await self._finish(rule, outcome)
                self._observe(outcome)
        finally:
            rule.is_running = False
            self._changed.set()

    async def _run_jobs(self, rule: str, found: Expansion) -> RunReport:
        outcome, waiting = RunReport(rule), iter(found.jobs)
        for report in found.reports:
            outcome.add(report)
            self._queue.observe(report)

        async def lane() -> None:
            for job in waiting:
                outcome.add(await self._queue.run_now(job))

        async with anyio.create_task_group() as tasks:
            for _ in range(min(_LANES, len(found.jobs))):
                tasks.start_soon(lane)
        return outcome

    async def _finish(self, rule: _Rule, outcome: RunReport) -> None:
        status = _next_status(rule.status or RuleStatus(), outcome, self._clock.wall())
        if outcome.failure is None:
            status = replace(status, interval=rule.schedule.adapt(status.interval, has_changed=outcome.has_changed))
        wait, is_early = wait_after_run(
            rule.schedule, outcome, status.interval, status.failures, self._clock.wall(), self._rng
        )
        if not rule.is_wanted:
            self._set_due(rule, wait, is_early=is_early)
        rule.status = replace(status, next_due=self._clock.wall() + wait)
        await self._save(rule.schedule.rule, rule.status)

    async def _save(self, name: str, status: RuleStatus) -> None:
        try:
            await self._records.save_rule_status(name, status)
        except OcisyncError as exc:
            log.warning("rule.record_unwritable", rule=name, code=exc.code, error=exc.message)

    def _request(self, rule: _Rule, within: float = 0.0) -> None:
        soon = self._clock.monotonic() + within
        is_waiting = rule.status is not None and rule.schedule.enabled and not rule.is_running
        rule.due = min(rule.due, soon) if is_waiting else soon
        rule.wall_due = None
        rule.is_wanted = True


def _next_status(status: RuleStatus, outcome: RunReport, now: float) -> RuleStatus:
    if outcome.failure is None:
        return replace(status, last_success=now, code="", message="", failures=0)
    code, message = outcome.failure.code, outcome.failure.message
    return replace(status, last_failure=now, code=code, message=message, failures=status.failures + 1)


def _log_run(run: RunReport) -> None:
    """One line for each run, whatever it came to."""
    facts = {"rule": run.rule, "jobs": run.jobs, "copied": run.copied, "unchanged": run.unchanged, "pruned": run.pruned}
    facts |= {
        "refused": run.refused,
        "failed": run.failed,
        "bytes": run.bytes,
        "requests": run.requests,
        "seconds": round(run.seconds, 3),
    }
    if run.failure is None:
        log.info("rule.finished", **facts)
    else:
        log.warning("rule.failed", code=run.failure.code, error=run.failure.message, **facts)
