"""The rules of one configuration at work: schedules, drop folders and the queue that their jobs pass through.

A reload drains one generation and starts the next; what runs is never torn by a new configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import anyio

from ocisync.content.concurrency import Wakeup
from ocisync.daemon.clock import SystemClock
from ocisync.daemon.queue import JobQueue
from ocisync.daemon.rule_set import RuleSet
from ocisync.daemon.scheduler import RuleScheduler, Scheduler
from ocisync.daemon.supervision import Supervisor
from ocisync.drop.process import InputProcessor
from ocisync.drop.rule import InputReport
from ocisync.drop.watch import watch_folder
from ocisync.drop.watcher import DropWatcher
from ocisync.state.open import State
from ocisync.sync.reports import JobReport, RunReport

_RECORD_TIME = 10.0  # seconds after the last job in which drop folders may record what became of their inputs


@dataclass(frozen=True, slots=True)
class Observers:
    """Who is told what was done."""

    job: Callable[[JobReport], None] = field(default=lambda _: None)
    input: Callable[[InputReport], None] = field(default=lambda _: None)
    run: Callable[[RunReport], None] = field(default=lambda _: None)


class Generation:
    """One set of rules, from its start until it has drained."""

    def __init__(
        self,
        rules: RuleSet,
        state: State,
        observers: Observers,
        supervisor: Supervisor | None = None,
        scheduler: RuleScheduler | None = None,
    ) -> None:
        self.rules = rules
        self._supervisor = supervisor or Supervisor()
        self.queue = JobQueue(observe=observers.job)
        self.scheduler: RuleScheduler = scheduler or Scheduler(state.rules)
        self.scheduler.attach(self.queue, rules.runner, observers.run)
        self.scheduler.replace((*rules.schedules, *rules.maintenance))
        self.watchers = [
            DropWatcher(
                InputProcessor(rule, state.inputs, rules.archives, self.queue.run_now, SystemClock()), observers.input
            )
            for rule in rules.drops
        ]
        self._waiting: set[anyio.CancelScope] = set()  # for leases of drop folders

    def skipped_files(self) -> Mapping[str, int]:
        """How many files lie in each drop folder and are left alone, by rule."""
        return {watcher.rule.name: watcher.skipped for watcher in self.watchers}

    def stop(self, drain: float) -> None:
        """Begin nothing new; what runs may end within `drain` seconds."""
        for watcher in self.watchers:
            watcher.stop()
        for waiting in self._waiting:
            waiting.cancel()
        self.queue.close(drain)

    async def run(self) -> None:
        """Work until `stop`, then until drained."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._supervisor.keep_running, "the scheduler", self.scheduler.run)
            tasks.start_soon(self._work, tasks.cancel_scope)

    async def _work(self, everything: anyio.CancelScope) -> None:
        async with anyio.create_task_group() as folders:
            for watcher in self.watchers:
                name = f"the drop folder of rule {watcher.rule.name}"
                folders.start_soon(self._supervisor.keep_running, name, partial(self._serve_folder, watcher))
            run_queue = partial(self.queue.run, self.rules.runner, self.rules.workers)
            await self._supervisor.keep_running("the queue of jobs", run_queue)
            folders.cancel_scope.deadline = anyio.current_time() + _RECORD_TIME
        everything.cancel()

    async def _serve_folder(self, watcher: DropWatcher) -> None:
        lease = self.rules.lease
        if lease is None:
            await self._watch(watcher)
            return
        with anyio.CancelScope() as waiting:

            async def watch() -> None:
                self._waiting.discard(waiting)
                try:
                    await self._watch(watcher)
                finally:
                    self._waiting.add(waiting)  # until the lease is ours again

            self._waiting.add(waiting)
            try:
                await lease(watcher.rule.name, watch)
            finally:
                self._waiting.discard(waiting)

    async def _watch(self, watcher: DropWatcher) -> None:
        wakeup = Wakeup()
        async with anyio.create_task_group() as group:
            group.start_soon(watch_folder, watcher.rule.path, wakeup)
            await watcher.serve(wakeup)
            group.cancel_scope.cancel()
