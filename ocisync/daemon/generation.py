"""The rules of one configuration at work: schedules, drop folders and the queue that their jobs pass through.

A reload drains one generation and starts the next; what runs is never torn by a new configuration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import anyio

from ocisync.content.concurrency import Wakeup
from ocisync.daemon.queue import JobQueue
from ocisync.daemon.rule_set import RuleSet
from ocisync.daemon.schedule import Expand, Expansion, Schedule
from ocisync.daemon.scheduler import Scheduler
from ocisync.drop.rule import InputReport
from ocisync.drop.watch import watch_folder
from ocisync.drop.watcher import DropWatcher, IntakeTools
from ocisync.state.open import State
from ocisync.sync.reports import JobReport

_RECORD_TIME = 10.0  # seconds after the last job in which intakes may record what became of their inputs


@dataclass(frozen=True, slots=True)
class Observers:
    """Who is told what was done."""

    job: Callable[[JobReport], None] = field(default=lambda _: None)
    input: Callable[[InputReport], None] = field(default=lambda _: None)


class Generation:
    """One set of rules, from its start until it has drained."""

    def __init__(self, rules: RuleSet, state: State, observers: Observers) -> None:
        self.rules = rules
        self.queue = JobQueue(observe=observers.job)
        self.scheduler = Scheduler(self.queue, state.rules, expand=partial(_expanded, rules.expand, observers))
        self.scheduler.replace((*rules.schedules, *rules.maintenance))
        tools = IntakeTools(
            state.inputs, rules.names, self.queue.run_now, observers.input, hold=rules.hold, identify=rules.identify
        )
        self._intakes = [DropWatcher(rule, tools) for rule in rules.drops]

    def stop(self, drain: float) -> None:
        """Begin nothing new; what runs may end within `drain` seconds."""
        for intake in self._intakes:
            intake.stop()
        self.queue.close(drain)

    async def run(self) -> None:
        """Work until `stop`, then until drained."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.scheduler.run)
            tasks.start_soon(self._work, tasks.cancel_scope)

    async def _work(self, everything: anyio.CancelScope) -> None:
        async with anyio.create_task_group() as intakes:
            for intake in self._intakes:
                intakes.start_soon(_serve, intake)
            await self.queue.run(self.rules.run, self.rules.workers, self.rules.is_stalled)
            intakes.cancel_scope.deadline = anyio.current_time() + _RECORD_TIME
        everything.cancel()


async def _expanded(expand: Expand, observers: Observers, schedule: Schedule) -> Expansion:
    """A rule's jobs; what is to be told of their finding is told."""
    found = await expand(schedule)
    for report in found.reports:
        observers.job(report)
    return found


async def _serve(intake: DropWatcher) -> None:
    wakeup = Wakeup()
    async with anyio.create_task_group() as group:
        group.start_soon(watch_folder, intake.rule.path, wakeup)
        await intake.serve(wakeup)
        group.cancel_scope.cancel()
