"""What the daemon's pages show and ask of it (daemon.pages.HealthView)."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import anyio
import structlog

from ocisync.config.models import Config
from ocisync.daemon.generation import Generation
from ocisync.daemon.push_dispatcher import PushDispatcher
from ocisync.daemon.schedule import AnyJob
from ocisync.daemon.service import Service
from ocisync.daemon.status.activity import Activity, RunningJob
from ocisync.daemon.status.failures import FailureNow, Failures
from ocisync.daemon.status.history import History
from ocisync.daemon.status.snapshot import FolderNow, JobNow, RuleNow, Snapshot
from ocisync.daemon.webhooks.payloads import Push
from ocisync.daemon.webhooks.receiver import Webhook
from ocisync.drop.report import UNREADABLE, DroppedInput, FolderReport
from ocisync.drop.watcher import DropWatcher
from ocisync.errors import OcisyncError
from ocisync.state.rule_records import RuleStatus, RuleView

PAGE = "/index.html"  # the page to browse the registry
_FRESH = 1.0  # seconds for which a snapshot is shown again, so that many readers cost one

log = structlog.get_logger()


class Fleet(Protocol):
    """Other daemons that share the work: what is asked for is on record when a call returns."""

    async def trigger(self, rule: str, tag: str, repository: str) -> bool:
        """Make a rule run now, or look at one tag or repository; False when the rule does not select that."""
        ...

    async def accept(self, pushes: Sequence[Push]) -> Sequence[str]:
        """Have looked at what was pushed; the rules that will."""
        ...

    async def refresh(self) -> bool:
        """Look at how all daemons fare now; whether that could be seen."""
        ...

    def other_jobs(self) -> Sequence[tuple[str, RunningJob]]:
        """What other daemons run, with their names."""
        ...

    async def failures(self, rules: Collection[str]) -> Sequence[FailureNow]:
        """What fails of these rules, the newest first."""
        ...

    def waiting(self) -> Mapping[str, int]:
        """How much of each rule waits."""
        ...


@dataclass(slots=True)
class DaemonView:
    """The daemon, seen from its pages."""

    service: Service[Config]
    dispatcher: PushDispatcher
    activity: Activity
    failures: Failures
    history: History
    shared: Fleet | None = None  # where other daemons may do what is asked for
    _last: Snapshot | None = None
    _drops: Sequence[FolderNow] = ()
    _lock: anyio.Lock = field(default_factory=anyio.Lock)

    def not_ready(self) -> Sequence[str]:
        """Why the daemon cannot be relied on now."""
        if self.service.is_stopping:
            return ("it is stopping",)
        return () if self.service.generation else ("it is starting",)

    def failed_parts(self) -> Sequence[str]:
        """What a defect ended, until it is started again."""
        return self.service.supervisor.failed_parts()

    async def snapshot(self) -> Snapshot:
        """The daemon now; at most `_FRESH` seconds old."""
        async with self._lock:
            if self._last is None or abs(time.time() - self._last.now) > _FRESH:
                self._last = await self._look()
            return self._last

    def rule_views(self) -> Mapping[str, RuleView]:
        """How every sync rule fares."""
        return self.service.generation.scheduler.views() if self.service.generation else {}

    def skipped_files(self) -> Mapping[str, int]:
        """How many files in each drop folder are left alone."""
        return self.service.generation.skipped_files() if self.service.generation else {}

    async def trigger(self, rule: str, tag: str = "", repository: str = "") -> bool:
        """Make a sync rule run now, or look at one tag or repository."""
        if self.service.generation is None:
            return False
        self._last = None
        if self.shared is not None:
            return await self.shared.trigger(rule, tag, repository)
        if tag or repository:
            return self.dispatcher.ask(rule, tag, repository)
        return self.service.generation.scheduler.trigger(rule)

    def webhooks(self) -> Mapping[str, Webhook]:
        """The senders of the present configuration."""
        return {
            name: Webhook(hook.type, hook.secret.get_secret_value(), hook.registry or "")
            for name, hook in self.service.config.webhooks.items()
        }

    async def accept(self, pushes: Sequence[Push]) -> Sequence[str]:
        """Have looked at what was pushed."""
        return self.dispatcher.accept(pushes) if self.shared is None else await self.shared.accept(pushes)

    async def _look(self) -> Snapshot:
        generation, config = self.service.generation, self.service.config
        troubles = (*self.not_ready(), *self.failed_parts())
        page = PAGE if config.daemon.serve else ""
        if generation is None:
            return Snapshot(time.time(), troubles=troubles, page_of_registry=page)
        # While the state cannot be reached, the pages tell what was seen last: each question to it takes long to fail.
        is_seen = self.shared is None or await self.shared.refresh()
        if self.shared is not None and is_seen:
            await self.history.reload()
        queue = generation.queue
        waiting = self.shared.waiting() if self.shared else queue.waiting()
        now, rules = time.time(), _list_rules(generation, config, self.dispatcher.list_busy(), waiting)
        if is_seen:
            self._drops = [await _report(watcher) for watcher in generation.watchers]
        drops = self._drops
        return Snapshot(
            now,
            rules,
            drops,
            [*_list_jobs(generation, self.activity.running()), *self._list_others()],
            await self._list_failures([rule.name for rule in rules], [drop.name for drop in drops], is_seen=is_seen),
            self.history.last_day(),
            troubles,
            waiting,
            _name_jobs(queue.running),
            _name_jobs(queue.stalled),
            page,
        )

    def _list_others(self) -> list[JobNow]:
        others = self.shared.other_jobs() if self.shared else ()
        return [JobNow(job, daemon=name) for name, job in others]

    async def _list_failures(
        self, rules: Sequence[str], drops: Sequence[str], *, is_seen: bool
    ) -> Sequence[FailureNow]:
        """What fails; where work is shared, what is on record of it, for another daemon may have mended it since."""
        if self.shared is None or not is_seen:
            return self.failures.list_newest({*rules, *drops})
        found = [*self.failures.list_newest(drops), *await self.shared.failures(rules)]
        return sorted(found, key=lambda one: -one.at)


def _list_rules(
    generation: Generation, config: Config, busy: Collection[str], waiting: Mapping[str, int]
) -> list[RuleNow]:
    settings = {rule.name: rule for rule in config.sync}
    found = []
    for name, view in generation.scheduler.views().items():
        rule = settings.get(name)
        source = str(rule.source) if rule else ""
        targets = tuple(map(str, rule.target)) if rule else (name.partition(" ")[2],)
        limit = view.lag_limit(config.daemon.late_after)
        if name in busy:  # a part of it was asked for
            view = replace(view, is_wanted=True)
        found.append(RuleNow(name, source, targets, view, waiting.get(name, 0), limit))
    return found


async def _report(watcher: DropWatcher) -> FolderNow:
    rule = watcher.rule
    targets = tuple("/".join(filter(None, (one.target, one.prefix))) for one in rule.targets)
    try:
        report = await watcher.report()
    except OcisyncError as exc:  # the state cannot be read
        problem = DroppedInput(str(rule.path), UNREADABLE, exc.message, exc.code)
        report = FolderReport(RuleStatus(), (problem,))
    return FolderNow(rule.name, str(rule.path), targets, report)


def _list_jobs(generation: Generation, running: Sequence[RunningJob]) -> list[JobNow]:
    """Each running job, with what its host lets it wait for."""
    reasons = {(job.rule, _target_of(job)): generation.queue.explain_stall(job) for job in generation.queue.running}
    return [JobNow(one, reasons.get((one.rule, one.target), "")) for one in running]


def _target_of(job: AnyJob) -> str:
    return job.report().target


def _name_jobs(jobs: Iterable[AnyJob]) -> list[str]:
    return [f"{job.rule}: {job.lock_name}" for job in jobs]
